//! What all governed connections over one source share.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use ebpf_congestion_signals::{FlowId, QueueId, SignalSource, Watch, WatchError, WatchTarget};
use parking_lot::Mutex;

use crate::config::GovernorConfig;
use crate::fallback::{Fallback, FallbackLog};
use crate::flow::{FlowTotals, WatchedFlow, observed_packets};
use crate::queue_limit::QueueLimit;
use crate::report::Counters;
use crate::time::{Origin, Time};

/// What all [`Governors`](crate::Governors) over one source share: each queue's limit, and the
/// totals of each flow.
#[derive(Debug)]
pub(crate) struct SourceState {
    pub(crate) source: Arc<dyn SignalSource>,
    /// Where controllers' times start: at the first call of any of them.
    origin: OnceLock<Origin>,
    /// By the index of the queue.
    pub(crate) queues: Arc<[QueueLimit]>,
    flows: Mutex<HashMap<FlowId, Weak<FlowTotals>>>,
}

impl SourceState {
    /// The state of this source: one, as long as it is used.
    pub(crate) fn of(source: Arc<dyn SignalSource>) -> Arc<Self> {
        static KNOWN: Mutex<Vec<Weak<SourceState>>> = Mutex::new(Vec::new());
        let mut known = KNOWN.lock();
        known.retain(|state| state.strong_count() > 0);
        let same = |state: &Arc<Self>| Arc::ptr_eq(&state.source, &source);
        if let Some(state) = known.iter().filter_map(Weak::upgrade).find(same) {
            return state;
        }
        let state = Arc::new(Self {
            source,
            origin: OnceLock::new(),
            queues: (0..QueueId::COUNT).map(|_| QueueLimit::new()).collect(),
            flows: Mutex::default(),
        });
        known.push(Arc::downgrade(&state));
        state
    }

    /// An `Instant` as the law's time.
    #[inline]
    pub(crate) fn time(&self, at: Instant) -> Time {
        self.origin.get_or_init(|| Origin::new(at)).time(at)
    }

    /// The totals of this flow, which all of its controllers share.
    fn totals(&self, watch: &Watch) -> Arc<FlowTotals> {
        let mut flows = self.flows.lock();
        if let Some(flow) = flows.get(&watch.id()).and_then(Weak::upgrade) {
            return flow;
        }
        // Entries of flows that have ended are removed when the map would have to grow.
        if flows.len() == flows.capacity() {
            flows.retain(|_, flow| flow.strong_count() > 0);
        }
        let start = watch.congestion();
        let flow = Arc::new(FlowTotals::new(
            observed_packets(&start),
            start.queue_drops.unwrap_or_default(),
        ));
        flows.insert(watch.id(), Arc::downgrade(&flow));
        flow
    }
}

/// What belongs to one [`Governors`](crate::Governors).
pub(crate) struct Shared {
    pub(crate) state: Arc<SourceState>,
    pub(crate) config: GovernorConfig,
    pub(crate) sums: Arc<Counters>,
    pub(crate) fallbacks: FallbackLog,
    enabled: AtomicBool,
    /// Whether the first capped window has been logged.
    announced: AtomicBool,
    flows: Mutex<HashMap<FlowId, Weak<WatchedFlow>>>,
}

impl Shared {
    pub(crate) fn new(source: Arc<dyn SignalSource>, config: GovernorConfig) -> Arc<Self> {
        Arc::new(Self {
            state: SourceState::of(source),
            config,
            sums: Arc::default(),
            fallbacks: FallbackLog::default(),
            enabled: AtomicBool::new(true),
            announced: AtomicBool::new(false),
            flows: Mutex::default(),
        })
    }

    /// Watches `target`, or finds the flow that is watched already.
    pub(crate) fn flow(&self, target: WatchTarget<'_>) -> Result<Arc<WatchedFlow>, WatchError> {
        Ok(self.watched(self.state.source.watch(target)?))
    }

    /// As [`flow`](Self::flow), of one peer of a socket; `socket` is the socket's own flow.
    pub(crate) fn peer(
        &self,
        target: WatchTarget<'_>,
        socket: Option<Arc<WatchedFlow>>,
    ) -> Result<Arc<WatchedFlow>, WatchError> {
        let watch = self.state.source.watch(target)?;
        Ok(self.watched_part(watch, socket))
    }

    /// The entry of a watched flow: one, however many controllers use it.
    pub(crate) fn watched(&self, watch: Watch) -> Arc<WatchedFlow> {
        self.watched_part(watch, None)
    }

    fn watched_part(&self, watch: Watch, socket: Option<Arc<WatchedFlow>>) -> Arc<WatchedFlow> {
        let mut flows = self.flows.lock();
        if let Some(flow) = flows.get(&watch.id()).and_then(Weak::upgrade) {
            return flow;
        }
        if flows.len() == flows.capacity() {
            flows.retain(|_, flow| flow.strong_count() > 0);
        }
        let totals = self.state.totals(&watch);
        let sums = Arc::clone(&self.sums);
        let source = self.state.source.kind();
        let flow = Arc::new(WatchedFlow::new(watch, totals, socket, source, sums));
        flows.insert(flow.watch.id(), Arc::downgrade(&flow));
        flow
    }

    /// The flows whose signals are in use.
    pub(crate) fn live_flows(&self) -> Vec<Arc<WatchedFlow>> {
        self.flows
            .lock()
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    pub(crate) fn note(&self, now: Instant, fallback: Fallback, cause: &dyn fmt::Display) {
        self.fallbacks.note(now, fallback, cause);
    }

    /// Logs the first time that a connection's window is capped.
    #[inline]
    pub(crate) fn announce(&self) {
        if !self.announced.load(Ordering::Relaxed)
            && self.sums.has_capped()
            && !self.announced.swap(true, Ordering::Relaxed)
        {
            tracing::info!(
                source = %self.state.source.kind(),
                "this host's queue is the bottleneck of a connection: its window is capped"
            );
        }
    }

    /// Whether connections are governed at all.
    #[inline]
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    pub(crate) fn set_enabled(&self, on: bool) {
        self.enabled.store(on, Ordering::Relaxed);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("source", &self.state.source)
            .field("config", &self.config)
            .field("enabled", &self.is_enabled())
            .finish_non_exhaustive()
    }
}
