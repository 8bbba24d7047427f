//! What the Linux kernel knows about congestion on its own host, for user space transports.

#[cfg(all(feature = "ebpf", target_os = "linux"))]
#[doc(hidden)]
pub mod btf;
mod collector;
#[cfg(all(feature = "ebpf", target_os = "linux"))]
mod drop_class;
#[cfg(all(feature = "ebpf", target_os = "linux"))]
mod ebpf;
mod error;
mod event;
mod fanout;
mod mock;
mod sample;
mod signals;
mod source;

#[cfg(all(feature = "ebpf", target_os = "linux"))]
pub use btf::BtfError;
pub use collector::CongestionCollector;
#[cfg(all(feature = "ebpf", target_os = "linux"))]
pub use ebpf::{EbpfOptions, EbpfSource, ProbeCost};
#[cfg(all(feature = "ebpf", target_os = "linux"))]
pub use error::LoadError;
pub use error::{EventsError, WatchError};
pub use event::{Buffer, Crossing, DropEvent, Event, EventStream, PressureEvent};
pub use mock::{MockFlow, MockSource};
pub use sample::{
    BufferGauges, Direction, DropClass, DropCounters, DropTable, FlowSample, HostSample,
    KernelTime, LocalCongestion, PressureSample, QueueId, QueueSample, SendCounters, SoftirqSample,
    SourceKind,
};
pub use signals::CongestionSignals;
pub use source::{Capability, FlowId, FlowReader, SignalSource, Watch, WatchTarget};

/// Share of a buffer's limit at which a [`PressureEvent`] is reported on the way up.
pub const PRESSURE_HIGH: f64 = 0.75;

/// Share of a buffer's limit at which a [`PressureEvent`] is reported on the way down, lower than
/// [`PRESSURE_HIGH`] so that a buffer around one value reports one crossing.
pub const PRESSURE_LOW: f64 = 0.5;
