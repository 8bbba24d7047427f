//! Rare events that a source reports as they happen.

use async_trait::async_trait;

use crate::flow_id::FlowId;
use crate::sample::{Direction, DropClass, KernelTime};

/// Something that happened in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A packet was dropped.
    Drop(DropEvent),
    /// A socket's buffer crossed the pressure threshold.
    Pressure(PressureEvent),
    /// Events before this one are missing: too many in a second, or this reader was too slow.
    /// Counters in samples stay exact.
    Lost {
        /// How many.
        events: u64,
    },
}

/// A dropped packet, or batch of segments.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DropEvent {
    /// When.
    pub time: KernelTime,
    /// The watched flow it belonged to, if any.
    pub flow: Option<FlowId>,
    /// The running kernel's name of the reason, without its prefix: `SOCKET_RCVBUFF`.
    pub reason: std::sync::Arc<str>,
    /// What kind of reason that is.
    pub class: DropClass,
    /// Which way the packet was going.
    pub direction: Direction,
    /// Packets, segments of a batch counted.
    pub packets: u32,
    /// Bytes of the batch.
    pub bytes: u32,
    /// Kernel address behind the call that dropped it; its symbol is in `/proc/kallsyms`,
    /// which shows addresses to privileged readers only. 0 where the source has none.
    pub location: u64,
}

/// A socket's buffer crossed the pressure threshold: up at [`PRESSURE_HIGH`](crate::PRESSURE_HIGH),
/// down at [`PRESSURE_LOW`](crate::PRESSURE_LOW), at most once in 10 ms for a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PressureEvent {
    /// When.
    pub time: KernelTime,
    /// The watched flow of the socket.
    pub flow: Option<FlowId>,
    /// Which buffer.
    pub buffer: Buffer,
    /// Whether it rose over the threshold, or fell below it.
    pub crossing: Crossing,
    /// Bytes in the buffer (`truesize`).
    pub bytes: u32,
    /// Its limit in bytes.
    pub limit: u32,
}

/// One of a socket's two buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Buffer {
    /// The send buffer.
    Send,
    /// The receive buffer.
    Receive,
}

/// Which way a threshold was crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Crossing {
    /// The buffer fills.
    Up,
    /// The buffer empties.
    Down,
}

/// A reader's own stream of a source's events.
///
/// Every reader gets every event from its subscription on. A reader that falls behind gets
/// [`Event::Lost`] with the number it missed; it never holds back the source or other readers.
/// Order between CPUs is that of arrival, not of [`KernelTime`].
#[async_trait]
pub trait EventStream: Send {
    /// Waits for the next event; `None` once the source has ended. Cancel safe.
    async fn next(&mut self) -> Option<Event>;
}
