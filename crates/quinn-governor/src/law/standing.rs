//! Whether the queue is a bottleneck: has it a standing backlog, or does it run empty between bursts?

use super::constants::{PACER_BURST, PACER_BURST_DATAGRAMS, Tuning, WIRE_OVERHEAD};
use super::signals::{Others, QueueSignals};
use crate::time::{Span, Time};

/// Follows how long the queue has not run empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    queue: usize,
    drained: u64,
    busy: Option<Busy>,
    /// When it had last not run empty for some time, or the first sample.
    stood: Option<Time>,
}

/// A time in which the queue did not run empty.
#[derive(Clone, Copy, Debug)]
struct Busy {
    since: Time,
    /// What was in it at the first sample.
    first: u64,
}

impl Standing {
    /// Takes note of the queue; whether it has a standing backlog: it has not run empty for a while,
    /// nor become shorter. A burst that is being sent makes a queue too, but one that shrinks.
    pub(crate) fn look(
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
            self.stood.get_or_insert(now);
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
            self.stood = Some(now);
        }
        time >= srtt.clamp(least, Span::of(tuning.standing_max)) && queue.total >= busy.first
    }

    /// For how long the queue has held no more than moments.
    pub(crate) fn idle(&self, now: Time) -> Span {
        self.stood.map(|stood| now.since(stood)).unwrap_or_default()
    }

    /// For how long the queue has not run empty.
    pub(crate) fn time(&self, now: Time) -> Span {
        self.busy
            .map(|busy| now.since(busy.since))
            .unwrap_or_default()
    }
}

/// What is shorter is decided by timers and schedulers, not by the queue: a quarter of the longest.
pub(crate) fn least_time(tuning: &Tuning) -> Span {
    Span::of(tuning.standing_max) / 4
}

/// Whether others keep the queue from ever running empty.
///
/// Flows of other processes that are governed too, and bursts, leave a queue empty now and then.
/// Processes that match each other's backlog do so without end from three on. So others' backlog is
/// matched only after the queue has not run empty for some time; and for some time after that,
/// because a TCP flow that has just reduced leaves a queue empty as well.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Crowd {
    seen: Option<Time>,
    there: bool,
}

impl Crowd {
    /// Takes note of for how long the queue has not run empty.
    pub(crate) fn look(&mut self, now: Time, standing: Span, tuning: &Tuning) {
        let crowd_time = Span::of(tuning.crowd_time);
        if standing >= crowd_time {
            self.seen = Some(now);
        }
        self.there = self
            .seen
            .is_some_and(|at| now.since(at) < crowd_time.times(2));
    }

    /// Whether they do.
    pub(crate) fn is_there(&self) -> bool {
        self.there
    }
}

/// Whether what a source does not count makes the flow wait.
///
/// Where a source knows only what the flow itself has in the queue, or the queue keeps flows apart
/// in a way that it does not know, others can be in front of it unseen. A flow that keeps no more
/// there than its limit, and waits for longer than the queue of a link that is its own would take,
/// has competing traffic in front: it may not be held back then, or it starves. Where others are
/// counted, but may be in other classes, they are matched from then on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unseen {
    since: Option<Time>,
    until: Option<Time>,
}

impl Unseen {
    /// Takes note of a sample; whether the flow may be held back. `rate` is what it sends, bytes a
    /// second.
    pub(crate) fn allows(
        &mut self,
        now: Time,
        queue: &QueueSignals,
        rate: impl FnOnce() -> u64,
        tuning: &Tuning,
    ) -> bool {
        let held = queue.others == Others::Classes;
        if queue.others != Others::Unknown && !held {
            return true;
        }
        if self.is_active(now) {
            return held;
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
            if now.since(since) >= Span::of(tuning.crowd_time) {
                *self = Self {
                    since: None,
                    until: Some(now + tuning.overflow_memory),
                };
                return held;
            }
        }
        true
    }

    /// Whether the flow was found to wait for others.
    pub(crate) fn is_active(&self, now: Time) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// Whether the flow has more in the queue than bursts of the pacer put there.
pub(crate) fn outgrows_bursts(
    queue: &QueueSignals,
    window: u64,
    mtu: u64,
    srtt: Span,
    tuning: &Tuning,
) -> bool {
    let exceeds = |burst: u64| queue.own_flow > burst.saturating_mul(tuning.outgrown_bursts);
    // Mostly it is not even more than the least bursts, and the division is spared.
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
    fn a_flow_that_waits_for_what_is_not_seen_is_let_go_for_a_while() {
        let tuning = &Tuning::STANDARD;
        let now = Time::ORIGIN;
        let queue = QueueSignals {
            own_flow: 5_000,
            limit: 6_000,
            others: Others::Unknown,
            ..QueueSignals::default()
        };
        let mut unseen = Unseen::default();
        // 2.5 ms, and then 25 ms for what it has there.
        assert!(unseen.allows(now, &queue, || 2_000_000, tuning));
        assert!(unseen.allows(now, &queue, || 200_000, tuning));
        let later = now + tuning.crowd_time;
        assert!(!unseen.allows(later, &queue, || 200_000, tuning));
        assert!(!unseen.allows(later, &queue, || 2_000_000, tuning));
        let later = later + tuning.overflow_memory;
        assert!(unseen.allows(later, &queue, || 2_000_000, tuning));
        // Others in other classes are matched from then on, and the flow is held back all the same.
        let classes = QueueSignals {
            others: Others::Classes,
            ..queue
        };
        let mut unseen = Unseen::default();
        assert!(unseen.allows(now, &classes, || 200_000, tuning));
        assert!(!unseen.is_active(now));
        let waited = now + tuning.crowd_time;
        assert!(unseen.allows(waited, &classes, || 200_000, tuning));
        assert!(unseen.is_active(waited));
        let counted = QueueSignals {
            others: Others::Counted,
            ..queue
        };
        assert!(unseen.allows(later, &counted, || 1, tuning));
    }

    #[test]
    fn a_crowd_is_there_once_the_queue_has_stood_and_for_a_while_after_that() {
        let tuning = &Tuning::STANDARD;
        let now = Time::ORIGIN;
        let time = Span::of(tuning.crowd_time);
        let mut crowd = Crowd::default();
        crowd.look(now, time / 2, tuning);
        assert!(!crowd.is_there());
        crowd.look(now, time, tuning);
        assert!(crowd.is_there());
        crowd.look(now + tuning.crowd_time, Span::default(), tuning);
        assert!(crowd.is_there());
        crowd.look(now + 2 * tuning.crowd_time, Span::default(), tuning);
        assert!(!crowd.is_there());
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
    fn more_than_two_bursts_of_the_pacer_are_no_burst() {
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
