//! The link that a driven controller sends to, and what is ordered for it.

use ebpf_congestion_signals::QueueId;

/// The queue as it is.
#[derive(Clone, Copy, Default)]
pub(super) struct Link {
    pub(super) queue: Option<QueueId>,
    pub(super) own: u64,
    pub(super) others: u64,
    pub(super) drained: u64,
    pub(super) observed: u64,
    pub(super) drops: u64,
    pub(super) to_drop: u64,
    pub(super) taken: u64,
    pub(super) to_take: u64,
    pub(super) limit: Option<u64>,
}

impl Link {
    /// Bytes that the queue still takes.
    fn room(&self) -> u64 {
        let inside = self.own + self.others;
        self.limit
            .map_or(u64::MAX, |limit| limit.saturating_sub(inside))
    }

    /// A batch of so many datagrams comes, each of so many bytes on the wire.
    pub(super) fn enter(&mut self, batch: u64, datagram: u64) {
        let taken = batch.min(self.to_take);
        self.to_take -= taken;
        self.taken += taken;
        let entering = batch - taken;
        let ordered = entering.min(self.to_drop);
        self.to_drop -= ordered;
        let dropped = ordered.max(entering.saturating_sub(self.room() / datagram));
        self.drops += dropped;
        self.observed += entering;
        self.own += (entering - dropped) * datagram;
    }

    /// It takes so many bytes out of the queue, of this flow first.
    pub(super) fn drain(&mut self, bytes: u64) {
        let total = self.own + self.others;
        self.own = self.own.saturating_sub(bytes);
        if total > 0 && bytes >= total {
            self.others = 0;
            self.drained += 1;
        }
    }
}
