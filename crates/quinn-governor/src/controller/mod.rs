//! A controller of quinn's that caps the window of another one.

mod quinn;
mod sampling;
mod window;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use ebpf_congestion_signals::Watch;
use quinn_proto::congestion::Controller;

use crate::base::BaseKind;
use crate::base_clock::BaseClock;
use crate::binding::Binding;
use crate::decisions::{Decisions, State};
use crate::flow::WatchedFlow;
use crate::flow_handle::FlowHandle;
use crate::law::{self, Law};
use crate::report::GovernorReport;
use crate::shared::Shared;
use crate::time::Time;
use crate::window_cache::{AtomicCapEffects, WindowCache};

/// A controller that caps the window of a base controller: what a [`Factory`](crate::Factory)
/// builds.
///
/// Reach a connection's with [`GovernedController::of`].
pub struct GovernedController {
    base: Box<dyn Controller>,
    clock: BaseClock,
    law: Law,
    /// Between the first `on_ack` of a received packet and its `on_end_acks`.
    in_acks: bool,
    effects: AtomicCapEffects,
    cache: WindowCache,
    decisions: Decisions,
    flow: FlowHandle,
    /// Through which the socket chooses the flow; `None` where the flow is fixed.
    binding: Option<Arc<Binding>>,
    /// Bytes that the peer has to acknowledge until its address counts as validated.
    bytes_to_validate: u32,
    /// While the signals are not trusted: when this was last checked, and the packets that the source
    /// had observed then.
    unobserved_since: Option<(Time, u64)>,
    /// Packets that the source had observed at the last sample.
    observed: u64,
}

impl GovernedController {
    /// Over `base`, with the signals of `flow`, or else of the flow that the socket chooses.
    pub(crate) fn new(
        base: Box<dyn Controller>,
        shared: Arc<Shared>,
        flow: Option<Arc<WatchedFlow>>,
        mtu: u16,
        decisions: Decisions,
    ) -> Self {
        let binding = flow.is_none().then(Arc::default);
        let config = shared.config;
        let mut flow = FlowHandle::new(shared, flow);
        if binding.is_none() {
            flow.join();
        }
        let start = flow.signals(u64::from(mtu)).unwrap_or_default();
        Self {
            law: Law::new(config, BaseKind::of(&*base), mtu, &start),
            bytes_to_validate: bytes_to_validate(&*base),
            base,
            clock: BaseClock::default(),
            in_acks: false,
            effects: AtomicCapEffects::default(),
            cache: WindowCache::default(),
            decisions,
            flow,
            binding,
            unobserved_since: None,
            observed: 0,
        }
    }

    /// A copy of a connection's controller, for reading its state; `None` where the connection has
    /// a controller of another type.
    pub fn of(connection: &::quinn::Connection) -> Option<Box<Self>> {
        connection.congestion_state().into_any().downcast().ok()
    }

    /// The base controller.
    pub fn base(&self) -> &dyn Controller {
        &*self.base
    }

    /// The flow whose signals it uses; `None` before the connection has sent anything, and while its
    /// socket is not watched.
    pub fn watch(&self) -> Option<&Watch> {
        self.flow.watch()
    }

    /// The flow of the socket that the connection uses.
    pub(crate) fn socket_flow(&self) -> Option<&WatchedFlow> {
        self.flow.watched().map(WatchedFlow::of_socket)
    }

    /// What was done for all connections of that flow.
    pub fn flow_report(&self) -> GovernorReport {
        self.flow
            .watched()
            .map(WatchedFlow::report)
            .unwrap_or_default()
    }

    /// Whether the window is, or may be, less than the base controller's.
    pub fn is_in_force(&self) -> bool {
        !self.law.is_free()
    }

    /// The time that the base controller is given.
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
        // Metrics cost more than a window: read only where slow start can matter.
        let slow_start = !self.law.is_free()
            && self
                .base
                .metrics()
                .ssthresh
                .is_some_and(|threshold| window < threshold);
        law::Base { window, slow_start }
    }

    fn suppresses_growth(&self) -> bool {
        self.law.suppresses_growth(|| self.base_state())
    }

    /// Uses another flow's signals: after a rebind of the socket, and when the peer has another
    /// address or gets a flow of its own.
    #[cold]
    pub(crate) fn change_flow(&mut self, now: Instant, flow: Arc<WatchedFlow>) {
        self.flow.change_flow(flow);
        self.effects.clear();
        self.cache = WindowCache::default();
        self.unobserved_since = None;
        if let Some(signals) = self.flow.signals(self.law.mtu()) {
            self.law.on_new_flow(self.flow.time(now), &signals);
        }
    }

    /// What bounds the window at present.
    fn state(&self) -> State {
        if self.law.is_free() {
            State::Base
        } else {
            State::Capped
        }
    }
}

/// What a peer has to acknowledge until its address counts as validated: a first window.
fn bytes_to_validate(base: &dyn Controller) -> u32 {
    u32::try_from(base.initial_window()).unwrap_or(u32::MAX)
}

impl fmt::Debug for GovernedController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GovernedController")
            .field("law", &self.law)
            .finish_non_exhaustive()
    }
}
