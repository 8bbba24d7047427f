//! When the cap may limit a sender, and when it ends.

use super::standing::{Standing, least_time};
use super::{CapEffects, Law, Mode, Occasion, QueueSignals};
use crate::mechanism::Mechanism;
use crate::time::{Span, Time};

impl Law {
    /// Whether a sender that the cap limits is woken before the link runs idle: by acknowledgements,
    /// which do not arrive right after a pause. Competing traffic in the queue keeps the link busy.
    pub(super) fn may_limit(&self, queue: &QueueSignals) -> bool {
        self.ack_clock || queue.total > queue.own || !self.has(Mechanism::AckClock)
    }

    /// Whether the queue ran empty while the cap limited sending, which calls for a higher limit.
    /// Also ends the cap when the queue ran empty and does not limit this sender: sending was not
    /// limited for two round trips (after an overflow that shows nothing), or the application paused
    /// until nothing was in flight (which is not so after a processor was unavailable).
    pub(super) fn update_hold(
        &mut self,
        now: Time,
        queue: &QueueSignals,
        effects: CapEffects,
        occasion: Occasion,
    ) -> bool {
        let tuning = self.tuning();
        let wants_more = occasion == Occasion::Acks { app_limited: false };
        if let Some(drained) = effects.limited_at
            && wants_more
        {
            self.last_limited = Some((now, queue.drained));
            return queue.drained > drained;
        }
        if let Some((held, drained)) = self.last_limited
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
                self.release(now);
            }
        }
        false
    }

    /// Releases the cap: it grows with acknowledgements, from what was recently in flight. Returns
    /// whether it was in force.
    pub(super) fn release(&mut self, now: Time) -> bool {
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
        self.min_in_flight = 0;
        self.standing = Standing::default();
        engaged
    }

    /// Whether the queue overflowed recently.
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
