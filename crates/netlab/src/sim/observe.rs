//! Looks over a congestion controller's shoulder.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory, ControllerMetrics};

use super::random::Digest;
use super::time::{Clock, nanos};

/// A congestion controller's factory, shared.
pub type SharedFactory = Arc<dyn ControllerFactory + Send + Sync>;

/// A window that a connection was given, and when it next did something with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Time since the start of the simulation.
    pub time: Duration,
    /// Bytes.
    pub window: u64,
}

/// A controller's inputs and outputs.
#[derive(Debug)]
pub(super) struct Record {
    /// The window at the last question.
    pub(super) window: u64,
    pub(super) peak_window: u64,
    /// Bytes sent and neither acknowledged nor lost, as far as the controller knows.
    pub(super) in_flight: u64,
    pub(super) rtt: Duration,
    pub(super) rtts: Histogram<u64>,
    pub(super) congestion_events: u64,
    /// Of all inputs and outputs, in their order.
    pub(super) digest: Digest,
    /// Every window that differs from the one before it, if asked for.
    pub(super) steps: Option<Vec<Step>>,
    /// When the latest of the packets acknowledged now was sent.
    latest_sent: Option<Instant>,
}

/// Round trips are recorded in microseconds, up to a minute, exact to a thousandth.
const RTT_MAX_MICROS: u64 = 60_000_000;

impl Record {
    pub(super) fn new(steps: bool) -> Self {
        let rtts = Histogram::new_with_bounds(1, RTT_MAX_MICROS, 3);
        Self {
            window: 0,
            peak_window: 0,
            in_flight: 0,
            rtt: Duration::ZERO,
            #[expect(
                clippy::unwrap_used,
                reason = "the bounds are constants that are in order, and three digits are allowed"
            )]
            rtts: rtts.unwrap(),
            congestion_events: 0,
            digest: Digest::default(),
            steps: steps.then(Vec::new),
            latest_sent: None,
        }
    }

    fn window(&mut self, window: u64) {
        self.digest.add(window);
        self.window = window;
        self.peak_window = self.peak_window.max(window);
    }

    fn record_call(&mut self, clock: Clock, now: Instant, words: &[u64]) {
        let time = clock.time(now);
        self.digest.add(time.nanos());
        for word in words {
            self.digest.add(*word);
        }
        let window = self.window;
        if let Some(steps) = &mut self.steps
            && steps.last().is_none_or(|last| last.window != window)
        {
            steps.push(Step {
                time: time.since_start(),
                window,
            });
        }
    }

    fn acknowledged(&mut self, now: Instant) {
        let Some(sent) = self.latest_sent.take() else {
            return;
        };
        self.rtt = now.saturating_duration_since(sent);
        let micros = u64::try_from(self.rtt.as_micros()).unwrap_or(RTT_MAX_MICROS);
        self.rtts.saturating_record(micros);
    }
}

/// The record of the controller of a flow; more than one controller may write to it, when a
/// connection changes its path.
pub(super) type SharedRecord = Arc<Mutex<Record>>;

/// Wraps a factory, so that its controllers leave a record.
pub(super) struct Observing {
    pub(super) inner: SharedFactory,
    pub(super) record: SharedRecord,
    pub(super) clock: Clock,
}

impl ControllerFactory for Observing {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Observed {
            inner: Arc::clone(&self.inner).build(now, current_mtu),
            record: Arc::clone(&self.record),
            clock: self.clock,
        })
    }
}

/// Hands out records in the order of the flows that connect: a base controller below others does
/// not know whose it is.
#[derive(Clone, Debug)]
pub(super) struct BaseRecords {
    pub(super) clock: Clock,
    /// The record for the controller that is built next.
    pub(super) next: Arc<Mutex<Option<SharedRecord>>>,
}

/// Wraps a base controller's factory.
pub(super) struct ObservingBase {
    pub(super) inner: SharedFactory,
    pub(super) records: BaseRecords,
}

impl ControllerFactory for ObservingBase {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let inner = Arc::clone(&self.inner).build(now, current_mtu);
        match &*self.records.next.lock() {
            Some(record) => Box::new(Observed {
                inner,
                record: Arc::clone(record),
                clock: self.records.clock,
            }),
            None => inner,
        }
    }
}

/// A controller that leaves a record, and is the wrapped one in every other respect.
struct Observed {
    inner: Box<dyn Controller>,
    record: SharedRecord,
    clock: Clock,
}

impl Controller for Observed {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
        let mut record = self.record.lock();
        record.in_flight += bytes;
        record.record_call(self.clock, now, &[1, bytes]);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
        let mut record = self.record.lock();
        record.latest_sent = record.latest_sent.max(Some(sent));
        let words = [2, bytes, u64::from(app_limited), nanos(rtt.get())];
        record.record_call(self.clock, now, &words);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.inner
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
        let mut record = self.record.lock();
        record.in_flight = in_flight;
        record.acknowledged(now);
        record.record_call(self.clock, now, &[3, in_flight]);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.inner
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        let mut record = self.record.lock();
        record.congestion_events += 1;
        record.in_flight = record.in_flight.saturating_sub(lost_bytes);
        record.record_call(self.clock, now, &[4, lost_bytes]);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        let window = self.inner.window();
        self.record.lock().window(window);
        window
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            inner: self.inner.clone_box(),
            record: Arc::clone(&self.record),
            clock: self.clock,
        })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self.inner.into_any()
    }
}
