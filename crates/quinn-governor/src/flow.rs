//! What controllers of one watched flow share: a server's socket carries many connections.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use crate::law::constants::Tuning;

/// Sums over the controllers of one flow.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    controllers: AtomicU32,
    /// Payload bytes sent: positions in the flow's stream.
    sent_bytes: AtomicU64,
    /// Packets sent, on the scale of the source's counter of observed packets.
    sent_packets: AtomicU64,
    /// The source's drop counter up to which somebody has reacted.
    drops_answered: AtomicU64,
}

/// Where a flow stands after a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// Packets sent, on the scale of the source's counter of observed packets.
    pub(crate) packets: u64,
    /// The end of the flow's stream of payload bytes.
    pub(crate) position: u64,
}

impl Flow {
    pub(crate) fn new(observed: u64, drops: u64) -> Self {
        Self {
            sent_packets: AtomicU64::new(observed),
            drops_answered: AtomicU64::new(drops),
            ..Self::default()
        }
    }

    pub(crate) fn join(&self) {
        self.controllers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.controllers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether more than one controller sends here.
    pub(crate) fn is_shared(&self) -> bool {
        self.controllers.load(Ordering::Relaxed) > 1
    }

    /// Counts a batch of datagrams.
    pub(crate) fn on_sent(&self, bytes: u64, mtu: u64) -> Sent {
        let count = bytes.div_ceil(mtu.max(1));
        let packets = self.sent_packets.fetch_add(count, Ordering::Relaxed);
        let position = self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        Sent {
            packets: packets.wrapping_add(count),
            position: position.wrapping_add(bytes),
        }
    }

    /// The end of the flow's stream.
    pub(crate) fn position(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Packets that were sent and not yet observed.
    pub(crate) fn unobserved(&self, observed: u64) -> u64 {
        self.sent_packets
            .load(Ordering::Relaxed)
            .saturating_sub(observed)
    }

    /// What was observed was sent, whoever sent it (quinn does not tell of its MTU probes).
    pub(crate) fn on_observed(&self, observed: u64) {
        self.sent_packets.fetch_max(observed, Ordering::Relaxed);
    }

    /// Forgets packets that will never be observed.
    pub(crate) fn forget(&self, packets: u64) {
        self.sent_packets.fetch_sub(packets, Ordering::Relaxed);
    }

    /// Claims the drops up to `counted` for the caller; false when another controller of the flow
    /// did. The source cannot tell whose datagram of a shared socket was dropped: one of them
    /// reacts, not all.
    pub(crate) fn answer_drops(&self, counted: u64) -> bool {
        self.drops_answered.fetch_max(counted, Ordering::Relaxed) < counted
    }
}

/// Finds packets that left the sender and are never observed: a firewall's rule took them, or the
/// send failed. They would count as on their way to the queue forever.
///
/// When a datagram is acknowledged, all that the flow sent before it has passed the observer, or
/// never will; or the observer tells of it later than acknowledgements do. The latter would have
/// most of a round trip's packets missing, so much is not forgotten.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leak {
    mark: Option<(u64, Instant)>,
    last: u64,
}

impl Leak {
    /// A batch was sent.
    pub(crate) fn on_sent(&mut self, now: Instant, sent: Sent) {
        self.mark.get_or_insert((sent.packets, now));
        self.last = sent.packets;
    }

    /// A datagram that was sent at `sent` was acknowledged; how many packets before it will never
    /// be observed. Asks for what was observed about once a round trip.
    pub(crate) fn on_ack(
        &mut self,
        sent: Instant,
        observed: impl FnOnce() -> u64,
        tuning: &Tuning,
    ) -> u64 {
        let Some((packets, _)) = self.mark.take_if(|(_, marked)| sent >= *marked) else {
            return 0;
        };
        let missing = packets.saturating_sub(observed());
        let in_round = self.last.saturating_sub(packets);
        if missing <= (in_round / tuning.leak_divisor).max(1) {
            missing
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_sent_and_not_observed_is_on_its_way() {
        let flow = Flow::new(100, 0);
        flow.on_sent(2_500, 1200);
        assert_eq!(flow.unobserved(100), 3);
        assert_eq!(flow.unobserved(102), 1);
        // More was observed than the controllers sent: the connection's MTU probes.
        flow.on_observed(110);
        assert_eq!(flow.unobserved(110), 0);
        flow.on_sent(1200, 1200);
        assert_eq!(flow.unobserved(110), 1);
    }

    #[test]
    fn what_was_acknowledged_without_being_observed_is_forgotten() {
        let flow = Flow::new(0, 0);
        let mut leak = Leak::default();
        #[expect(clippy::disallowed_methods, reason = "a zero for virtual time")]
        let now = Instant::now();
        leak.on_sent(now, flow.on_sent(12_000, 1200));
        leak.on_sent(now, flow.on_sent(14_400, 1200));
        // Seven of the first ten were observed before the acknowledgement of the last of them.
        assert_eq!(
            leak.on_ack(now - Duration::from_millis(1), || 7, &Tuning::STANDARD),
            0
        );
        let leaked = leak.on_ack(now, || 7, &Tuning::STANDARD);
        assert_eq!(leaked, 3);
        flow.forget(leaked);
        assert_eq!(flow.unobserved(19), 0);
    }

    #[test]
    fn what_is_told_later_than_acknowledgements_is_not_forgotten() {
        let flow = Flow::new(0, 0);
        let mut leak = Leak::default();
        #[expect(clippy::disallowed_methods, reason = "a zero for virtual time")]
        let now = Instant::now();
        leak.on_sent(now, flow.on_sent(12_000, 1200));
        leak.on_sent(now, flow.on_sent(12_000, 1200));
        assert_eq!(leak.on_ack(now, || 0, &Tuning::STANDARD), 0);
    }

    #[test]
    fn one_of_several_controllers_answers_a_drop() {
        let flow = Flow::new(0, 5);
        assert!(!flow.answer_drops(5));
        assert!(flow.answer_drops(7));
        assert!(!flow.answer_drops(7));
        assert!(flow.answer_drops(8));
    }
}
