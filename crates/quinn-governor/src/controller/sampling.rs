//! What the callbacks share: the samples of signals, and what the law decides upon them.

use std::time::{Duration, Instant};

use super::GovernedController;
use crate::decisions::{State, Trigger};
use crate::law::Occasion;
use crate::law::constants::WIRE_OVERHEAD;
use crate::mechanism::Mechanism;
use crate::queue_limit::Observation;
use crate::report::Counters;
use crate::seat;
use crate::time::Span;

impl GovernedController {
    pub(super) fn begin_acks(&mut self, now: Instant, app_limited: bool) {
        if !self.in_acks {
            self.in_acks = true;
            self.look(now, Occasion::Acks { app_limited });
        }
    }

    /// Goes by the flow that the socket has named since the last call.
    pub(super) fn follow(&mut self, now: Instant) {
        if let Some(flow) = self
            .binding
            .as_ref()
            .and_then(|binding| binding.take_flow())
        {
            self.move_to(now, flow);
        }
    }

    /// Takes a sample where one is due.
    ///
    /// While the law is in force, each call has one: even of a queue that has not changed, what is in
    /// flight has. Else only what has changed is looked at, and now and then what has not.
    #[inline]
    pub(super) fn look(&mut self, now: Instant, occasion: Occasion) {
        self.follow(now);
        self.kept.forget();
        let Some(watch) = self.seat.watch() else {
            return;
        };
        if !self.law.is_free() || self.kept.is_due(now) || !self.kept.is_current(watch) {
            self.sample(now, occasion);
        } else if let Occasion::Acks { app_limited } = occasion {
            self.law.on_same(app_limited);
        }
    }

    /// Takes a sample and does what it asks for.
    #[inline(never)]
    pub(super) fn sample(&mut self, at: Instant, occasion: Occasion) {
        let now = self.seat.time(at);
        let Some(watch) = self.seat.watch() else {
            return;
        };
        let (sample, version) = watch.versioned();
        self.seat.follow(&sample, self.law.waits(now));
        let Some(signals) = self.seat.signals_of(&sample, self.law.mtu()) else {
            return;
        };
        self.kept.on_look(version);
        self.observed = signals.observed;
        self.seat.on_sample(&signals);
        let marks = self.marks.load();
        let decision = self
            .law
            .look(now, &signals, self.base_state(), marks, occasion);
        if self.law.is_free() {
            self.kept.set_due(at + Duration::from(self.law.refresh()));
        }

        if decision.capped_for > Span::default() {
            self.seat
                .count(|counters| counters.capped_for(decision.capped_for));
        }
        if decision.went_blind && self.seat.shared().is_enabled() {
            self.seat.count(Counters::stale_period);
            self.decisions.note(at, self.state(), Trigger::SignalsLost);
        }
        let Some(governed) = self.seat.flow() else {
            return;
        };
        governed.flow.on_observed(signals.observed);
        if decision.local_drop && governed.flow.answer_drops(self.seat.counted_drops()) {
            self.reduce(at);
            self.seat.count(Counters::local_drop_reduction);
            self.decisions.note(at, State::Recovery, Trigger::LocalDrop);
        }
        if let Some(queue) = signals.queue {
            let seen = Observation {
                total: queue.total,
                shared: queue.shared,
                drained: queue.drained,
                ran_dry: decision.ran_dry,
                decides: decision.limit_decides,
                holds: decision.limit_holds,
                overflowed: decision.overflowed,
                srtt: self.law.srtt(),
                datagram: self.law.mtu() + WIRE_OVERHEAD,
            };
            self.seat
                .queue(queue.id)
                .observe(now, &self.seat.shared().config, &seen);
        }
        if let Occasion::Acks { .. } = occasion {
            match signals.queue {
                Some(queue) if decision.wants_more => {
                    self.seat.enter_queue(queue.id, decision.rate);
                }
                _ => self.seat.leave_queue(),
            }
            self.marks.clear();
        }
    }

    /// Reduces base at once, because of what this host's queue did.
    pub(super) fn reduce(&mut self, now: Instant) {
        let time = self.clock.reduction(now);
        self.base.on_congestion_event(time, time, false, 0);
        self.law.on_local_reduction(self.seat.time(now));
    }

    /// Had the source observed what was acknowledged?
    #[inline(never)]
    pub(super) fn answer(&mut self) {
        let Some(governed) = self.seat.flow() else {
            return;
        };
        let packets = seat::observed(&governed.watch.congestion());
        let answer = self.law.answer(governed.flow.observed(packets));
        if let Some(answer) = answer
            && self.seat.shared().config.has(Mechanism::Forgetting)
        {
            governed.on_answer(answer);
        }
        if self.law.trusts_signals() {
            self.doubted = None;
        }
    }

    /// Of what was acknowledged, does the source see anything? If not in a whole round trip, it is
    /// asked to watch something else. While the signals are not trusted.
    #[cold]
    pub(super) fn look_for_sight(&mut self, now: Instant, sent: Instant) {
        let (Some(binding), Some(governed)) = (&self.binding, self.seat.flow()) else {
            return;
        };
        let seen = seat::observed(&governed.watch.congestion());
        let (now, sent) = (self.seat.time(now), self.seat.time(sent));
        match self.doubted {
            Some((since, before)) if sent >= since => {
                if seen == before {
                    binding.set_unseen();
                }
                self.doubted = Some((now, seen));
            }
            Some(_) => {}
            None => self.doubted = Some((now, seen)),
        }
    }

    /// The peer acknowledged this much: from a first window on, its address is taken for proven. A
    /// made-up address acknowledges nothing, and quinn sends it three times what came from it at
    /// most (RFC 9000 section 8.1).
    #[inline(never)]
    pub(super) fn prove(&mut self, bytes: u64) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.unproven = self.unproven.saturating_sub(bytes);
        if self.unproven == 0
            && let Some(binding) = &self.binding
        {
            binding.set_validated();
        }
    }
}
