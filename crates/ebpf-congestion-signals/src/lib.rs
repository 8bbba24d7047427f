//! What the Linux kernel knows about congestion on its own host, for user space transports.

mod error;
mod event;
mod fanout;
mod mock;
mod sample;
mod source;

pub use error::{EventsError, WatchError};
pub use event::{Buffer, Crossing, DropEvent, Event, EventStream, PressureEvent};
pub use mock::{MockFlow, MockSource};
pub use sample::{
    BufferGauges, Direction, DropClass, DropCounters, DropTable, FlowSample, HostSample,
    KernelTime, LocalCongestion, QueueId, QueueSample, SendCounters, SourceKind,
};
pub use source::{Capability, FlowId, FlowReader, SignalSource, Watch, WatchTarget};

/// Share of a buffer's limit at which a [`PressureEvent`] is reported on the way up.
pub const PRESSURE_HIGH: f64 = 0.75;

/// Share of a buffer's limit at which a [`PressureEvent`] is reported on the way down, lower than
/// [`PRESSURE_HIGH`] so that a buffer around one value reports one crossing.
pub const PRESSURE_LOW: f64 = 0.5;
