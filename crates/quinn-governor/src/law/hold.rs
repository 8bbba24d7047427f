//! When the cap may hold a sender back, and when it ends.

use super::standing::{Standing, least_time};
use super::{Law, Marks, Mode, Occasion, QueueSignals};
use crate::mechanism::Mechanism;
use crate::time::{Span, Time};

impl Law {
    /// Whether a sender that is held back will be woken before the link has nothing to send: by
    /// acknowledgements, which do not come right after a pause. Others in the queue keep it busy.
    pub(super) fn may_hold(&self, queue: &QueueSignals) -> bool {
        self.ack_clock || queue.total > queue.own || !self.has(Mechanism::AckClock)
    }

    /// Follows whether the cap holds anything back: whether the queue ran empty meanwhile, which
    /// asks for a higher limit; and lets go when the queue ran empty and is not what limits this
    /// sender: nothing was held back for two round trips, which proves nothing of a queue that
    /// overflowed lately; or the application paused until nothing was in flight (a processor that was
    /// away makes no such pause).
    pub(super) fn follow_hold(
        &mut self,
        now: Time,
        queue: &QueueSignals,
        marks: Marks,
        occasion: Occasion,
    ) -> bool {
        let tuning = self.tuning();
        let wants_more = occasion == Occasion::Acks { app_limited: false };
        if let Some(drained) = marks.held_by_limit
            && wants_more
        {
            self.last_held = Some((now, queue.drained));
            return queue.drained > drained;
        }
        if let Some((held, drained)) = self.last_held
            && queue.drained != drained
        {
            let time = now.since(held);
            let rounds = self.srtt.times(tuning.unused_rounds);
            let unused = time >= rounds.max(least_time(tuning)) && !self.overflows(now);
            let paused = self.in_flight < self.mtu && self.app_limited && queue.others_share == 0;
            let app_limited = occasion == Occasion::Acks { app_limited: true };
            if !self.has(Mechanism::Ending) {
            } else if paused || unused && app_limited {
                self.mode = Mode::Free;
            } else if unused {
                self.let_go(now);
            }
        }
        false
    }

    /// Lets the cap go, not at once but growing with acknowledgements, from what was in flight
    /// lately. Whether it was in force.
    pub(super) fn let_go(&mut self, now: Time) -> bool {
        let engaged = self.mode == Mode::Engaged;
        if engaged {
            let window = self.in_flight.max(self.rounds.peak());
            self.mode = Mode::Releasing {
                window: window.max(self.least_window()),
                since: now,
            };
            if !self.has(Mechanism::Release) {
                self.mode = Mode::Free;
            }
        }
        self.kept_in_flight = 0;
        self.standing = Standing::default();
        engaged
    }

    /// Whether the queue overflowed lately.
    pub(super) fn overflows(&self, now: Time) -> bool {
        self.has(Mechanism::OverflowMemory)
            && self
                .overflowed
                .is_some_and(|at| self.is_remembered(at, now))
    }

    pub(super) fn is_remembered(&self, at: Time, now: Time) -> bool {
        now.since(at) < Span::of(self.tuning().overflow_memory)
    }
}
