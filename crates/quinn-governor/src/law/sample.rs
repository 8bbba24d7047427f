//! What a sample changes.

use super::constants::PACER_BURST;
use super::standing::{is_half_full, outgrows_bursts};
use super::{Base, Decision, Law, Marks, Mode, Occasion, Signals, rate};
use crate::base::BaseKind;
use crate::mechanism::Mechanism;
use crate::time::{Span, Time};

impl Law {
    /// After how long a free connection takes a sample even if nothing has changed since the last
    /// one: an eighth of a round trip, or as long as a burst of the pacer takes.
    pub(crate) fn refresh(&self) -> Span {
        Span::of(PACER_BURST).min(self.srtt / 8)
    }

    /// Acknowledgements begin, and nothing has changed since the last sample.
    pub(crate) fn on_same(&mut self, app_limited: bool) {
        self.app_limited = app_limited;
    }

    /// Takes a sample.
    pub(crate) fn look(
        &mut self,
        now: Time,
        signals: &Signals,
        base: Base,
        marks: Marks,
        occasion: Occasion,
    ) -> Decision {
        let mut decision = Decision::default();
        let last_look = self.last_look.replace(now);
        // A free connection's base is not asked.
        self.may_be_in_slow_start = base.slow_start || self.is_free();
        if marks.capped
            && let Some(last) = last_look
        {
            decision.capped_for = now.since(last);
        }

        let tuning = self.tuning();
        let trusted = signals.live && (self.trust.holds() || !self.has(Mechanism::Trust));
        let dropped = self.local_congestion(now, signals);
        if signals.policy_drops > self.policy_drops_seen && self.has(Mechanism::WholeBatches) {
            self.policy_drops_seen = signals.policy_drops;
            self.ruled_out = Some(now);
        } else {
            self.ruled_out = self.ruled_out.filter(|at| self.is_remembered(*at, now));
        }
        if let Occasion::Acks { app_limited } = occasion {
            self.app_limited = app_limited;
        }

        let engaged_before = self.mode == Mode::Engaged;
        let (in_flight, srtt) = (self.in_flight, self.srtt);
        let holds = signals.queue.as_ref().is_none_or(|queue| {
            let rate = || rate(in_flight, srtt);
            self.unseen.allows(now, queue, rate, tuning)
        }) || !self.config.has(Mechanism::LettingGo);
        match &signals.queue {
            Some(queue) if trusted && holds && self.config.backlog_cap => {
                // In slow start a window is up to twice what is in flight; more of it is not
                // used, and paces nothing.
                let used = base.window.min(self.in_flight.saturating_mul(2));
                let outgrown = outgrows_bursts(queue, used, self.mtu, self.srtt, tuning)
                    && self.has(Mechanism::Outgrown);
                let standing = self.standing.look(now, queue, self.srtt, tuning)
                    || outgrown
                    || !self.has(Mechanism::Standing) && queue.total > 0;
                self.crowd.look(now, self.standing.time(now), tuning);
                self.rounds
                    .look(now, self.in_flight, queue.own, self.srtt, tuning);
                self.most_besides = match self.kind {
                    BaseKind::LossBased if !base.slow_start && self.has(Mechanism::Growth) => {
                        self.rounds.growth(tuning)
                    }
                    _ => u64::MAX,
                };
                let fits = self.rounds.refill(
                    queue,
                    self.in_flight,
                    self.mtu,
                    self.app_limited && self.config.has(Mechanism::PauseRefill),
                    outgrown,
                );
                // A queue that overflows holds no burst of the pacer.
                let fits = if self.overflows(now) || !self.has(Mechanism::Refill) {
                    0
                } else {
                    fits
                };
                let kept = self
                    .still
                    .look(now, signals, queue.total, self.in_flight, self.srtt);
                let kept = if self.has(Mechanism::KeptFlight) {
                    kept
                } else {
                    0
                };
                self.kept_in_flight = fits.max(kept);
                if self.mode == Mode::Engaged {
                    decision.ran_dry = self.follow_hold(now, queue, marks, occasion);
                } else if dropped
                    || self.may_hold(queue)
                        && (standing || is_half_full(queue) && self.has(Mechanism::HalfFull))
                {
                    self.mode = Mode::Engaged;
                    self.last_held = Some((now, queue.drained));
                }
            }
            _ => decision.went_blind = self.let_go(now) && holds,
        }
        match self.mode {
            Mode::Engaged => {
                let (cap, target) = self.cap(signals);
                self.cap = cap;
                self.own_limit = target.is_some_and(|target| target.limit_decides);
                decision.limit_decides = self.own_limit;
                decision.limit_holds = decision.limit_decides && marks.held_by_limit.is_some();
                decision.overflowed =
                    dropped && engaged_before && decision.limit_decides && self.within_limit;
                self.within_limit = signals
                    .queue
                    .is_some_and(|queue| queue.total <= queue.limit);
            }
            Mode::Releasing { window, since } => {
                // Twice the time in which it doubles even if it grows by the same bytes each round
                // trip: a sender that pauses does not keep it for ever.
                let longest = self.srtt.times(2 * tuning.release_rounds);
                if window >= base.window || now.since(since) >= longest {
                    self.mode = Mode::Free;
                }
            }
            Mode::Free => {}
        }
        if let Occasion::Acks { app_limited } = occasion {
            self.capped = marks.capped || self.is_under(base.window);
            decision.wants_more = self.mode == Mode::Engaged && !app_limited;
            if decision.wants_more {
                decision.rate = self.rate();
            }
        }

        decision.local_drop = dropped && self.local_drop_reduces_window(now, trusted);
        decision
    }
}
