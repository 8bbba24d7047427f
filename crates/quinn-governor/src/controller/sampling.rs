//! What the callbacks share: samples, and what is done with the law's decisions.

use std::time::{Duration, Instant};

use super::GovernedController;
use crate::decisions::{State, Trigger};
use crate::flow::observed_packets;
use crate::law::Occasion;
use crate::law::constants::WIRE_OVERHEAD;
use crate::mechanism::Mechanism;
use crate::queue_limit::Observation;
use crate::report::Counters;
use crate::time::Span;

impl GovernedController {
    /// Takes the sample of a received packet at its first acknowledgement.
    pub(super) fn begin_acks(&mut self, now: Instant, app_limited: bool) {
        if !self.in_acks {
            self.in_acks = true;
            self.update(now, Occasion::Acks { app_limited });
        }
    }

    /// Changes to the flow that the socket has chosen since the last call.
    fn apply_new_flow(&mut self, now: Instant) {
        if let Some(flow) = self
            .binding
            .as_ref()
            .and_then(|binding| binding.take_new_flow())
        {
            self.change_flow(now, flow);
        }
    }

    /// Takes a sample where one is due.
    ///
    /// While the cap is in force, each call takes one: the queue may be as before, the bytes in flight
    /// are not. Otherwise one is taken when the signals have changed, and from time to time.
    #[inline]
    pub(super) fn update(&mut self, now: Instant, occasion: Occasion) {
        self.apply_new_flow(now);
        self.cache.invalidate();
        let Some(watch) = self.flow.watch() else {
            return;
        };
        if !self.law.is_free() || self.cache.is_due(now) || !self.cache.is_current(watch) {
            self.take_sample(now, occasion);
        } else if let Occasion::Acks { app_limited } = occasion {
            self.law.on_unchanged(app_limited);
        }
    }

    /// Takes a sample, and does what the law decides.
    #[inline(never)]
    fn take_sample(&mut self, at: Instant, occasion: Occasion) {
        let now = self.flow.time(at);
        let Some(watch) = self.flow.watch() else {
            return;
        };
        let (sample, version) = watch.versioned();
        self.flow.update(&sample, self.law.waits(now));
        let Some(signals) = self.flow.signals_of(&sample, self.law.mtu()) else {
            return;
        };
        self.cache.on_sample(version);
        self.observed = signals.observed;
        self.flow.on_sample(&signals);
        let effects = self.effects.load();
        let decision = self
            .law
            .on_sample(now, &signals, self.base_state(), effects, occasion);
        if self.law.is_free() {
            self.cache.set_due(at + Duration::from(self.law.refresh()));
        }

        if decision.capped_for > Span::default() {
            self.flow
                .count(|counters| counters.capped_for(decision.capped_for));
        }
        if decision.signals_lost && self.flow.shared().is_enabled() {
            self.flow.count(Counters::stale_period);
            self.decisions.note(at, self.state(), Trigger::SignalsLost);
        }
        let Some(watched) = self.flow.watched() else {
            return;
        };
        watched.totals.on_observed(signals.observed);
        if decision.local_drop && watched.totals.answer_drops(self.flow.counted_drops()) {
            self.reduce(at);
            self.flow.count(Counters::local_drop_reduction);
            self.decisions.note(at, State::Recovery, Trigger::LocalDrop);
        }
        if let Some(queue) = signals.queue {
            let seen = Observation {
                total: queue.total,
                shared: queue.shared,
                drained: queue.drained,
                ran_empty: decision.ran_empty,
                decides: decision.limit_decides,
                holds: decision.limit_holds,
                overflowed: decision.overflowed,
                srtt: self.law.srtt(),
                datagram: self.law.mtu() + WIRE_OVERHEAD,
            };
            self.flow
                .queue(queue.id)
                .observe(now, &self.flow.shared().config, &seen);
        }
        if let Occasion::Acks { .. } = occasion {
            match signals.queue {
                Some(queue) if decision.wants_more => {
                    self.flow.enter_queue(queue.id, decision.rate);
                }
                _ => self.flow.leave_queue(),
            }
            self.effects.clear();
        }
    }

    /// Reduces the base controller's window at once, because of this host's queue.
    pub(super) fn reduce(&mut self, now: Instant) {
        let time = self.clock.reduction(now);
        self.base.on_congestion_event(time, time, false, 0);
        self.law.on_local_reduction(self.flow.time(now));
    }

    /// Checks whether the source had observed what was acknowledged.
    #[inline(never)]
    pub(super) fn check_observed(&mut self) {
        let Some(watched) = self.flow.watched() else {
            return;
        };
        let packets = observed_packets(&watched.watch.congestion());
        let check = self.law.check(watched.totals.observed(packets));
        if let Some(check) = check
            && self.flow.shared().config.has(Mechanism::Forgetting)
        {
            watched.on_check(check);
        }
        if self.law.trusts_signals() {
            self.unobserved_since = None;
        }
    }

    /// While the signals are not trusted: checks whether the source observes anything of what is
    /// sent to the peer. If it observed nothing in a whole round trip, the socket's flow is used.
    #[cold]
    pub(super) fn check_peer_observed(&mut self, now: Instant, sent: Instant) {
        let (Some(binding), Some(watched)) = (&self.binding, self.flow.watched()) else {
            return;
        };
        let observed = observed_packets(&watched.watch.congestion());
        let (now, sent) = (self.flow.time(now), self.flow.time(sent));
        match self.unobserved_since {
            Some((since, before)) if sent >= since => {
                if observed == before {
                    binding.set_not_observed();
                }
                self.unobserved_since = Some((now, observed));
            }
            Some(_) => {}
            None => self.unobserved_since = Some((now, observed)),
        }
    }

    /// The peer acknowledged `bytes`. After a first window its address counts as validated: a spoofed
    /// address acknowledges nothing, and before validation quinn sends at most three times what it
    /// received (RFC 9000 section 8.1).
    #[inline(never)]
    pub(super) fn count_validation(&mut self, bytes: u64) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.bytes_to_validate = self.bytes_to_validate.saturating_sub(bytes);
        if self.bytes_to_validate == 0
            && let Some(binding) = &self.binding
        {
            binding.set_validated();
        }
    }
}
