//! Whether the queue is a bottleneck: whether it has a standing backlog, or runs empty between bursts.

use super::constants::{PACER_BURST, PACER_BURST_DATAGRAMS, Tuning, WIRE_OVERHEAD};
use super::signals::{Others, QueueSignals};
use crate::time::{Span, Time};

/// For how long the queue has not run empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    queue: usize,
    drained: u64,
    busy: Option<Busy>,
    /// When it last had a standing backlog, or the first sample.
    last_standing: Option<Time>,
}

/// A time in which the queue did not run empty.
#[derive(Clone, Copy, Debug)]
struct Busy {
    since: Time,
    /// What was in it at the first sample.
    first: u64,
}

impl Standing {
    /// Updates with a sample. Returns whether the queue has a standing backlog: it has not run empty
    /// for some time, nor become shorter. A burst makes a queue too, but one that becomes shorter.
    pub(crate) fn update(
        &mut self,
        now: Time,
        queue: &QueueSignals,
        srtt: Span,
        tuning: &Tuning,
    ) -> bool {
        if self.queue != queue.id || self.drained != queue.drained || queue.total == 0 {
            self.queue = queue.id;
            self.drained = queue.drained;
            self.busy = None;
        }
        if queue.total == 0 {
            self.last_standing.get_or_insert(now);
            return false;
        }
        let first = Busy {
            since: now,
            first: queue.total,
        };
        let busy = self.busy.get_or_insert(first);
        let time = now.since(busy.since);
        let least = least_time(tuning);
        if time >= least {
            self.last_standing = Some(now);
        }
        time >= srtt.clamp(least, Span::of(tuning.standing_max)) && queue.total >= busy.first
    }

    /// For how long the queue has had no standing backlog.
    pub(crate) fn idle(&self, now: Time) -> Span {
        self.last_standing
            .map(|last_standing| now.since(last_standing))
            .unwrap_or_default()
    }

    /// For how long the queue has not run empty.
    pub(crate) fn time(&self, now: Time) -> Span {
        self.busy
            .map(|busy| now.since(busy.since))
            .unwrap_or_default()
    }
}

/// The shortest time that counts, a quarter of the longest: what is shorter depends on timers and
/// schedulers, not on the queue.
pub(crate) fn least_time(tuning: &Tuning) -> Span {
    Span::of(tuning.standing_max) / 4
}

/// Whether competing traffic keeps the queue from running empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Competing {
    /// Not known yet: the queue has not been observed for long enough.
    #[default]
    Unknown,
    /// No: the queue runs empty from time to time.
    No,
    /// Yes.
    Yes,
}

/// Follows whether competing traffic keeps the queue from running empty.
///
/// Governed flows of other processes, and bursts, let the queue run empty from time to time. Three or
/// more processes that match each other's backlog would continue for ever. So competing traffic is
/// matched only after the queue has not run empty for some time, and for some time after that,
/// because a TCP flow that has just reduced lets the queue run empty as well. Until that time has
/// passed for the first time, a new flow matches what it finds: else it would have next to nothing
/// of the link for as long, which is longer than most transfers take.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CompetingTraffic {
    /// When the queue had last not run empty for that long; while that is not known, the first sample.
    at: Option<Time>,
    state: Competing,
}

impl CompetingTraffic {
    /// Updates with the time for which the queue has not run empty.
    pub(crate) fn update(&mut self, now: Time, standing: Span, tuning: &Tuning) {
        let competing_time = Span::of(tuning.competing_time);
        let lasts = match self.state {
            Competing::Unknown => competing_time,
            Competing::Yes | Competing::No => competing_time.times(2),
        };
        if standing >= competing_time {
            self.at = Some(now);
            self.state = Competing::Yes;
        } else if now.since(*self.at.get_or_insert(now)) >= lasts {
            self.state = Competing::No;
        }
    }

    /// Whether it does.
    pub(crate) fn state(&self) -> Competing {
        self.state
    }
}

/// Whether the flow waits behind traffic that the source does not count.
///
/// Where a source knows only the flow's own backlog, or the queue has classes, others can be in front
/// of the flow without being counted. If a flow's backlog is within its limit, and still waits longer
/// than it would on a link of its own, competing traffic is in front: the cap would starve the flow
/// then. Where others are counted, but may be in other classes, they are matched from then on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UnobservedOthers {
    since: Option<Time>,
    until: Option<Time>,
}

impl UnobservedOthers {
    /// Updates with a sample. Returns whether the flow may be capped. `rate` is its sending rate, bytes
    /// a second.
    pub(crate) fn may_cap(
        &mut self,
        now: Time,
        queue: &QueueSignals,
        rate: impl FnOnce() -> u64,
        tuning: &Tuning,
    ) -> bool {
        let in_classes = queue.others == Others::Classes;
        if queue.others != Others::Unknown && !in_classes {
            return true;
        }
        if self.is_active(now) {
            return in_classes;
        }
        let own = u128::from(queue.own_flow);
        let longest = u128::from(Span::of(tuning.standing_max).micros());
        if own == 0 {
            return true;
        }
        let waits =
            queue.own_flow <= queue.limit && own * 1_000_000 > longest * u128::from(rate().max(1));
        if !waits {
            self.since = None;
        } else {
            let since = *self.since.get_or_insert(now);
            if now.since(since) >= Span::of(tuning.competing_time) {
                *self = Self {
                    since: None,
                    until: Some(now + tuning.overflow_memory),
                };
                return in_classes;
            }
        }
        true
    }

    /// Whether the flow was found to wait behind others.
    pub(crate) fn is_active(&self, now: Time) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// Whether the flow has more in the queue than bursts of the pacer explain.
pub(crate) fn outgrows_bursts(
    queue: &QueueSignals,
    window: u64,
    mtu: u64,
    srtt: Span,
    tuning: &Tuning,
) -> bool {
    let exceeds = |burst: u64| queue.own_flow > burst.saturating_mul(tuning.outgrown_bursts);
    // Mostly it is below the smallest bursts: this avoids the division.
    exceeds(PACER_BURST_DATAGRAMS * (mtu + WIRE_OVERHEAD)) && {
        let (burst, srtt) = (PACER_BURST.as_nanos(), u128::from(srtt.nanos()));
        let paced = u128::from(window) * 5 / 4 * burst / srtt.max(1);
        exceeds(u64::try_from(paced).unwrap_or(u64::MAX))
    }
}

/// Whether the queue is so full that a window which doubles in a round trip may overflow it in the
/// next.
pub(crate) fn is_half_full(queue: &QueueSignals) -> bool {
    queue.room.is_some_and(|room| room < queue.total)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flow_that_waits_behind_unobserved_traffic_is_not_capped_for_some_time() {
        let tuning = &Tuning::STANDARD;
        let now = Time::ORIGIN;
        let queue = QueueSignals {
            own_flow: 5_000,
            limit: 6_000,
            others: Others::Unknown,
            ..QueueSignals::default()
        };
        let mut others = UnobservedOthers::default();
        // Its backlog takes 2.5 ms, then 25 ms.
        assert!(others.may_cap(now, &queue, || 2_000_000, tuning));
        assert!(others.may_cap(now, &queue, || 200_000, tuning));
        let later = now + tuning.competing_time;
        assert!(!others.may_cap(later, &queue, || 200_000, tuning));
        assert!(!others.may_cap(later, &queue, || 2_000_000, tuning));
        let later = later + tuning.overflow_memory;
        assert!(others.may_cap(later, &queue, || 2_000_000, tuning));
        // Others in other classes are matched from then on, and the flow is still capped.
        let classes = QueueSignals {
            others: Others::Classes,
            ..queue
        };
        let mut others = UnobservedOthers::default();
        assert!(others.may_cap(now, &classes, || 200_000, tuning));
        assert!(!others.is_active(now));
        let waited = now + tuning.competing_time;
        assert!(others.may_cap(waited, &classes, || 200_000, tuning));
        assert!(others.is_active(waited));
        let counted = QueueSignals {
            others: Others::Counted,
            ..queue
        };
        assert!(others.may_cap(later, &counted, || 1, tuning));
    }

    #[test]
    fn competing_traffic_counts_once_the_queue_has_a_standing_backlog_and_for_some_time_after() {
        let tuning = &Tuning::STANDARD;
        let now = Time::ORIGIN;
        let time = Span::of(tuning.competing_time);
        let mut competing = CompetingTraffic::default();
        competing.update(now, time / 2, tuning);
        assert_eq!(competing.state(), Competing::Unknown);
        competing.update(now, time, tuning);
        assert_eq!(competing.state(), Competing::Yes);
        competing.update(now + tuning.competing_time, Span::default(), tuning);
        assert_eq!(competing.state(), Competing::Yes);
        competing.update(now + 2 * tuning.competing_time, Span::default(), tuning);
        assert_eq!(competing.state(), Competing::No);
    }

    #[test]
    fn a_queue_is_half_full_where_its_limit_is_known() {
        let queue = |total, room| QueueSignals {
            total,
            room,
            ..QueueSignals::default()
        };
        assert!(is_half_full(&queue(51_000, Some(49_000))));
        assert!(!is_half_full(&queue(49_000, Some(51_000))));
        assert!(!is_half_full(&queue(51_000, None)));
    }

    #[test]
    fn more_than_two_bursts_of_the_pacer_count_as_a_backlog() {
        let queue = |own_flow| QueueSignals {
            id: 0,
            own: own_flow,
            own_flow,
            shared: own_flow,
            total: own_flow,
            others: Others::Counted,
            drained: 0,
            room: None,
            limit: 6_000,
            boost: 0,
            others_share: 0,
            mean_rate: 0,
        };
        let srtt = Span::of(Duration::from_millis(20));
        // 5/4 of 400 kB a round trip is 50 kB in 2 ms.
        let outgrows =
            |bytes| outgrows_bursts(&queue(bytes), 400_000, 1200, srtt, &Tuning::STANDARD);
        assert!(!outgrows(100_000));
        assert!(outgrows(100_001));
        // Ten datagrams at least, with their headers.
        let outgrows =
            |bytes| outgrows_bursts(&queue(bytes), 10_000, 1200, srtt, &Tuning::STANDARD);
        assert!(!outgrows(2 * 10 * 1262));
        assert!(outgrows(2 * 10 * 1262 + 1));
    }
}
