//! What the Linux kernel knows about congestion on its own host, for user space transports.
//!
//! When the queue of its own host drops a segment, TCP learns of it in the same call. A transport
//! over UDP does not: `sendmsg` succeeds for a datagram that the local queue drops. This crate
//! reports such drops, and the backlog. Probes in the kernel count into memory that the program
//! maps: reading is a few loads, without a system call, a lock or an allocation.
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
//! - [`SignalSource`] is the interface of every source: [`EbpfSource`] (probes, Linux),
//!   `SocketSource` (the state of the program's own sockets, without privilege, Linux),
//!   [`MockSource`] (scripted by a test). [`best_source`] picks the best that works.
//! - [`Watch`] reads one flow: a UDP socket, or one remote address of it.
//! - [`HostSample`] has the counters of the whole host; [`CongestionCollector`] gives their
//!   differences over an interval as plain numbers.
//! - [`EventStream`] reports rare events as they happen: a drop, a buffer that fills.
//!
//! Loading probes needs the capabilities CAP_BPF and CAP_PERFMON; reading them needs no privilege.
//! If loading fails, [`LoadError`] says what is missing. A signal that the running kernel cannot
//! provide is absent (`None`), never zero, and [`SignalSource::capabilities`] says why.
//!
//! # How it counts
//!
//! The probes are programs on BTF tracepoints. Struct offsets and enum values are read from the
//! running kernel's BTF at load, so one object serves every kernel. A packet is matched to a
//! watched socket by the socket's cookie, or by its addresses where the packet has no socket (a
//! segment of a split GSO batch, a received packet). Sockets that share a local address
//! (SO_REUSEPORT) cannot be distinguished by address: such packets are counted for none of them.
//!
//! A queue's total backlog is the queue discipline's own figure. A flow's part of it is counted at
//! enqueue and dequeue, in the same bytes, in up to four queues at a time. The probes follow one
//! packet of the flow through the queue: when it leaves, the flow's backlog is what entered after
//! it, so a miscount lasts no longer than a packet waits. A device without a queue (loopback) has
//! no backlog to report.
//!
//! A packet counts once, however many devices of this host it passes: bridges, tunnels, the host's
//! side of a container's veth pair. A drop is reported to its sender wherever on this host it
//! happens, as long as the packet keeps its sender's socket. A packet loses its socket where
//! another network namespace routes it, or where bridged packets pass the firewall
//! (`bridge-nf-call-iptables`): such a drop counts for the host only ([`Direction::Forwarded`]),
//! and backlog there is not in `own`.
//!
//! Not observed: drops by XDP in a driver; a peer whose address is changed before packets reach the
//! device ([destination NAT](WatchTarget::peer)); packets that a softirq sends on while the kernel
//! runs no BPF programs. A kernel can be built so, for certain tasks; Debian's are not.
//!
//! # Features
//!
//! - `ebpf` (default): [`EbpfSource`]. Without it `SocketSource` remains. Systems other than Linux
//!   have [`MockSource`] only.
//! - `recording`: `Recorder` writes samples to a file, and `ReplaySource` replays them.
//! - `validate`: builds the program of that name, which checks a host. Adds nothing to the library.

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
