//! The factory of controllers that a transport configuration takes.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use ebpf_congestion_signals::Watch;
use quinn_proto::congestion::{Controller, ControllerFactory};

use crate::controller::GovernedController;
use crate::decisions::Decisions;
use crate::flow::WatchedFlow;
use crate::report::GovernorReport;
use crate::shared::Shared;

/// A base controller's factory, shared.
pub type BaseFactory = Arc<dyn ControllerFactory + Send + Sync>;

/// Builds governed controllers. Pass it to [`TransportConfig::congestion_controller_factory`], or
/// let [`Governors::govern`](crate::Governors::govern) do that.
///
/// [`TransportConfig::congestion_controller_factory`]: quinn_proto::TransportConfig::congestion_controller_factory
pub struct Factory {
    base: BaseFactory,
    signals: Signals,
    decisions: Decisions,
}

/// Which signals its controllers use.
#[derive(Clone)]
enum Signals {
    /// None: they are the base's, not even wrapped.
    None,
    /// Those of the flow that their connection's socket chooses.
    Socket(Arc<Shared>),
    /// Those of one flow.
    Flow(Arc<Shared>, Arc<WatchedFlow>),
}

impl Factory {
    /// A factory without signals: its controllers are those of `base`, not even wrapped.
    pub fn ungoverned(base: BaseFactory) -> Arc<Self> {
        Self::new(base, Signals::None)
    }

    pub(crate) fn by_socket(base: BaseFactory, shared: Arc<Shared>) -> Arc<Self> {
        Self::new(base, Signals::Socket(shared))
    }

    pub(crate) fn by_flow(
        base: BaseFactory,
        shared: Arc<Shared>,
        flow: Arc<WatchedFlow>,
    ) -> Arc<Self> {
        Self::new(base, Signals::Flow(shared, flow))
    }

    fn new(base: BaseFactory, signals: Signals) -> Arc<Self> {
        Arc::new(Self {
            base,
            signals,
            decisions: Decisions::default(),
        })
    }

    /// The same, for one connection, whose decisions go to this log.
    #[cfg(feature = "qlog")]
    pub fn logged(&self, log: &crate::DecisionLog) -> Arc<Self> {
        Arc::new(Self {
            base: Arc::clone(&self.base),
            signals: self.signals.clone(),
            decisions: Decisions::logged(log.clone()),
        })
    }

    /// Whether its connections are governed, if their socket is.
    pub fn is_governed(&self) -> bool {
        !matches!(self.signals, Signals::None)
    }

    /// The watched flow, where it is for one flow.
    pub fn watch(&self) -> Option<&Watch> {
        match &self.signals {
            Signals::Flow(_, flow) => Some(&flow.watch),
            Signals::None | Signals::Socket(_) => None,
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn flow(&self) -> Option<&Arc<WatchedFlow>> {
        match &self.signals {
            Signals::Flow(_, flow) => Some(flow),
            Signals::None | Signals::Socket(_) => None,
        }
    }

    /// What it did so far for its flow; for a factory that serves any flow, what all governors did.
    pub fn report(&self) -> GovernorReport {
        match &self.signals {
            Signals::None => GovernorReport::default(),
            Signals::Socket(shared) => GovernorReport {
                source: Some(shared.state.source.kind()),
                ..shared.sums.report()
            },
            Signals::Flow(_, flow) => flow.report(),
        }
    }
}

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let base = Arc::clone(&self.base).build(now, current_mtu);
        let (shared, flow) = match &self.signals {
            Signals::None => return base,
            Signals::Socket(shared) => (Arc::clone(shared), None),
            Signals::Flow(shared, flow) => (Arc::clone(shared), Some(Arc::clone(flow))),
        };
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
