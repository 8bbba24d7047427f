//! The interface that every source of signals offers.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

#[cfg(all(feature = "ebpf", target_os = "linux"))]
use crate::ebpf::Counters;
use crate::error::{EventsError, WatchError};
use crate::event::EventStream;
use crate::flow_id::FlowId;
use crate::observer::SocketObserver;
use crate::sample::{
    DropsByReason, FlowSample, HostSample, LocalCongestion, SoftirqSample, SourceKind,
};
use crate::version::{Change, Version};

/// A source of signals about the host and about single flows.
///
/// Object-safe and meant to be shared: `Arc<dyn SignalSource>`. No method waits; events, which must
/// be waited for, come from a stream.
pub trait SignalSource: fmt::Debug + Send + Sync {
    /// Which kind of source this is.
    fn kind(&self) -> SourceKind;

    /// What this source reports on this host, and why it does not report the rest: one entry a
    /// signal.
    fn capabilities(&self) -> Vec<Capability>;

    /// The host's counters now. Reads mapped memory and the clock; a source without probes reads
    /// files in `/proc`. Not for a hot path.
    fn host(&self) -> HostSample;

    /// Drops by reason, under the running kernel's names (`SOCKET_RCVBUFF`), of one watched flow,
    /// or of the host for `None`; in no particular order. Makes system calls: not for a hot path.
    fn drops_by_reason(&self, flow: Option<FlowId>) -> Vec<DropsByReason>;

    /// Time in network softirqs, one entry each possible CPU, in the order of their numbers. Reads
    /// memory. Empty where the source does not know.
    fn softirq_by_cpu(&self) -> Vec<SoftirqSample> {
        Vec::new()
    }

    /// Begins to observe a flow, until the last handle of it is dropped. For a flow that is already
    /// observed, returns another handle with the same counters. If `target` is
    /// [sharing](WatchTarget::sharing), so is the flow from now on.
    ///
    /// Makes system calls. The cost does not depend on the number of flows.
    fn watch(&self, target: WatchTarget<'_>) -> Result<Watch, WatchError>;

    /// The observer to notify of what a program's own UDP socket sends and receives, for a source
    /// that learns from that; `None` from a source that does not need it. A peer in `socket` is
    /// ignored.
    ///
    /// May change options of the socket: see [`SocketObserver`] for how it then has to be used.
    fn observe_socket(
        &self,
        socket: WatchTarget<'_>,
    ) -> Result<Option<Arc<dyn SocketObserver>>, WatchError> {
        let _ = socket;
        Ok(None)
    }

    /// A new reader of the events from now on. Must be called within a tokio runtime whose I/O and
    /// time drivers are enabled.
    fn events(&self) -> Result<Box<dyn EventStream>, EventsError>;
}

/// A signal of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capability {
    /// What provides it: the name of a probe or of an interface.
    pub name: String,
    /// What it provides.
    pub gives: String,
    /// `None` if it works on this host, else why not, and what would change that.
    pub missing: Option<String>,
}

impl Capability {
    /// A signal that works when `missing` is `None`.
    pub fn new(name: impl Into<String>, gives: impl Into<String>, missing: Option<String>) -> Self {
        Self {
            name: name.into(),
            gives: gives.into(),
            missing,
        }
    }
}

/// What to watch: a socket, or one remote address of a socket.
#[derive(Clone, Copy, Debug)]
pub struct WatchTarget<'a> {
    #[cfg(unix)]
    socket: std::os::fd::BorrowedFd<'a>,
    #[cfg(not(unix))]
    socket: std::marker::PhantomData<&'a ()>,
    peer: Option<SocketAddr>,
    sharing: bool,
}

impl<'a> WatchTarget<'a> {
    /// A UDP or TCP socket, with all that it sends and receives. It must be bound.
    #[cfg(unix)]
    pub fn socket(socket: &'a impl std::os::fd::AsFd) -> Self {
        Self {
            socket: socket.as_fd(),
            peer: None,
            sharing: false,
        }
    }

    /// A UDP or TCP socket, with all that it sends and receives. It must be bound.
    #[cfg(not(unix))]
    pub fn socket<S>(_socket: &'a S) -> Self {
        Self {
            socket: std::marker::PhantomData,
            peer: None,
            sharing: false,
        }
    }

    /// Only traffic to and from this remote address: one peer of a server's socket. A link-local
    /// address belongs to the link of its scope.
    ///
    /// It is the address that packets have at the network device. Where this host translates
    /// destinations (NAT), a peer watched by the address that the program sends to reports nothing:
    /// no packet is observed, and it has no queue and no drops.
    pub fn peer(self, remote: SocketAddr) -> Self {
        Self {
            peer: Some(remote),
            ..self
        }
    }

    /// Counts the flow among those whose backlog is
    /// [`QueueSample::shared`](crate::QueueSample::shared). Governed flows are watched so: they
    /// share one limit. Not for a flow that fills the queue without a limit. A packet counts once,
    /// also where a socket and its peer are both sharing.
    pub fn sharing(self) -> Self {
        Self {
            sharing: true,
            ..self
        }
    }

    /// The socket, for a source that asks the kernel about it.
    #[cfg(unix)]
    pub fn fd(&self) -> std::os::fd::BorrowedFd<'a> {
        self.socket
    }

    /// The single remote address, where one is watched.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Whether the flow counts among the sharing ones.
    pub fn is_sharing(&self) -> bool {
        self.sharing
    }
}

/// Reads a watched flow. Implemented by sources; users hold a [`Watch`].
pub trait FlowReader: fmt::Debug + Send + Sync {
    /// The flow's identifier.
    fn id(&self) -> FlowId;

    /// What a congestion controller needs, now. Must not block, allocate or make a system call.
    fn congestion(&self) -> LocalCongestion;

    /// Everything known now. Must not block, allocate or make a system call.
    fn sample(&self) -> FlowSample;

    /// As [`congestion`](Self::congestion), with its version. A source that keeps none need not
    /// implement this.
    fn versioned(&self) -> (LocalCongestion, Version) {
        (self.congestion(), Version::UNKNOWN)
    }

    /// What has changed since a version. Returns [`Change::Any`] where the source keeps no
    /// versions.
    fn change_since(&self, version: &Version) -> Change {
        let _ = version;
        Change::Any
    }

    /// As [`LocalCongestion::seen_packets`], without reading the rest.
    fn seen_packets(&self) -> Option<u64> {
        self.congestion().seen_packets()
    }
}

/// A watched flow. Clones read the same flow; it is released with the last of them.
#[derive(Clone, Debug)]
pub struct Watch {
    reader: Arc<dyn FlowReader>,
    /// Of a flow in mapped memory; they are the reader's.
    #[cfg(all(feature = "ebpf", target_os = "linux"))]
    counters: Option<Counters>,
}

impl Watch {
    /// A handle over a source's reader.
    pub fn new(reader: Arc<dyn FlowReader>) -> Self {
        Self {
            reader,
            #[cfg(all(feature = "ebpf", target_os = "linux"))]
            counters: None,
        }
    }

    /// The same, of a reader whose versions are compared by these counters.
    #[cfg(all(feature = "ebpf", target_os = "linux"))]
    pub(crate) fn with_counters(reader: Arc<dyn FlowReader>, counters: Counters) -> Self {
        Self {
            reader,
            counters: Some(counters),
        }
    }

    /// The flow's identifier, as events name it.
    pub fn id(&self) -> FlowId {
        self.reader.id()
    }

    /// What a congestion controller needs, now: a few loads from mapped memory. Wait-free; no
    /// system call, no allocation.
    #[inline]
    pub fn congestion(&self) -> LocalCongestion {
        self.reader.congestion()
    }

    /// As [`congestion`](Self::congestion), with its version.
    #[inline]
    pub fn versioned(&self) -> (LocalCongestion, Version) {
        self.reader.versioned()
    }

    /// What has changed since a version of this flow: three or four loads, where the source keeps
    /// versions.
    #[inline]
    pub fn change_since(&self, version: &Version) -> Change {
        #[cfg(all(feature = "ebpf", target_os = "linux"))]
        if let Some(counters) = &self.counters {
            return counters.change_since(version);
        }
        self.reader.change_since(version)
    }

    /// As [`LocalCongestion::seen_packets`], without reading the rest.
    #[inline]
    pub fn seen_packets(&self) -> Option<u64> {
        self.reader.seen_packets()
    }

    /// Everything known of the flow now. Wait-free; no system call, no allocation.
    pub fn sample(&self) -> FlowSample {
        self.reader.sample()
    }
}

/// A flow's congestion state, read again only when it has changed.
#[derive(Clone, Debug)]
pub struct CongestionReader {
    watch: Watch,
    version: Version,
    congestion: LocalCongestion,
}

impl CongestionReader {
    /// A reader of this flow.
    pub fn new(watch: Watch) -> Self {
        let (congestion, version) = watch.versioned();
        Self {
            watch,
            version,
            congestion,
        }
    }

    /// The state now. Wait-free; no system call, no allocation.
    #[inline]
    pub fn read(&mut self) -> &LocalCongestion {
        if self.watch.change_since(&self.version) != Change::Nothing {
            self.read_anew();
        }
        &self.congestion
    }

    /// Apart, so that reading what has not changed saves no registers for it.
    #[cold]
    #[inline(never)]
    fn read_anew(&mut self) {
        (self.congestion, self.version) = self.watch.versioned();
    }
}
