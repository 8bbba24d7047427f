//! What the Linux kernel knows about congestion on its own host, for user space transports.
//!
//! A TCP socket learns in the same call that its own host dropped its segment or has a full queue.
//! A transport over UDP does not: `sendmsg` answers success for a datagram that the queue behind
//! it threw away. This crate reports it, from probes in the kernel that count into memory which the
//! program maps: reading is a few loads, without a system call, a lock or an allocation.
//!
//! ```no_run
//! use std::net::UdpSocket;
//! use ebpf_congestion_signals::{EbpfSource, SignalSource, WatchTarget};
//!
//! let socket = UdpSocket::bind("0.0.0.0:0")?;
//! let source = EbpfSource::load()?;
//! let watch = source.watch(WatchTarget::socket(&socket))?;
//! // ... send ...
//! let now = watch.congestion();
//! if let Some(drops) = now.queue_drops {
//!     println!("{drops} datagrams dropped by a full queue of this host");
//! }
//! if let Some((own, total)) = now.queue.and_then(|queue| queue.own.zip(queue.total)) {
//!     println!("{own} of {total} bytes in the queue are ours");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`SignalSource`] is what every source offers: [`EbpfSource`] (probes, Linux), `SocketSource`
//!   (what a program may know of its own sockets without privilege, Linux), [`MockSource`]
//!   (whatever a test says). [`best_source`] picks the best that works.
//! - [`Watch`] reads one flow: a UDP socket, or one remote address of it.
//! - [`HostSample`] is the whole host; [`CongestionCollector`] gives it as plain numbers for an
//!   interval.
//! - [`EventStream`] reports edges as they happen: a drop, a buffer that fills.
//!
//! Loading probes needs the capabilities CAP_BPF and CAP_PERFMON, which [`LoadError`] says if they
//! are missing; nothing afterwards does. A signal that the running kernel cannot have is absent
//! (`None`), never zero, and [`SignalSource::capabilities`] says why.
//!
//! # How it counts
//!
//! The probes are BTF tracepoints. Where structures lie and what numbers mean is read from the
//! running kernel's BTF when they load, so one object serves every kernel. A watched socket is
//! found by its cookie; a packet that has lost its socket (a segment of a split batch, a packet
//! that arrives) by its addresses. Sockets that share a local address (SO_REUSEPORT) cannot be
//! distinguished then, and such packets are counted for none of them.
//!
//! What a queue holds is the queue discipline's own figure. What a flow has in it is counted at
//! enqueue and dequeue, in the same bytes, in up to four queues at a time. One packet of the flow
//! is followed by its address: when it leaves, what is left of the flow is what came in behind it,
//! so a miscount heals within the time that a packet waits. A device without a queue (loopback) has
//! no backlog to report.
//!
//! A packet counts once, however many devices of this host it passes: bridges, tunnels, the host's
//! side of a container's veth pair. A drop is reported to its sender wherever on this host it happens,
//! as long as the packet keeps its sender's socket. It loses it where another network namespace
//! routes it, or a firewall looks at bridged packets (`bridge-nf-call-iptables`): such a drop is the
//! host's alone ([`Direction::Forwarded`]), and what it had queued there is not in `own`.
//!
//! What can not be seen: drops by XDP in a driver; a peer by another address than packets have when
//! they come to a device (destination NAT); where Linux dequeues packets without a tracepoint, as
//! 6.18 does with a few in a thousand, packets that an upper device's queue hands on.
//!
//! # Features
//!
//! - `ebpf` (default): [`EbpfSource`]. Without it `SocketSource` remains; on systems other than
//!   Linux, [`MockSource`] and all types do.
//! - `recording`: `Recorder` writes samples to a file, and `ReplaySource` says again what is in one.
//! - `validate`: the program of that name, which checks a host. It adds nothing to the library.

#[cfg(all(feature = "ebpf", target_os = "linux"))]
#[doc(hidden)]
pub mod btf;
mod choice;
#[cfg(target_os = "linux")]
mod clock;
mod collector;
#[cfg(all(feature = "ebpf", target_os = "linux"))]
mod drop_class;
#[cfg(all(feature = "ebpf", target_os = "linux"))]
mod ebpf;
mod error;
mod event;
mod fanout;
mod flow_id;
#[cfg(target_os = "linux")]
mod inet;
mod mock;
mod observer;
#[cfg(feature = "recording")]
mod recording;
mod sample;
mod shortage;
mod signals;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub mod socket;
mod source;
mod symbols;
#[cfg(feature = "recording")]
mod targets;
mod version;

#[cfg(all(feature = "ebpf", target_os = "linux"))]
pub use btf::BtfError;
pub use choice::{Choice, Refusal, best_source};
pub use collector::CongestionCollector;
#[cfg(all(feature = "ebpf", target_os = "linux"))]
pub use ebpf::{CostAccounting, EbpfOptions, EbpfSource, ProbeCost, Signal};
#[cfg(all(feature = "testing", target_os = "linux"))]
#[doc(hidden)]
pub use ebpf::{MemoryFlow, MemorySource};
#[cfg(all(feature = "ebpf", target_os = "linux"))]
pub use error::LoadError;
pub use error::{EventsError, WatchError};
pub use event::{Buffer, Crossing, DropEvent, Event, EventStream, PressureEvent};
pub use flow_id::FlowId;
pub use mock::{MockFlow, MockSource};
pub use observer::{AfterSend, SendOutcome, SocketObserver, SocketSend};
#[cfg(feature = "recording")]
pub use recording::{Recorder, ReplayError, ReplaySource};
pub use sample::{
    BufferSample, Direction, DropClass, DropCounters, DropTable, DropsByReason, FlowSample,
    HostSample, KernelTime, LocalCongestion, PressurePeaks, PressureSample, QdiscName, QueueId,
    QueueLimit, QueueSample, QueueState, SendCounters, SoftirqSample, SojournSample, SourceKind,
};
pub use signals::CongestionSignals;
#[cfg(target_os = "linux")]
pub use socket::{NetworkError, SocketSource};
pub use source::{Capability, CongestionReader, FlowReader, SignalSource, Watch, WatchTarget};
pub use symbols::KernelSymbols;
pub use version::{Change, Version};

/// Share of a buffer's limit at which a [`PressureEvent`] is reported on the way up.
pub const PRESSURE_HIGH: f64 = 0.75;

/// Share of a buffer's limit at which a [`PressureEvent`] is reported on the way down, lower than
/// [`PRESSURE_HIGH`] so that a buffer around one value reports one crossing.
pub const PRESSURE_LOW: f64 = 0.5;

/// The example in this package's README compiles.
#[cfg(all(doctest, unix))]
#[doc = include_str!("../README.md")]
struct Readme;
