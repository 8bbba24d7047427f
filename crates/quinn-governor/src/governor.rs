//! The factory that a transport configuration takes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ebpf_congestion_signals::Watch;
use quinn_proto::congestion::{Controller, ControllerFactory};

use crate::controller::GovernedController;
use crate::decisions::Decisions;
use crate::flow::Flow;
use crate::law::{Answer, Sent};
use crate::receive::SocketReceiving;
use crate::report::{Counters, GovernorReport};
use crate::shared::Shared;

/// A base controller's factory, shared.
pub type BaseFactory = Arc<dyn ControllerFactory + Send + Sync>;

/// Builds governed controllers: give it to [`TransportConfig::congestion_controller_factory`], or
/// have [`Governors::govern`](crate::Governors::govern) do that.
///
/// [`TransportConfig::congestion_controller_factory`]: quinn_proto::TransportConfig::congestion_controller_factory
pub struct Factory {
    base: BaseFactory,
    by: By,
    decisions: Decisions,
}

/// What its controllers go by.
#[derive(Clone)]
enum By {
    /// Nothing: they are the base's, not even wrapped.
    Nothing,
    /// The flow that their connection's socket gives them.
    Socket(Arc<Shared>),
    /// One flow.
    Flow(Arc<Governed>),
}

impl Factory {
    /// A factory without signals: its controllers are those of `base`, not even wrapped.
    pub fn ungoverned(base: BaseFactory) -> Arc<Self> {
        Self::new(base, By::Nothing)
    }

    pub(crate) fn by_socket(base: BaseFactory, shared: Arc<Shared>) -> Arc<Self> {
        Self::new(base, By::Socket(shared))
    }

    pub(crate) fn by_flow(base: BaseFactory, governed: Arc<Governed>) -> Arc<Self> {
        Self::new(base, By::Flow(governed))
    }

    fn new(base: BaseFactory, by: By) -> Arc<Self> {
        Arc::new(Self {
            base,
            by,
            decisions: Decisions::default(),
        })
    }

    /// The same, for the next connection, whose decisions go to this log.
    #[cfg(feature = "qlog")]
    pub fn logged(&self, log: &crate::DecisionLog) -> Arc<Self> {
        Arc::new(Self {
            base: Arc::clone(&self.base),
            by: self.by.clone(),
            decisions: Decisions::logged(log.clone()),
        })
    }

    /// Whether its connections are governed, or will be over a governed socket.
    pub fn is_governed(&self) -> bool {
        !matches!(self.by, By::Nothing)
    }

    /// The watched flow, where it is for one flow.
    pub fn watch(&self) -> Option<&Watch> {
        match &self.by {
            By::Flow(governed) => Some(&governed.watch),
            By::Nothing | By::Socket(_) => None,
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn governed(&self) -> Option<&Arc<Governed>> {
        match &self.by {
            By::Flow(governed) => Some(governed),
            By::Nothing | By::Socket(_) => None,
        }
    }

    /// What it did so far for its one flow; where it is for any, what all governors did.
    pub fn report(&self) -> GovernorReport {
        match &self.by {
            By::Nothing => GovernorReport::default(),
            By::Socket(shared) => GovernorReport {
                source: Some(shared.state.source.kind()),
                ..shared.sums.report()
            },
            By::Flow(governed) => governed.report(),
        }
    }
}

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let base = Arc::clone(&self.base).build(now, current_mtu);
        let (shared, flow) = match &self.by {
            By::Nothing => return base,
            By::Socket(shared) => (shared, None),
            By::Flow(governed) => (&governed.shared, Some(Arc::clone(governed))),
        };
        let shared = Arc::clone(shared);
        let decisions = self.decisions.clone();
        Box::new(GovernedController::new(
            base,
            shared,
            flow,
            current_mtu,
            decisions,
        ))
    }
}

impl fmt::Debug for Factory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Factory")
            .field("watch", &self.watch())
            .field("report", &self.report())
            .finish_non_exhaustive()
    }
}

/// What the controllers of one flow have in common.
#[derive(Debug)]
pub(crate) struct Governed {
    pub(crate) shared: Arc<Shared>,
    pub(crate) watch: Watch,
    /// Also for other `Governors` over the same source.
    pub(crate) flow: Arc<Flow>,
    /// Of one peer: the flow of the socket, whose packets these are too.
    whole: Option<Arc<Governed>>,
    /// Of a socket: how many of its peers are flows of their own.
    peers: AtomicU32,
    /// Of a socket: what governs what its connections receive.
    pub(crate) receiving: SocketReceiving,
    counters: Counters,
}

impl Governed {
    pub(crate) fn new(
        shared: Arc<Shared>,
        watch: Watch,
        flow: Arc<Flow>,
        whole: Option<Arc<Governed>>,
    ) -> Self {
        if let Some(whole) = &whole {
            whole.peers.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            shared,
            watch,
            flow,
            whole,
            peers: AtomicU32::new(0),
            receiving: SocketReceiving::default(),
            counters: Counters::default(),
        }
    }

    /// The flow of the whole socket, where this is a peer's.
    pub(crate) fn whole(&self) -> Option<&Self> {
        self.whole.as_deref()
    }

    /// Whether peers of this socket are flows of their own.
    pub(crate) fn has_peers(&self) -> bool {
        self.peers.load(Ordering::Relaxed) > 0
    }

    /// One more controller sends here.
    pub(crate) fn join(&self) {
        self.each(Flow::join);
    }

    pub(crate) fn leave(&self) {
        self.each(Flow::leave);
    }

    /// Counts datagrams that are about to be sent, before which the source had observed so many
    /// packets of this flow.
    pub(crate) fn on_sent(&self, datagrams: u64, observed: u64) -> Sent {
        if let Some(whole) = &self.whole {
            whole.flow.on_sent(datagrams, 0);
        }
        self.flow.on_sent(datagrams, observed)
    }

    /// Takes note of whether what was acknowledged had been observed.
    pub(crate) fn on_answer(&self, answer: Answer) {
        if let (Answer::AllBut(lost), Some(whole)) = (answer, &self.whole) {
            whole.flow.forget(lost);
        }
        self.flow.on_answer(answer);
    }

    /// Forgets packets that will never be observed.
    pub(crate) fn forget(&self, packets: u64) {
        if packets > 0 {
            self.each(|flow| flow.forget(packets));
        }
    }

    fn each(&self, change: impl Fn(&Flow)) {
        if let Some(whole) = &self.whole {
            change(&whole.flow);
        }
        change(&self.flow);
    }

    /// Counts for this flow and in sum.
    pub(crate) fn count(&self, count: impl Fn(&Counters)) {
        count(&self.counters);
        count(&self.shared.sums);
    }

    /// Time since the kernel last observed the flow; `None` when it never did.
    pub(crate) fn observation_age(&self) -> Option<Duration> {
        let sample = self.watch.sample();
        Some(sample.taken.since(sample.updated?))
    }

    pub(crate) fn report(&self) -> GovernorReport {
        GovernorReport {
            source: Some(self.shared.state.source.kind()),
            observation_age: self.observation_age(),
            ..self.counters.report()
        }
    }
}

impl Drop for Governed {
    fn drop(&mut self) {
        if let Some(whole) = &self.whole {
            whole.peers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
