//! The callbacks of quinn's [`Controller`].

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerMetrics};

use super::{GovernedController, bytes_to_validate};
use crate::decisions::Trigger;
use crate::law::constants::WIRE_OVERHEAD;
use crate::law::{Delivery, Occasion, Report};
use crate::report::Counters;
use crate::window_cache::{AtomicCapEffects, WindowCache};

impl Controller for GovernedController {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.flow.join();
        // For packets that a Retry discards, quinn calls `on_ack` without `on_end_acks`.
        self.in_acks = false;
        self.update(now, Occasion::Other);
        let time = self.clock.time(now);
        self.base.on_sent(time, bytes, last_packet_number);
        if let Some(watched) = self.flow.watched() {
            let observed = self.observed;
            watched.totals.on_observed(observed);
            let datagrams = bytes.div_ceil(self.law.mtu());
            let sent = watched.on_sent(datagrams, observed);
            if let Some(queue) = self.flow.last_queue() {
                queue.add(bytes + datagrams * WIRE_OVERHEAD);
            }
            self.law.on_sent(now, bytes, sent, self.base.window());
        }
        if let Some(binding) = &self.binding {
            binding.set_sending();
        }
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.begin_acks(now, app_limited);
        if self.bytes_to_validate > 0 {
            self.count_validation(bytes);
        }
        if self.flow.watched().is_some() {
            self.law.on_ack(bytes, rtt.get());
            if self.law.is_check_due(sent) {
                self.check_observed();
            }
            if !self.law.trusts_signals() {
                self.check_peer_observed(now, sent);
            }
        }
        self.cache.invalidate();
        let limited = app_limited || self.suppresses_growth();
        let (time, sent) = (self.clock.time(now), self.clock.time(sent));
        self.base.on_ack(time, sent, bytes, limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.begin_acks(now, app_limited);
        let suppressed = self.suppresses_growth();
        let pause = suppressed && self.law.pauses_clock();
        self.clock.on_acks(now, pause);
        self.base.on_end_acks(
            self.clock.time(now),
            in_flight,
            app_limited || suppressed,
            largest_packet_num_acked,
        );
        self.law.end_acks(in_flight);
        let ends = (self.law).ends_slow_start(|| self.flow.time(now), || self.base_state());
        if ends {
            self.reduce(now);
            self.flow.count(Counters::slow_start_exit);
        }
        self.in_acks = false;
        self.cache.invalidate();
        self.decisions.note(now, self.state(), Trigger::LocalQueue);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.update(now, Occasion::Other);
        let time = self.flow.time(now);
        let report = Report {
            sent: self.flow.time(sent),
            persistent: is_persistent_congestion,
            lost_bytes,
        };
        let bound = self.law.reduce_below(time, lost_bytes);
        let delivery = self.law.on_report(time, &report);
        let (time, sent) = match delivery {
            Delivery::Withheld => return,
            _ if self.clock.is_true() => (now, sent),
            // The wrapped controller would ignore it, if it had the right time.
            Delivery::SameRoundTrip => return,
            Delivery::New => {
                let time = self.clock.reduction(now);
                (time, time)
            }
        };
        self.base
            .on_congestion_event(time, sent, is_persistent_congestion, lost_bytes);
        let mut window = u64::MAX;
        while delivery == Delivery::New
            && bound < u64::MAX
            && (bound..window).contains(&self.base.window())
        {
            window = self.base.window();
            self.reduce(now);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cache.invalidate();
        self.law.on_mtu_update(new_mtu);
        self.base.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.law.is_free() {
            return self.base.window();
        }
        self.capped_window()
    }

    /// Changes nothing, unlike `window`.
    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.base.metrics();
        let Some(watch) = self.flow.watch().filter(|_| !self.law.is_free()) else {
            return metrics;
        };
        let cached = self.cache.window(watch);
        let computed = || {
            self.governed_window(watch)
                .map(|(governed, _)| governed.window)
        };
        if let Some(window) = cached.or_else(computed) {
            metrics.congestion_window = window;
            let paced = self.law.pacing_rate(window);
            metrics.pacing_rate = Some(metrics.pacing_rate.map_or(paced, |rate| rate.min(paced)));
        }
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            base: self.base.clone_box(),
            clock: self.clock,
            law: self.law.for_new_path(),
            in_acks: false,
            effects: AtomicCapEffects::default(),
            cache: WindowCache::default(),
            decisions: self.decisions.clone(),
            flow: self.flow.copy(),
            binding: self.binding.as_ref().map(|_| Arc::default()),
            bytes_to_validate: bytes_to_validate(&*self.base),
            unobserved_since: None,
            observed: self.observed,
        })
    }

    fn initial_window(&self) -> u64 {
        self.base.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
