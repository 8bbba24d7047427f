//! Processes a sample.

use super::constants::PACER_BURST;
use super::standing::{is_half_full, outgrows_bursts};
use super::{Base, CapEffects, Decision, Law, Mode, Occasion, Signals, rate};
use crate::base::BaseKind;
use crate::mechanism::Mechanism;
use crate::time::{Span, Time};

impl Law {
    /// The longest time between two samples of an uncapped connection: an eighth of a round trip, or
    /// the time of a burst of the pacer.
    pub(crate) fn refresh(&self) -> Span {
        Span::of(PACER_BURST).min(self.srtt / 8)
    }

    /// Acknowledgements begin, and the signals have not changed since the last sample.
    pub(crate) fn on_unchanged(&mut self, app_limited: bool) {
        self.app_limited = app_limited;
    }

    /// Updates the law with a sample.
    pub(crate) fn on_sample(
        &mut self,
        now: Time,
        signals: &Signals,
        base: Base,
        effects: CapEffects,
        occasion: Occasion,
    ) -> Decision {
        let mut decision = Decision::default();
        let last_sample = self.last_sample.replace(now);
        // Of an uncapped connection this is not read.
        self.may_be_in_slow_start = base.slow_start || self.is_free();
        if effects.capped
            && let Some(last) = last_sample
        {
            decision.capped_for = now.since(last);
        }

        let tuning = self.tuning();
        let trusted = signals.live && (self.trust.is_trusted() || !self.has(Mechanism::Trust));
        let dropped = self.local_congestion(now, signals);
        if signals.policy_drops > self.policy_drops_seen && self.has(Mechanism::WholeBatches) {
            self.policy_drops_seen = signals.policy_drops;
            self.firewall_dropped = Some(now);
        } else {
            self.firewall_dropped = self
                .firewall_dropped
                .filter(|at| self.is_remembered(*at, now));
        }
        if let Occasion::Acks { app_limited } = occasion {
            self.app_limited = app_limited;
        }

        let engaged_before = self.mode == Mode::Engaged;
        let (in_flight, srtt) = (self.in_flight, self.srtt);
        let may_cap = signals.queue.as_ref().is_none_or(|queue| {
            let rate = || rate(in_flight, srtt);
            self.unobserved_others.may_cap(now, queue, rate, tuning)
        }) || !self.config.has(Mechanism::WaitingRelease);
        match &signals.queue {
            Some(queue) if trusted && may_cap && self.config.backlog_cap => {
                // In slow start a window is up to twice what is in flight; more of it is not used and
                // does not raise the pacing rate.
                let used = base.window.min(self.in_flight.saturating_mul(2));
                let outgrown = outgrows_bursts(queue, used, self.mtu, self.srtt, tuning)
                    && self.has(Mechanism::Outgrown);
                let is_standing = self.standing.update(now, queue, self.srtt, tuning)
                    || outgrown
                    || !self.has(Mechanism::Standing) && queue.total > 0;
                self.competing.update(now, self.standing.time(now), tuning);
                self.rounds
                    .update(now, self.in_flight, queue.own, self.srtt, tuning);
                self.max_on_path = match self.kind {
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
                // A queue that overflows has no room for a burst.
                let fits = if self.overflows(now) || !self.has(Mechanism::Refill) {
                    0
                } else {
                    fits
                };
                let kept =
                    self.unchanged
                        .update(now, signals, queue.total, self.in_flight, self.srtt);
                let kept = if self.has(Mechanism::KeptFlight) {
                    kept
                } else {
                    0
                };
                self.min_in_flight = fits.max(kept);
                if self.mode == Mode::Engaged {
                    decision.ran_empty = self.update_hold(now, queue, effects, occasion);
                } else if dropped
                    || self.may_limit(queue)
                        && (is_standing || is_half_full(queue) && self.has(Mechanism::HalfFull))
                {
                    self.mode = Mode::Engaged;
                    self.last_limited = Some((now, queue.drained));
                }
            }
            _ => decision.signals_lost = self.release(now) && may_cap,
        }
        match self.mode {
            Mode::Engaged => {
                let (cap, target) = self.cap(signals);
                self.cap = cap;
                self.limit_decided = target.is_some_and(|target| target.limit_decides);
                decision.limit_decides = self.limit_decided;
                decision.limit_holds = decision.limit_decides && effects.limited_at.is_some();
                decision.overflowed =
                    dropped && engaged_before && decision.limit_decides && self.within_limit;
                self.within_limit = signals
                    .queue
                    .is_some_and(|queue| queue.total <= queue.limit);
            }
            Mode::Releasing { window, since } => {
                // Twice the time in which it doubles even with linear growth: the release of a sender
                // that pauses ends too.
                let longest = self.srtt.times(2 * tuning.release_rounds);
                if window >= base.window || now.since(since) >= longest {
                    self.mode = Mode::Free;
                }
            }
            Mode::Free => {}
        }
        if let Occasion::Acks { app_limited } = occasion {
            self.capped = effects.capped || self.is_under(base.window);
            decision.wants_more = self.mode == Mode::Engaged && !app_limited;
            if decision.wants_more {
                decision.rate = self.rate();
            }
        }

        decision.local_drop = dropped && self.local_drop_reduces_window(now, trusted);
        decision
    }
}
