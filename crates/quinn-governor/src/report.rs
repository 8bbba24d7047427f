//! What the governor did.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ebpf_congestion_signals::SourceKind;

/// What a governor did so far, and how fresh what it knows is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GovernorReport {
    /// Controllers alive.
    pub controllers: u64,
    /// Reductions made at once because the host's queue dropped a datagram.
    pub local_drop_reductions: u64,
    /// Slow starts ended because the host's queue had filled.
    pub slow_start_exits: u64,
    /// Time that the window was under the base controller's, summed over controllers.
    pub capped: Duration,
    /// Times that a controller found the signals stale, lost or contradictory and let base decide
    /// alone.
    pub blind_periods: u64,
    /// Where the signals come from; `None` without signals.
    pub source: Option<SourceKind>,
    /// Time since the kernel last observed the flow (of several: the freshest); `None` when it
    /// never did.
    pub observation_age: Option<Duration>,
}

/// Counters behind a [`GovernorReport`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    controllers: AtomicU64,
    local_drop_reductions: AtomicU64,
    slow_start_exits: AtomicU64,
    capped_nanos: AtomicU64,
    blind_periods: AtomicU64,
}

impl Counters {
    pub(crate) fn report(&self) -> GovernorReport {
        GovernorReport {
            controllers: self.controllers.load(Ordering::Relaxed),
            local_drop_reductions: self.local_drop_reductions.load(Ordering::Relaxed),
            slow_start_exits: self.slow_start_exits.load(Ordering::Relaxed),
            capped: Duration::from_nanos(self.capped_nanos.load(Ordering::Relaxed)),
            blind_periods: self.blind_periods.load(Ordering::Relaxed),
            source: None,
            observation_age: None,
        }
    }

    pub(crate) fn controller_built(&self) {
        self.controllers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn controller_gone(&self) {
        self.controllers.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn local_drop_reduction(&self) {
        self.local_drop_reductions.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn slow_start_exit(&self) {
        self.slow_start_exits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn capped_for(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.capped_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(crate) fn blind_period(&self) {
        self.blind_periods.fetch_add(1, Ordering::Relaxed);
    }
}
