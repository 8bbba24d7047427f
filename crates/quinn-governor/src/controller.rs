//! The law as a quinn controller: translates its calls, and nothing else.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use ebpf_congestion_signals::QueueSample;
use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerMetrics};

use crate::base::BaseKind;
use crate::decisions::{Decisions, State, Trigger};
use crate::governor::Governed;
use crate::law::constants::WIRE_OVERHEAD;
use crate::law::{self, Law, Marks, Occasion, QueueSignals, Report, Signals, Verdict};
use crate::queue_limit::{Observation, Sharing};

/// A controller under a base controller's window: what a [`Governor`](crate::Governor) builds.
///
/// Reach it through quinn's `Connection::congestion_state` and
/// [`into_any`](Controller::into_any).
pub struct GovernedController {
    base: Box<dyn Controller>,
    law: Law,
    /// Acknowledgements have begun and not ended.
    in_acks: bool,
    sharing: Sharing,
    marks: AtomicMarks,
    decisions: Decisions,
    place: Place,
}

impl GovernedController {
    pub(crate) fn new(
        base: Box<dyn Controller>,
        governed: Arc<Governed>,
        mtu: u16,
        decisions: Decisions,
    ) -> Self {
        let place = Place::take(governed);
        let sharing = Sharing::default();
        let start = place.signals(&sharing, u64::from(mtu));
        let kind = BaseKind::of(&*base);
        Self {
            law: Law::new(place.governed.config, kind, mtu, &start),
            base,
            in_acks: false,
            sharing,
            marks: AtomicMarks::default(),
            decisions,
            place,
        }
    }

    /// The base controller.
    pub fn base(&self) -> &dyn Controller {
        &*self.base
    }

    /// The cap at the last look.
    #[cfg(feature = "testing")]
    pub(crate) fn cap(&self) -> u64 {
        self.law.last_cap()
    }

    fn signals(&self) -> Signals {
        self.place.signals(&self.sharing, self.law.mtu())
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

    /// Goes on as another flow: after a rebind of the socket, or when the peer has another address.
    #[cfg_attr(
        not(feature = "testing"),
        expect(dead_code, reason = "only tests move a controller so far")
    )]
    pub(crate) fn move_to(&mut self, now: Instant, governed: Arc<Governed>) {
        self.sharing.leave(&self.place.governed.queues);
        self.place = Place::take(governed);
        self.marks.clear();
        let signals = self.signals();
        self.law.on_new_flow(now, &signals);
    }

    /// Takes a sample and does what it asks for; the packets that it has observed.
    fn look(&mut self, now: Instant, occasion: Occasion) -> u64 {
        let signals = self.signals();
        let marks = self.marks.load();
        let decision = self
            .law
            .look(now, &signals, self.base_state(), marks, occasion);
        let counters = &self.place.governed;

        if !decision.capped_for.is_zero() {
            counters.count(|counters| counters.capped_for(decision.capped_for));
        }
        if decision.went_blind {
            counters.count(crate::report::Counters::blind_period);
        }
        if decision.local_drop && self.place.governed.flow.answer_drops(signals.drops) {
            self.base.on_congestion_event(now, now, false, 0);
            self.law.on_local_reduction(now);
            self.place
                .governed
                .count(crate::report::Counters::local_drop_reduction);
            self.decisions
                .note(now, State::Recovery, Trigger::LocalDrop);
        }
        if decision.went_blind {
            self.decisions.note(now, self.state(), Trigger::SignalsLost);
        }
        let governed = &self.place.governed;
        governed.flow.on_observed(signals.observed);
        if let Some(queue) = signals.queue {
            let seen = Observation {
                total: queue.total,
                drained: queue.drained,
                ran_dry: decision.ran_dry,
                decides: decision.limit_decides,
                acks: occasion != Occasion::Other,
                holds: decision.limit_holds,
                overflowed: decision.overflowed,
                srtt: self.law.srtt(),
                datagram: self.law.mtu() + WIRE_OVERHEAD,
            };
            governed.queues[queue.id].observe(now, &governed.config, &seen);
        }
        if let Occasion::Acks { .. } = occasion {
            match signals.queue {
                Some(queue) if decision.wants_more => {
                    self.sharing
                        .enter(&governed.queues, queue.id, decision.rate);
                }
                _ => self.sharing.leave(&governed.queues),
            }
        }
        signals.observed
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

    fn hides_growth(&self) -> bool {
        self.law.hides_growth(self.base_state())
    }
}

impl Controller for GovernedController {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        let observed = self.look(now, Occasion::Other);
        self.base.on_sent(now, bytes, last_packet_number);
        let flow = &self.place.governed.flow;
        let sent = flow.on_sent(bytes, self.law.mtu(), observed);
        let base = self.base_state();
        self.law.on_sent(now, bytes, sent, base);
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
        let governed = &self.place.governed;
        let observed = || {
            let packets = governed.watch.congestion().seen_packets();
            governed.flow.observed(packets)
        };
        if let Some(answer) = self.law.on_ack(sent, bytes, rtt.get(), observed) {
            governed.flow.on_answer(answer);
        }
        let limited = app_limited || self.hides_growth();
        self.base.on_ack(now, sent, bytes, limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.begin_acks(now, app_limited);
        let limited = app_limited || self.hides_growth();
        self.base
            .on_end_acks(now, in_flight, limited, largest_packet_num_acked);
        let base = self.base_state();
        if self.law.end_acks(now, in_flight, base) {
            self.base.on_congestion_event(now, now, false, 0);
            self.law.on_local_reduction(now);
            self.place
                .governed
                .count(crate::report::Counters::slow_start_exit);
        }
        self.in_acks = false;
        self.marks.clear();
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
        let report = Report {
            sent,
            persistent: is_persistent_congestion,
            lost_bytes,
        };
        if self.law.on_report(now, &report) {
            self.base
                .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.law.on_mtu_update(new_mtu);
        self.base.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        let base = self.base.window();
        if self.law.is_free() {
            return base;
        }
        let verdict = self.law.window(base, &self.signals());
        self.marks.note(&verdict);
        verdict.window
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.base.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            base: self.base.clone_box(),
            law: self.law.for_new_path(),
            in_acks: false,
            sharing: Sharing::default(),
            marks: AtomicMarks::default(),
            decisions: self.decisions.clone(),
            place: Place::take(Arc::clone(&self.place.governed)),
        })
    }

    fn initial_window(&self) -> u64 {
        self.base.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Drop for GovernedController {
    fn drop(&mut self) {
        self.sharing.leave(&self.place.governed.queues);
    }
}

impl fmt::Debug for GovernedController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GovernedController")
            .field("law", &self.law)
            .finish_non_exhaustive()
    }
}

/// A controller's place among those of its flow, held as long as it lives.
struct Place {
    governed: Arc<Governed>,
}

impl Place {
    fn take(governed: Arc<Governed>) -> Self {
        governed.flow.join();
        governed.count(crate::report::Counters::controller_built);
        Self { governed }
    }

    /// The sample as this controller has to see it.
    fn signals(&self, sharing: &Sharing, mtu: u64) -> Signals {
        let governed = &self.governed;
        let sample = governed.watch.congestion();
        let unobserved = governed.flow.unobserved(sample.seen_packets());
        let queue = sample.queue.map(|queue| {
            let datagram = mtu + WIRE_OVERHEAD;
            let id = queue.id.index();
            let on_its_way = unobserved.saturating_mul(datagram);
            // Gauges are read one after the other.
            let own_flow = queue.own.min(queue.total);
            let backlog = own_flow.saturating_add(on_its_way);
            // A FIFO is left in the order it was entered; who of a socket's connections entered
            // it, the source does not tell.
            let own = backlog / governed.flow.controllers();
            QueueSignals {
                id,
                own,
                own_flow,
                shared: queue.shared,
                total: queue.total,
                drained: queue.drained,
                room: room(&queue, on_its_way),
                limit: governed.queues[id].limit(&governed.config, datagram),
                others_share: governed.queues[id]
                    .sharers()
                    .saturating_sub(u32::from(sharing.is_at(id))),
                mean_rate: governed.queues[id].mean_rate(),
            }
        });
        Signals {
            live: sample.live,
            observed: sample.seen_packets(),
            unobserved,
            policy_drops: sample.policy_drops,
            drops: sample.queue_drops,
            queue,
        }
    }
}

/// Bytes that the queue still takes, less what is on its way there. A queue that holds more than its
/// limit has another.
fn room(queue: &QueueSample, on_its_way: u64) -> Option<u64> {
    let free = queue.limit?.checked_sub(queue.total)?;
    Some(free.saturating_sub(on_its_way))
}

impl Drop for Place {
    fn drop(&mut self) {
        self.governed.flow.leave();
        self.governed
            .count(crate::report::Counters::controller_gone);
    }
}

/// [`Marks`] that `window(&self)` can leave.
#[derive(Debug, Default)]
struct AtomicMarks {
    capped: AtomicBool,
    /// The queue's `drained` plus one; 0 for none.
    held_by_limit: AtomicU64,
}

impl AtomicMarks {
    fn load(&self) -> Marks {
        Marks {
            capped: self.capped.load(Ordering::Relaxed),
            held_by_limit: self.held_by_limit.load(Ordering::Relaxed).checked_sub(1),
        }
    }

    fn note(&self, verdict: &Verdict) {
        if verdict.capped {
            self.capped.store(true, Ordering::Relaxed);
        }
        if let Some(drained) = verdict.held_by_limit
            && self.held_by_limit.load(Ordering::Relaxed) == 0
        {
            let mark = drained.saturating_add(1);
            self.held_by_limit.store(mark, Ordering::Relaxed);
        }
    }

    fn clear(&self) {
        self.capped.store(false, Ordering::Relaxed);
        self.held_by_limit.store(0, Ordering::Relaxed);
    }
}
