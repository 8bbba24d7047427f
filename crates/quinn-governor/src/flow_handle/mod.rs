//! A controller's handle of the flow whose signals it uses.

mod signals;

use std::sync::Arc;
use std::time::Instant;

use ebpf_congestion_signals::{LocalCongestion, QueueId, Watch};

use self::signals::others_in;

use crate::flow::WatchedFlow;
use crate::law::{Others, Signals};
use crate::mechanism::Mechanism;
use crate::queue_limit::{QueueLimit, Sharing};
use crate::report::Counters;
use crate::shared::Shared;
use crate::time::Time;

/// The flow whose signals a controller uses, and what it is counted in there.
pub(crate) struct FlowHandle {
    shared: Arc<Shared>,
    flow: Option<Arc<WatchedFlow>>,
    /// Counted among the flow's controllers. Not before it sends: copies of a controller are also
    /// made for reading its state.
    joined: bool,
    /// Its entry among the connections that want to send more into a queue.
    sharing: Sharing,
    /// Packets of the flow that a local queue had dropped at the last sample. The source's counter.
    counted_drops: u64,
    /// Of these, the ones that may reduce this controller's window. None while peers of the socket
    /// have flows of their own: most drops are theirs, and reduce their windows.
    drops: u64,
    /// The queue at the last sample, and what its kind says of others' packets in it.
    queue: Option<QueueId>,
    others: Others,
    /// Others in the same tree of queues are in front of the flow.
    behind_others: bool,
}

impl FlowHandle {
    pub(crate) fn new(shared: Arc<Shared>, flow: Option<Arc<WatchedFlow>>) -> Self {
        let counted_drops = flow.as_deref().map_or(0, counted_drops);
        Self {
            shared,
            flow,
            joined: false,
            sharing: Sharing::default(),
            counted_drops,
            drops: 0,
            queue: None,
            others: Others::default(),
            behind_others: false,
        }
    }

    /// For a copy of the controller.
    pub(crate) fn copy(&self) -> Self {
        let mut copy = Self::new(Arc::clone(&self.shared), self.flow.clone());
        (copy.counted_drops, copy.drops) = (self.counted_drops, self.drops);
        copy
    }

    fn has(&self, mechanism: Mechanism) -> bool {
        self.shared.config.has(mechanism)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The time as the law counts it.
    #[inline]
    pub(crate) fn time(&self, at: Instant) -> Time {
        self.shared.state.time(at)
    }

    pub(crate) fn watch(&self) -> Option<&Watch> {
        self.flow.as_ref().map(|flow| &flow.watch)
    }

    pub(crate) fn watched(&self) -> Option<&WatchedFlow> {
        self.flow.as_deref()
    }

    /// Uses another flow from now on.
    pub(crate) fn change_flow(&mut self, flow: Arc<WatchedFlow>) {
        let joined = self.joined;
        self.leave();
        self.counted_drops = counted_drops(&flow);
        self.flow = Some(flow);
        if joined {
            self.join();
        }
    }

    /// Counts this controller among the flow's from now on.
    #[inline]
    pub(crate) fn join(&mut self) {
        if !self.joined {
            self.join_first();
        }
    }

    #[cold]
    fn join_first(&mut self) {
        self.joined = true;
        if let Some(flow) = &self.flow {
            flow.join();
        }
        self.count(Counters::controller_built);
    }

    fn leave(&mut self) {
        self.leave_queue();
        if self.joined {
            self.count(Counters::controller_gone);
            if let Some(flow) = &self.flow {
                flow.leave();
            }
        }
        self.joined = false;
    }

    /// The connection wants to send more into this queue than its `rate`, bytes a second.
    pub(crate) fn enter_queue(&mut self, queue: usize, rate: u64) {
        self.sharing.enter(&self.shared.state.queues, queue, rate);
    }

    pub(crate) fn leave_queue(&mut self) {
        self.sharing.leave(&self.shared.state.queues);
    }

    /// Counts for the flow and in the sums over all flows.
    pub(crate) fn count(&self, count: impl Fn(&Counters)) {
        match &self.flow {
            Some(flow) => flow.count(count),
            None => count(&self.shared.sums),
        }
    }

    pub(crate) fn queue(&self, index: usize) -> &QueueLimit {
        &self.shared.state.queues[index]
    }

    /// The queue at the last sample.
    pub(crate) fn last_queue(&self) -> Option<&QueueLimit> {
        self.queue.map(|queue| self.queue(queue.index()))
    }

    /// Updates the drops, and the queue's kind where the queue is another than before. Call it before
    /// [`FlowHandle::signals_of`] for the law, with whether the flow waits behind others in the same
    /// tree of queues.
    pub(crate) fn update(&mut self, sample: &LocalCongestion, behind_others: bool) {
        self.behind_others = behind_others;
        let Some(flow) = &self.flow else {
            return;
        };
        let counted = sample.queue_drops.unwrap_or_default();
        if !flow.has_peers() {
            let more = counted.saturating_sub(self.counted_drops);
            self.drops = self.drops.saturating_add(more);
        }
        self.counted_drops = counted.max(self.counted_drops);
        let queue = sample.queue.map(|queue| queue.id);
        if queue != self.queue {
            self.queue = queue;
            self.others = others_in(flow.watch.sample().queue.as_ref());
            if let Some(queue) = queue {
                self.queue(queue.index()).set_generation(queue.generation());
            }
        }
    }

    /// The flow's drops at the last sample, as the source counts them.
    pub(crate) fn counted_drops(&self) -> u64 {
        self.counted_drops
    }

    /// Updates the queue's own record with a sample that the law takes next.
    pub(crate) fn on_sample(&self, signals: &Signals) {
        if let Some(queue) = signals
            .queue
            .filter(|queue| queue.others != Others::Counted)
        {
            self.queue(queue.id).on_level(queue.shared);
        }
    }
}

fn counted_drops(flow: &WatchedFlow) -> u64 {
    flow.watch.congestion().queue_drops.unwrap_or_default()
}

impl Drop for FlowHandle {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use ebpf_congestion_signals::{
        Direction, DropClass, DropCounters, MockFlow, MockSource, SignalSource, WatchTarget,
    };

    use super::*;
    use crate::config::GovernorConfig;

    fn drop_one(flow: &MockFlow) {
        let one = DropCounters {
            skbs: 1,
            packets: 1,
            bytes: 1242,
        };
        flow.drop_packets(Direction::Egress, DropClass::QueueFull, "QDISC_DROP", one);
    }

    #[test]
    fn drops_of_peers_with_own_flows_are_not_counted_for_controllers_of_the_socket_flow() {
        let source = Arc::new(MockSource::new());
        let shared = Shared::new(Arc::clone(&source) as _, GovernorConfig::default());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = WatchTarget::socket(&socket);
        let whole = shared.flow(target.sharing()).unwrap();
        let socket_flow = source.flow(source.watch(target).unwrap().id()).unwrap();
        let remote = ([192, 0, 2, 1], 443).into();
        let peer = shared.peer(target.peer(remote), Some(Arc::clone(&whole)));
        let mut handle = FlowHandle::new(Arc::clone(&shared), Some(whole));
        let mut drops = || {
            let sample = handle.watch().unwrap().congestion();
            handle.update(&sample, false);
            handle.signals(1200).unwrap().drops
        };
        let before = drops();
        drop_one(&socket_flow);
        assert_eq!(drops(), before);
        // The peer's flow has ended; the drops from before are not counted afterwards either.
        drop(peer);
        assert_eq!(drops(), before);
        drop_one(&socket_flow);
        assert_eq!(drops(), before + 1);
    }
}
