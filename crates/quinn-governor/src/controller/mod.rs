//! The law as a quinn controller: translates its calls, and nothing else.

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
use crate::governor::Governed;
use crate::kept::{AtomicMarks, KeptWindow};
use crate::law::{self, Law};
use crate::report::GovernorReport;
use crate::seat::Seat;
use crate::shared::Shared;
use crate::time::Time;

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
    pub fn of(connection: &::quinn::Connection) -> Option<Box<Self>> {
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

    fn hides_growth(&self) -> bool {
        self.law.hides_growth(|| self.base_state())
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

    /// What bounds the window, but for a reduction.
    fn state(&self) -> State {
        if self.law.is_free() {
            State::Base
        } else {
            State::Capped
        }
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
