//! What a source reports of the host and of a watched flow.
//!
//! Counters only grow and are never reset: keep the last sample and take the difference, so that
//! any number of readers can share a source. Gauges say so.

mod congestion;
mod pressure;
mod queue;

use std::sync::Arc;
use std::time::Duration;

pub use ebpf_congestion_signals_common::{Direction, DropClass, DropCounters, SendCounters};

pub use congestion::{LocalCongestion, QueueId, QueueSample};
pub use pressure::{BufferSample, PressurePeaks, PressureSample};
#[cfg(target_os = "linux")]
pub(crate) use queue::LIMITED_BY_BYTES;
pub use queue::{QdiscName, QueueLimit, QueueState, SojournSample};

/// A moment on the kernel's monotonic clock (`CLOCK_MONOTONIC`), as nanoseconds since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelTime(u64);

impl KernelTime {
    /// The moment this many nanoseconds after boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The moment this long before; that of boot when there is none.
    pub const fn before(self, time: Duration) -> Self {
        let nanos = time.as_nanos();
        if nanos >= self.0 as u128 {
            Self(0)
        } else {
            #[expect(clippy::cast_possible_truncation, reason = "less than a u64")]
            let nanos = nanos as u64;
            Self(self.0 - nanos)
        }
    }

    /// Time from `earlier` to this moment; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Where a sample came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SourceKind {
    /// Probes in the running kernel.
    Ebpf,
    /// The state of the program's own sockets, without privilege (`SocketSource`, Linux).
    Socket,
    /// A script of the program's own ([`MockSource`](crate::MockSource)).
    Mock,
    /// A recording (`ReplaySource`, with the feature `recording`).
    Replay,
}

impl SourceKind {
    /// Its name, as examples and logs print it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Socket => "socket",
            Self::Mock => "mock",
            Self::Replay => "replay",
        }
    }
}

impl std::fmt::Display for SourceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Dropped packets by direction and class. Counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropTable {
    counters: [[DropCounters; DropClass::COUNT]; Direction::COUNT],
}

impl DropTable {
    /// The counters of one direction and class.
    pub fn get(&self, direction: Direction, class: DropClass) -> DropCounters {
        self.counters[direction as usize][class as usize]
    }

    /// Adds to the counters of one direction and class.
    pub fn add(&mut self, direction: Direction, class: DropClass, more: DropCounters) {
        let counters = &mut self.counters[direction as usize][class as usize];
        *counters = sum(*counters, more);
    }

    /// The sum over all directions and classes.
    pub fn total(&self) -> DropCounters {
        self.counters
            .iter()
            .flatten()
            .copied()
            .fold(DropCounters::default(), sum)
    }

    /// The sum over all classes of one direction.
    pub fn direction(&self, direction: Direction) -> DropCounters {
        self.counters[direction as usize]
            .iter()
            .copied()
            .fold(DropCounters::default(), sum)
    }
}

pub(crate) fn sum(a: DropCounters, b: DropCounters) -> DropCounters {
    DropCounters {
        skbs: a.skbs.wrapping_add(b.skbs),
        packets: a.packets.wrapping_add(b.packets),
        bytes: a.bytes.wrapping_add(b.bytes),
    }
}

/// Drops of one reason. Counters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DropsByReason {
    /// The running kernel's name of the reason, without its prefix: `SOCKET_RCVBUFF`; `UNKNOWN`
    /// where the kernel reports none.
    pub reason: Arc<str>,
    /// The part of the kernel that the reason belongs to (its high 16 bits): 0 for the core's.
    pub subsystem: u16,
    /// Where in the kernel the packets were dropped, for the reason `NOT_SPECIFIED`: symbol and
    /// offset, as in a stack trace; the plain address where this process may not read
    /// `/proc/kallsyms`.
    pub location: Option<Arc<str>>,
    /// How much was dropped.
    pub drops: DropCounters,
}

impl DropsByReason {
    /// Drops for a reason of the kernel's core, without a location.
    pub fn new(reason: impl Into<Arc<str>>, drops: DropCounters) -> Self {
        Self {
            reason: reason.into(),
            subsystem: 0,
            location: None,
            drops,
        }
    }
}

/// Everything a source knows of a watched flow. `None` where this source or this kernel does not
/// know.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct FlowSample {
    /// Where the sample came from.
    pub source: SourceKind,
    /// When the sample was taken.
    pub taken: KernelTime,
    /// When the kernel last saw a packet of the flow, to the resolution of a kernel tick (1 to 10
    /// ms); `None` before the first.
    pub updated: Option<KernelTime>,
    /// Backlog and congestion drops.
    pub congestion: LocalCongestion,
    /// Whether the backlog in [`congestion`](Self::congestion) is estimated: a single peer's part
    /// of the socket's backlog, from the order in which datagrams were sent.
    pub is_backlog_estimated: bool,
    /// Payload bytes handed to a network device's queue, retransmissions of the transport
    /// included. Counter.
    pub sent_bytes: Option<u64>,
    /// Packets handed to it, segments of a GSO batch counted. Counter.
    pub sent_packets: Option<u64>,
    /// What the socket accepted from the program. `None` for a single peer's flow, and on
    /// kernels that do not report it.
    pub send: Option<SendCounters>,
    /// Details of the flow's egress queue; `None` while none is known.
    pub queue: Option<QueueState>,
    /// Time that packets spend in it.
    pub sojourn: Option<SojournSample>,
    /// Occupancy of the socket's buffers when last seen; `None` before the first time.
    pub buffers: Option<BufferSample>,
    /// The send buffer at each send of the socket. Not updated for a single peer's flow.
    pub send_pressure: PressureSample,
    /// The receive buffer at each receive of the socket. Not updated for a single peer's flow.
    pub receive_pressure: PressureSample,
    /// Drops of this flow's packets.
    pub drops: Option<DropTable>,
}

impl FlowSample {
    /// A sample of a flow that nothing is known of yet.
    pub fn empty(source: SourceKind) -> Self {
        Self {
            source,
            taken: KernelTime::default(),
            updated: None,
            congestion: LocalCongestion::default(),
            is_backlog_estimated: false,
            sent_bytes: None,
            sent_packets: None,
            send: None,
            queue: None,
            sojourn: None,
            buffers: None,
            send_pressure: PressureSample::default(),
            receive_pressure: PressureSample::default(),
            drops: None,
        }
    }
}

/// Time in network softirqs, of one CPU or summed over all. Counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftirqSample {
    /// Wall time in NET_RX.
    pub net_rx: Duration,
    /// Wall time in NET_TX.
    pub net_tx: Duration,
    /// Runs of both.
    pub runs: u64,
    /// Time from a softirq's raise to the entry of its handler, of both. One raise in eight is
    /// followed.
    pub wait: Duration,
    /// Raises that were followed.
    pub waits: u64,
    /// Polls of network devices outside of softirqs: threaded NAPI, busy polling. Their time is not
    /// part of this sample.
    pub polls_elsewhere: u64,
}

impl SoftirqSample {
    /// Time in both since an earlier sample.
    pub fn time_since(&self, earlier: &Self) -> Duration {
        (self.net_rx + self.net_tx).saturating_sub(earlier.net_rx + earlier.net_tx)
    }

    /// Time in both since an earlier sample as a share of the wall time between the two; of all
    /// CPUs together it can exceed 1.0.
    pub fn share_since(&self, earlier: &Self, wall: Duration) -> f64 {
        if wall.is_zero() {
            0.0
        } else {
            self.time_since(earlier).as_secs_f64() / wall.as_secs_f64()
        }
    }

    /// The mean wait since an earlier sample; `None` when nothing was raised since.
    pub fn mean_wait_since(&self, earlier: &Self) -> Option<Duration> {
        let waits = self.waits.saturating_sub(earlier.waits);
        let waits = u32::try_from(waits).unwrap_or(u32::MAX);
        self.wait.saturating_sub(earlier.wait).checked_div(waits)
    }
}

/// What a source knows of the whole host: sums over its CPUs. `None` where this source or this
/// kernel does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct HostSample {
    /// When the sample was taken.
    pub taken: KernelTime,
    /// Sends of UDP sockets, over IPv4 and IPv6.
    pub udp_send: Option<SendCounters>,
    /// Sends of TCP sockets, over IPv4 and IPv6.
    pub tcp_send: Option<SendCounters>,
    /// Drops of IP packets, with or without a socket.
    pub drops: Option<DropTable>,
    /// Time in network softirqs; in all softirqs, as NET_RX, where the source does not separate the
    /// network's (`SocketSource`).
    pub softirq: Option<SoftirqSample>,
    /// Packets of UDP sockets handed to devices, segments of a GSO batch counted. A packet that an
    /// upper device (VLAN, bond, bridge) hands on counts once.
    pub udp_packets: Option<u64>,
    /// The same of TCP sockets, acknowledgements and retransmissions included.
    pub tcp_packets: Option<u64>,
    /// Send buffer occupancy, at each send.
    pub pressure: Option<PressureSample>,
    /// Receive buffer occupancy, at each receive.
    pub receive_pressure: Option<PressureSample>,
    /// Events written for readers of [`SignalSource::events`](crate::SignalSource::events).
    /// Counter.
    pub events: u64,
    /// Events that were not written because there were too many in a second, or readers were too
    /// slow. Counter. The counters above stay exact.
    pub events_lost: u64,
    /// Drops missing in [`SignalSource::drops_by_reason`](crate::SignalSource::drops_by_reason)
    /// because its table was full. Counter. All other counters of drops include them.
    pub reasons_lost: u64,
}
