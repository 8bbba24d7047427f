//! Packet counts of one flow, over all connections that use it: a server's socket carries many.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use ebpf_congestion_signals::LocalCongestion;

use crate::law::{Check, Observed, Sent};

/// Sums over the controllers of one flow.
#[derive(Debug, Default)]
pub(crate) struct FlowTotals {
    controllers: AtomicU32,
    /// Packets sent, comparable with the source's counter of observed packets.
    sent_packets: AtomicU64,
    /// Half of the packets that were last given up as never observed, less those observed since in
    /// excess of what was sent: at 0 the source had only been late.
    forgotten: AtomicU64,
    late: AtomicBool,
    /// The source's drop counter up to which a controller has reacted.
    drops_answered: AtomicU64,
}

impl FlowTotals {
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

    /// Controllers that use this flow, at least one.
    pub(crate) fn controllers(&self) -> u64 {
        u64::from(self.controllers.load(Ordering::Relaxed)).max(1)
    }

    /// Counts datagrams that are about to be sent, before which the source had observed so many
    /// packets.
    pub(crate) fn on_sent(&self, count: u64, observed: u64) -> Sent {
        let before = self.sent_packets.fetch_add(count, Ordering::Relaxed);
        Sent {
            packets: before.wrapping_add(count),
            missing: before.saturating_sub(observed),
        }
    }

    /// Packets that were sent and not yet observed.
    pub(crate) fn unobserved(&self, observed: u64) -> u64 {
        self.sent_packets
            .load(Ordering::Relaxed)
            .saturating_sub(observed)
    }

    /// What was observed was sent: this includes what quinn does not report (its MTU probes).
    pub(crate) fn on_observed(&self, observed: u64) {
        if observed <= self.sent_packets.load(Ordering::Relaxed) {
            return;
        }
        let sent = self.sent_packets.fetch_max(observed, Ordering::Relaxed);
        let more = observed.saturating_sub(sent);
        if more > 0 {
            let less = |forgotten: u64| (forgotten > 0).then(|| forgotten.saturating_sub(more));
            let relaxed = Ordering::Relaxed;
            if self
                .forgotten
                .fetch_update(relaxed, relaxed, less)
                .is_ok_and(|left| left <= more)
            {
                self.late.store(true, relaxed);
            }
        }
    }

    /// Updates the totals: whether what was acknowledged had been observed.
    pub(crate) fn on_check(&self, check: Check) {
        match check {
            Check::Observed => self.late.store(false, Ordering::Relaxed),
            Check::ObservedBut(lost) => {
                self.forget(lost);
                self.forgotten.store(lost.div_ceil(2), Ordering::Relaxed);
            }
            Check::NotObserved => {}
        }
    }

    /// What the source has observed, given its counter.
    pub(crate) fn observed(&self, packets: u64) -> Observed {
        Observed {
            packets,
            missing: self.unobserved(packets),
            late: self.late.load(Ordering::Relaxed),
        }
    }

    /// Subtracts packets that will never be observed: the kernel refused them, or dropped them where
    /// the source has no probe.
    pub(crate) fn forget(&self, packets: u64) {
        let less = |sent: u64| Some(sent.saturating_sub(packets));
        let _ = self
            .sent_packets
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Claims the drops up to `counted` for the caller; false when another controller of the flow
    /// has. The source does not know which connection of a shared socket a dropped datagram was of:
    /// one of them reacts, not all.
    pub(crate) fn answer_drops(&self, counted: u64) -> bool {
        self.drops_answered.fetch_max(counted, Ordering::Relaxed) < counted
    }
}

/// Packets that the source has observed; 0 from a source that does not count them, which is then
/// not trusted.
pub(crate) fn observed_packets(sample: &LocalCongestion) -> u64 {
    sample.seen_packets().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_and_not_observed_is_on_its_way() {
        let flow = FlowTotals::new(100, 0);
        flow.on_sent(3, 100);
        assert_eq!(flow.unobserved(100), 3);
        assert_eq!(flow.unobserved(102), 1);
        // More was observed than the controllers sent: the connection's MTU probes.
        flow.on_observed(110);
        assert_eq!(flow.unobserved(110), 0);
        flow.on_sent(1, 110);
        assert_eq!(flow.unobserved(110), 1);
    }

    #[test]
    fn what_never_will_be_observed_is_forgotten() {
        let flow = FlowTotals::new(100, 0);
        let sent = flow.on_sent(10, 100);
        assert_eq!((sent.packets, sent.missing), (110, 0));
        assert_eq!(flow.on_sent(1, 107).missing, 3);
        flow.forget(3);
        assert_eq!(flow.unobserved(107), 1);
        // Two controllers forget the same packets: the next sample puts it right.
        flow.forget(1_000);
        flow.on_observed(108);
        assert_eq!(flow.unobserved(108), 0);
    }

    #[test]
    fn a_source_is_late_while_it_reports_what_was_forgotten() {
        let flow = FlowTotals::new(0, 0);
        flow.on_sent(10, 0);
        flow.on_check(Check::ObservedBut(10));
        flow.on_observed(4);
        assert!(!flow.observed(4).late, "others may have sent them");
        flow.on_observed(5);
        assert!(flow.observed(5).late);
        flow.on_check(Check::NotObserved);
        assert!(flow.observed(5).late);
        flow.on_check(Check::Observed);
        flow.on_observed(100);
        assert!(!flow.observed(100).late);
    }

    #[test]
    fn one_of_several_controllers_answers_a_drop() {
        let flow = FlowTotals::new(0, 5);
        assert!(!flow.answer_drops(5));
        assert!(flow.answer_drops(7));
        assert!(!flow.answer_drops(7));
        assert!(flow.answer_drops(8));
    }
}
