//! The records that the probes of `ebpf-congestion-signals` share with user space.
//!
//! All state of the probes lives in one array map of equally sized slots, which user space maps
//! read-only. The array holds, in this order, one [`HostSlot`] for each possible CPU, then
//! [`QUEUE_SLOTS`] times a [`QueueSlot`], then one [`FlowSlot`] for each flow that can be watched;
//! [`Layout`] has the index of each. Slots are written by the probes alone. Counters only ever
//! grow; gauges say so.
//!
//! Rules of this ABI: `repr(C)`, no implicit padding, no `bool`, no `Option`; sizes and alignment
//! are asserted at compile time. The probes and the user space that loads them are always built
//! from the same version of this crate, so nothing here is negotiated.
#![no_std]
#![forbid(unsafe_code)]

mod event;
mod kernel;
mod key;
mod limiter;
mod pressure;
mod slot;

pub use event::{DecodeError, EVENT_BYTES, EventKind, RawEvent};
pub use kernel::{ABSENT, KernelOffsets};
pub use key::{
    COOKIE_BUCKETS, FLOW_IS_SHARED, FlowAddress, FlowRef, LocalKey, PeerKey, QUEUE_BUCKETS,
    QueueEntry, ReasonKey, SocketEntry, cookie_bucket, queue_bucket,
};
pub use limiter::EventWindow;
pub use pressure::{PRESSURE_ONE, Peak, Pressure, SPAN_SHIFT, SPANS, peak, position, span};
pub use slot::{
    BufferGauges, CORE_REASONS, Direction, DropClass, DropCounters, FLOW_QUEUES, FlowSlot,
    HostSlot, InQueue, Layout, QDISC_NAME_BYTES, QUEUE_SLOTS, QueueSlot, REASON_IS_KNOWN,
    REASON_OF_QDISC, SLOT_BYTES, SOJOURNS_ONE_IN, SendCounters, Socket, SoftirqCounters,
    SojournCounters, WAITS_ONE_IN,
};
