//! A watched flow, shared by the controllers that use its signals.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ebpf_congestion_signals::{SourceKind, Watch};

use super::totals::FlowTotals;
use crate::law::{Check, Sent};
use crate::receive::SocketReceiving;
use crate::report::{Counters, GovernorReport};

/// A flow that the source watches: of a whole socket, or of one peer of a socket.
#[derive(Debug)]
pub(crate) struct WatchedFlow {
    pub(crate) watch: Watch,
    /// Shared with other `Governors` over the same source.
    pub(crate) totals: Arc<FlowTotals>,
    /// Of one peer: the flow of the socket, which has the same packets too.
    socket: Option<Arc<WatchedFlow>>,
    /// Of a socket: how many of its peers have flows of their own.
    peers: AtomicU32,
    /// Of a socket: what governs what its connections receive.
    pub(crate) receiving: SocketReceiving,
    source: SourceKind,
    counters: Counters,
    /// Those of all flows.
    pub(crate) sums: Arc<Counters>,
}

impl WatchedFlow {
    pub(crate) fn new(
        watch: Watch,
        totals: Arc<FlowTotals>,
        socket: Option<Arc<WatchedFlow>>,
        source: SourceKind,
        sums: Arc<Counters>,
    ) -> Self {
        if let Some(socket) = &socket {
            socket.peers.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            watch,
            totals,
            socket,
            peers: AtomicU32::new(0),
            receiving: SocketReceiving::default(),
            source,
            counters: Counters::default(),
            sums,
        }
    }

    /// The flow of the whole socket: itself, unless it is a peer's.
    pub(crate) fn of_socket(&self) -> &Self {
        self.socket.as_deref().unwrap_or(self)
    }

    /// Whether peers of this socket have flows of their own.
    pub(crate) fn has_peers(&self) -> bool {
        self.peers.load(Ordering::Relaxed) > 0
    }

    /// One more controller sends on this flow.
    pub(crate) fn join(&self) {
        self.for_each_total(FlowTotals::join);
    }

    pub(crate) fn leave(&self) {
        self.for_each_total(FlowTotals::leave);
    }

    /// Counts datagrams that are about to be sent, before which the source had observed so many
    /// packets of this flow.
    pub(crate) fn on_sent(&self, datagrams: u64, observed: u64) -> Sent {
        if let Some(socket) = &self.socket {
            socket.totals.on_sent(datagrams, 0);
        }
        self.totals.on_sent(datagrams, observed)
    }

    /// Updates the totals: whether what was acknowledged had been observed.
    pub(crate) fn on_check(&self, check: Check) {
        if let (Check::ObservedBut(lost), Some(socket)) = (check, &self.socket) {
            socket.totals.forget(lost);
        }
        self.totals.on_check(check);
    }

    /// Subtracts packets that will never be observed from the totals.
    pub(crate) fn forget(&self, packets: u64) {
        if packets > 0 {
            self.for_each_total(|totals| totals.forget(packets));
        }
    }

    fn for_each_total(&self, change: impl Fn(&FlowTotals)) {
        if let Some(socket) = &self.socket {
            change(&socket.totals);
        }
        change(&self.totals);
    }

    /// Counts for this flow and in the sums over all flows.
    pub(crate) fn count(&self, count: impl Fn(&Counters)) {
        count(&self.counters);
        count(&self.sums);
    }

    /// Time since the kernel last observed the flow; `None` when it never did.
    pub(crate) fn observation_age(&self) -> Option<Duration> {
        let sample = self.watch.sample();
        Some(sample.taken.since(sample.updated?))
    }

    pub(crate) fn report(&self) -> GovernorReport {
        GovernorReport {
            source: Some(self.source),
            observation_age: self.observation_age(),
            ..self.counters.report()
        }
    }
}

impl Drop for WatchedFlow {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            socket.peers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
