//! The law as a quinn controller: translates its calls, and nothing else.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{Version, Watch};
use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerMetrics};

use crate::base::BaseKind;
use crate::base_clock::BaseClock;
use crate::binding::Binding;
use crate::decisions::{Decisions, State, Trigger};
use crate::governor::Governed;
use crate::kept::{AtomicMarks, KeptWindow};
use crate::law::constants::WIRE_OVERHEAD;
use crate::law::{self, Heard, Law, Occasion, Report, Verdict};
use crate::mechanism::Mechanism;
use crate::queue_limit::Observation;
use crate::report::{Counters, GovernorReport};
use crate::seat::{self, Seat};
use crate::shared::Shared;
use crate::time::{Span, Time};

/// A controller under a base controller's window: what a [`Factory`](crate::Factory) builds.
///
/// Reach a connection's with [`GovernedController::of`].
pub struct GovernedController {
    base: Box<dyn Controller>,
    clock: BaseClock,
    law: Law,
    /// Acknowledgements have begun and not ended.
    in_acks: bool,
    marks: AtomicMarks,
    kept: KeptWindow,
    decisions: Decisions,
    seat: Seat,
    /// By which the socket names the flow to go by; `None` where that never changes.
    binding: Option<Arc<Binding>>,
    /// Bytes that the peer has to acknowledge before it counts as validated.
    unproven: u32,
    /// Since when the signals are doubted, and what the source had seen then.
    doubted: Option<(Time, u64)>,
    /// Packets that the source had seen at the last sample.
    observed: u64,
}

impl GovernedController {
    /// Over `base`; by `flow`, or by what the socket tells.
    pub(crate) fn new(
        base: Box<dyn Controller>,
        shared: Arc<Shared>,
        flow: Option<Arc<Governed>>,
        mtu: u16,
        decisions: Decisions,
    ) -> Self {
        let binding = flow.is_none().then(Arc::default);
        let config = shared.config;
        let mut seat = Seat::new(shared, flow);
        if binding.is_none() {
            seat.join();
        }
        let start = seat.signals(u64::from(mtu)).unwrap_or_default();
        Self {
            law: Law::new(config, BaseKind::of(&*base), mtu, &start),
            unproven: unproven(&*base),
            base,
            clock: BaseClock::default(),
            in_acks: false,
            marks: AtomicMarks::default(),
            kept: KeptWindow::default(),
            decisions,
            seat,
            binding,
            doubted: None,
            observed: 0,
        }
    }

    /// A copy of a connection's controller, to look at; `None` where it has another kind.
    pub fn of(connection: &quinn::Connection) -> Option<Box<Self>> {
        connection.congestion_state().into_any().downcast().ok()
    }

    /// The base controller.
    pub fn base(&self) -> &dyn Controller {
        &*self.base
    }

    /// The flow that it goes by; `None` before the connection has sent anything, and while its
    /// socket is not watched.
    pub fn watch(&self) -> Option<&Watch> {
        self.seat.watch()
    }

    /// The flow of the socket that the connection sends and receives by.
    pub(crate) fn socket_flow(&self) -> Option<&Governed> {
        let flow = self.seat.flow()?;
        Some(flow.whole().unwrap_or(flow))
    }

    /// What was done for all connections of that flow.
    pub fn flow_report(&self) -> GovernorReport {
        self.seat.flow().map(Governed::report).unwrap_or_default()
    }

    /// Whether the window is, or may be, less than the base controller's.
    pub fn is_in_force(&self) -> bool {
        !self.law.is_free()
    }

    /// The time as base sees it.
    #[cfg(feature = "testing")]
    pub(crate) fn base_time(&self, now: Instant) -> Instant {
        self.clock.time(now)
    }

    /// The cap at the last sample.
    #[cfg(feature = "testing")]
    pub(crate) fn cap(&self) -> u64 {
        self.law.last_cap()
    }

    fn base_state(&self) -> law::Base {
        let window = self.base.window();
        // Only asked for where the answer can matter: metrics are more work than a window.
        let slow_start = !self.law.is_free()
            && self
                .base
                .metrics()
                .ssthresh
                .is_some_and(|threshold| window < threshold);
        law::Base { window, slow_start }
    }

    /// Goes by the flow that the socket has named since the last call.
    fn follow(&mut self, now: Instant) {
        if let Some(flow) = self
            .binding
            .as_ref()
            .and_then(|binding| binding.take_flow())
        {
            self.move_to(now, flow);
        }
    }

    /// Goes by another flow: after a rebind of the socket, or when the peer has another address or
    /// becomes a flow of its own.
    #[cold]
    pub(crate) fn move_to(&mut self, now: Instant, flow: Arc<Governed>) {
        self.seat.move_to(flow);
        self.marks.clear();
        self.kept = KeptWindow::default();
        self.doubted = None;
        if let Some(signals) = self.seat.signals(self.law.mtu()) {
            self.law.on_new_flow(self.seat.time(now), &signals);
        }
    }

    /// Takes a sample where one is due.
    ///
    /// While the law is in force, each call has one: even of a queue that has not changed, what is in
    /// flight has. Else only what has changed is looked at, and now and then what has not.
    #[inline]
    fn look(&mut self, now: Instant, occasion: Occasion) {
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
    fn sample(&mut self, at: Instant, occasion: Occasion) {
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
    fn reduce(&mut self, now: Instant) {
        let time = self.clock.reduction(now);
        self.base.on_congestion_event(time, time, false, 0);
        self.law.on_local_reduction(self.seat.time(now));
    }

    /// Had the source observed what was acknowledged?
    #[inline(never)]
    fn answer(&mut self) {
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
    fn look_for_sight(&mut self, now: Instant, sent: Instant) {
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
    fn prove(&mut self, bytes: u64) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.unproven = self.unproven.saturating_sub(bytes);
        if self.unproven == 0
            && let Some(binding) = &self.binding
        {
            binding.set_validated();
        }
    }

    /// What bounds the window, but for a reduction.
    fn state(&self) -> State {
        if self.law.is_free() {
            State::Base
        } else {
            State::Capped
        }
    }

    fn begin_acks(&mut self, now: Instant, app_limited: bool) {
        if !self.in_acks {
            self.in_acks = true;
            self.look(now, Occasion::Acks { app_limited });
        }
    }

    /// What the law makes of the window now, and the version of the sample that it goes by.
    fn verdict(&self, watch: &Watch) -> Option<(Verdict, Version)> {
        let (sample, version) = watch.versioned();
        let signals = self.seat.signals_of(&sample, self.law.mtu())?;
        Some((self.law.window(self.base.window(), &signals), version))
    }

    /// The window while the law is in force.
    #[inline(never)]
    fn capped_window(&self) -> u64 {
        let Some(watch) = self.seat.watch() else {
            return self.base.window();
        };
        if let Some(window) = self.kept.window(watch) {
            return window;
        }
        let Some((verdict, version)) = self.verdict(watch) else {
            return self.base.window();
        };
        self.marks.note(&verdict);
        self.kept.keep(verdict.window, version);
        verdict.window
    }

    fn hides_growth(&self) -> bool {
        self.law.hides_growth(|| self.base_state())
    }
}

impl Controller for GovernedController {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.seat.join();
        // quinn leaves out the end of acknowledgements that a Retry made void.
        self.in_acks = false;
        self.look(now, Occasion::Other);
        let time = self.clock.time(now);
        self.base.on_sent(time, bytes, last_packet_number);
        if let Some(governed) = self.seat.flow() {
            let observed = self.observed;
            governed.flow.on_observed(observed);
            let datagrams = bytes.div_ceil(self.law.mtu());
            let sent = governed.on_sent(datagrams, observed);
            if let Some(queue) = self.seat.last_queue() {
                queue.add(bytes + datagrams * WIRE_OVERHEAD);
            }
            self.law.on_sent(now, bytes, sent, self.base.window());
        }
        if let Some(binding) = &self.binding {
            binding.hand_over();
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
        if self.unproven > 0 {
            self.prove(bytes);
        }
        if self.seat.flow().is_some() {
            self.law.on_ack(bytes, rtt.get());
            if self.law.asks(sent) {
                self.answer();
            }
            if !self.law.trusts_signals() {
                self.look_for_sight(now, sent);
            }
        }
        self.kept.forget();
        let limited = app_limited || self.hides_growth();
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
        let hidden = self.hides_growth();
        let stops = hidden && self.law.stops_clock();
        self.clock.on_acks(now, stops);
        self.base.on_end_acks(
            self.clock.time(now),
            in_flight,
            app_limited || hidden,
            largest_packet_num_acked,
        );
        self.law.end_acks(in_flight);
        let ends = (self.law).ends_slow_start(|| self.seat.time(now), || self.base_state());
        if ends {
            self.reduce(now);
            self.seat.count(Counters::slow_start_exit);
        }
        self.in_acks = false;
        self.kept.forget();
        self.decisions.note(now, self.state(), Trigger::LocalQueue);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.look(now, Occasion::Other);
        let time = self.seat.time(now);
        let report = Report {
            sent: self.seat.time(sent),
            persistent: is_persistent_congestion,
            lost_bytes,
        };
        let bound = self.law.reduces_under(time, lost_bytes);
        let heard = self.law.on_report(time, &report);
        let (time, sent) = match heard {
            Heard::Not => return,
            _ if self.clock.is_true() => (now, sent),
            // The wrapped controller would ignore it, if it had the right time.
            Heard::Known => return,
            Heard::New => {
                let time = self.clock.reduction(now);
                (time, time)
            }
        };
        self.base
            .on_congestion_event(time, sent, is_persistent_congestion, lost_bytes);
        let mut window = u64::MAX;
        while heard == Heard::New
            && bound < u64::MAX
            && (bound..window).contains(&self.base.window())
        {
            window = self.base.window();
            self.reduce(now);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.kept.forget();
        self.law.on_mtu_update(new_mtu);
        self.base.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.law.is_free() {
            return self.base.window();
        }
        self.capped_window()
    }

    /// Observing leaves no marks.
    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.base.metrics();
        let Some(watch) = self.seat.watch().filter(|_| !self.law.is_free()) else {
            return metrics;
        };
        let kept = self.kept.window(watch);
        let found = || self.verdict(watch).map(|(verdict, _)| verdict.window);
        if let Some(window) = kept.or_else(found) {
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
            marks: AtomicMarks::default(),
            kept: KeptWindow::default(),
            decisions: self.decisions.clone(),
            seat: self.seat.copy(),
            binding: self.binding.as_ref().map(|_| Arc::default()),
            unproven: unproven(&*self.base),
            doubted: None,
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

/// What a peer has to acknowledge before it counts as validated.
fn unproven(base: &dyn Controller) -> u32 {
    u32::try_from(base.initial_window()).unwrap_or(u32::MAX)
}

impl fmt::Debug for GovernedController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GovernedController")
            .field("law", &self.law)
            .finish_non_exhaustive()
    }
}
