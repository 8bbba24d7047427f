//! The ring buffer: a bounded number of edges a second, the rest counted.

use ebpf_congestion_signals_common::{EventKind, FlowRef, RawEvent};

use crate::atomic::add;
use crate::kernel::fact;
use crate::maps::{self, EVENTS};

/// Writes an event, unless there were too many in this second or the ring is full: both counted.
/// `fill` writes every field, into the ring itself: the stack of a probe is small.
#[inline(always)]
pub fn write(now: u64, fill: impl FnOnce(*mut RawEvent)) {
    let Some(host) = maps::host() else { return };
    // SAFETY: fields of this CPU's slot, whose window no other CPU writes.
    unsafe {
        if !(*host).window.admit(now, fact!(events_per_second)) {
            add(&raw mut (*host).events_limited, 1);
        } else if let Some(mut place) = EVENTS.reserve::<RawEvent>(0) {
            fill(place.as_mut_ptr());
            place.submit(0);
            add(&raw mut (*host).events, 1);
        } else {
            add(&raw mut (*host).events_ring_full, 1);
        }
    }
}

/// Reports a buffer that crossed its threshold.
#[inline(always)]
pub fn pressure(kind: EventKind, now: u64, flow: FlowRef, bytes: u32, limit: u32) {
    write(now, |event| {
        // SAFETY: a record reserved in the ring.
        unsafe {
            event.write(RawEvent {
                time_ns: now,
                kind: kind as u32,
                slot: flow.index(),
                generation: flow.generation,
                bytes,
                limit,
                ..RawEvent::default()
            });
        }
    });
}
