//! The factory that a transport configuration takes.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use ebpf_congestion_signals::{SignalSource, Watch};
use quinn_proto::congestion::{Controller, ControllerFactory};

use crate::config::GovernorConfig;
use crate::controller::GovernedController;
use crate::decisions::Decisions;
use crate::flow::Flow;
use crate::queue_limit::QueueLimit;
use crate::report::{Counters, GovernorReport};

/// A base controller's factory, shared.
pub type BaseFactory = Arc<dyn ControllerFactory + Send + Sync>;

/// Builds controllers for the connections of one watched flow: give it to
/// [`TransportConfig::congestion_controller_factory`].
///
/// [`TransportConfig::congestion_controller_factory`]: quinn_proto::TransportConfig::congestion_controller_factory
///
/// Made by [`Governors`](crate::Governors), or by [`Governor::ungoverned`] without any signals.
pub struct Governor {
    base: BaseFactory,
    governed: Option<Arc<Governed>>,
    decisions: Decisions,
}

impl Governor {
    /// A governor without signals: its controllers are those of `base`, not even wrapped.
    pub fn ungoverned(base: BaseFactory) -> Arc<Self> {
        Arc::new(Self {
            base,
            governed: None,
            decisions: Decisions::default(),
        })
    }

    pub(crate) fn new(base: BaseFactory, governed: Governed) -> Arc<Self> {
        Arc::new(Self {
            base,
            governed: Some(Arc::new(governed)),
            decisions: Decisions::default(),
        })
    }

    /// The same, for the next connection, whose decisions go to this log.
    #[cfg(feature = "qlog")]
    pub fn logged(&self, log: &crate::DecisionLog) -> Arc<Self> {
        Arc::new(Self {
            base: Arc::clone(&self.base),
            governed: self.governed.clone(),
            decisions: Decisions::logged(log.clone()),
        })
    }

    /// Whether its connections are governed.
    pub fn is_governed(&self) -> bool {
        self.governed.is_some()
    }

    /// The watched flow; `None` without signals.
    pub fn watch(&self) -> Option<&Watch> {
        self.governed.as_ref().map(|governed| &governed.watch)
    }

    /// What it did so far.
    pub fn report(&self) -> GovernorReport {
        self.governed
            .as_ref()
            .map(|governed| governed.report())
            .unwrap_or_default()
    }

    pub(crate) fn governed(&self) -> Option<&Arc<Governed>> {
        self.governed.as_ref()
    }
}

impl ControllerFactory for Governor {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let base = Arc::clone(&self.base).build(now, current_mtu);
        match &self.governed {
            Some(governed) => Box::new(GovernedController::new(
                base,
                Arc::clone(governed),
                current_mtu,
                self.decisions.clone(),
            )),
            None => base,
        }
    }
}

impl fmt::Debug for Governor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Governor")
            .field("watch", &self.watch())
            .field("report", &self.report())
            .finish_non_exhaustive()
    }
}

/// What the controllers of one flow have in common.
#[derive(Debug)]
pub(crate) struct Governed {
    pub(crate) config: GovernorConfig,
    pub(crate) source: Arc<dyn SignalSource>,
    pub(crate) watch: Watch,
    pub(crate) flow: Flow,
    /// By the index of the queue; shared with all flows of the source.
    pub(crate) queues: Arc<[QueueLimit]>,
    counters: Counters,
    /// The sums over all flows of the source.
    sums: Arc<Counters>,
}

impl Governed {
    pub(crate) fn new(
        config: GovernorConfig,
        source: Arc<dyn SignalSource>,
        watch: Watch,
        queues: Arc<[QueueLimit]>,
        sums: Arc<Counters>,
    ) -> Self {
        let start = watch.congestion();
        Self {
            config,
            source,
            flow: Flow::new(start.seen_packets(), start.queue_drops),
            watch,
            queues,
            counters: Counters::default(),
            sums,
        }
    }

    /// Counts for this flow and in sum.
    pub(crate) fn count(&self, count: impl Fn(&Counters)) {
        count(&self.counters);
        count(&self.sums);
    }

    pub(crate) fn report(&self) -> GovernorReport {
        let age = self
            .watch
            .sample()
            .updated
            .map(|updated| self.source.host().taken.since(updated));
        GovernorReport {
            source: Some(self.source.kind()),
            observation_age: age,
            ..self.counters.report()
        }
    }
}
