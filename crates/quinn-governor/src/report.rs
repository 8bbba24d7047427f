//! What the governor did.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ebpf_congestion_signals::SourceKind;

use crate::fallback::Fallbacks;
use crate::time::Span;

/// What the governor did so far, and how recent its signals are. Counters start at zero;
/// [`Governors::report`](crate::Governors::report) includes closed connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GovernorReport {
    /// Controllers of open connections that have sent something. Gauge.
    pub controllers: u64,
    /// Times that a window was reduced at once because this host's queue dropped a datagram. A few
    /// after a change of the path are healthy; many in a minute mean that the queue is shorter than
    /// bursts, or that competing traffic fills it.
    pub local_drop_reductions: u64,
    /// Times that slow start was ended because this host's queue had filled. At most one for each
    /// start of a connection.
    pub slow_start_exits: u64,
    /// Time that the window was below the base controller's, summed over connections: ten
    /// connections capped for a second each add ten seconds. Zero where this host's queue is not
    /// the bottleneck.
    pub capped: Duration,
    /// Times that a controller found the signals stale or missing and left the window to the base
    /// controller. Healthy: 0, or one for each connection when a device, a route or an address
    /// changed.
    pub stale_periods: u64,
    /// Times that the receive windows of a socket's connections were reduced because the socket's
    /// receive buffer overflowed. One or two a minute are healthy where the receiver is the
    /// bottleneck.
    pub receive_reductions: u64,
    /// Datagrams that the kernel refused to send for a reason other than a full send buffer.
    /// Healthy: a few for each connection (MTU probes).
    pub refused_datagrams: u64,
    /// How often connections ran without a governor of their own, by cause. Healthy: 0.
    pub fallbacks: Fallbacks,
    /// Where the signals come from; `None` without signals.
    pub source: Option<SourceKind>,
    /// Time since the kernel last observed a packet of the flow, or of any of several flows; `None`
    /// if it never did.
    pub observation_age: Option<Duration>,
}

/// Counters behind a [`GovernorReport`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    controllers: AtomicU64,
    local_drop_reductions: AtomicU64,
    slow_start_exits: AtomicU64,
    capped_nanos: AtomicU64,
    stale_periods: AtomicU64,
    refused: AtomicU64,
    receive_reductions: AtomicU64,
}

impl Counters {
    pub(crate) fn report(&self) -> GovernorReport {
        GovernorReport {
            controllers: self.controllers.load(Ordering::Relaxed),
            local_drop_reductions: self.local_drop_reductions.load(Ordering::Relaxed),
            slow_start_exits: self.slow_start_exits.load(Ordering::Relaxed),
            capped: Duration::from_nanos(self.capped_nanos.load(Ordering::Relaxed)),
            stale_periods: self.stale_periods.load(Ordering::Relaxed),
            receive_reductions: self.receive_reductions.load(Ordering::Relaxed),
            refused_datagrams: self.refused.load(Ordering::Relaxed),
            fallbacks: Fallbacks::default(),
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

    pub(crate) fn capped_for(&self, time: Span) {
        self.capped_nanos.fetch_add(time.nanos(), Ordering::Relaxed);
    }

    /// Whether any window was ever capped.
    pub(crate) fn has_capped(&self) -> bool {
        self.capped_nanos.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn stale_period(&self) {
        self.stale_periods.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, datagrams: u64) {
        self.refused.fetch_add(datagrams, Ordering::Relaxed);
    }

    pub(crate) fn receive_reductions(&self, reductions: u64) {
        self.receive_reductions
            .fetch_add(reductions, Ordering::Relaxed);
    }
}
