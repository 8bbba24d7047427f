//! The ring buffer: a bounded number of edges a second, the rest counted.

use ebpf_congestion_signals_common::{EventKind, RawEvent};

use crate::atomic::add;
use crate::kernel::fact;
use crate::maps::{self, EVENTS};

/// Writes an event, unless there were too many in this second or the ring is full: both counted.
#[inline(always)]
pub fn write(event: &RawEvent) {
    let Some(host) = maps::host() else { return };
    // SAFETY: fields of this CPU's slot, whose window no other CPU writes.
    unsafe {
        if !(*host)
            .window
            .admit(event.time_ns, fact!(events_per_second))
        {
            add(&raw mut (*host).events_limited, 1);
        } else if let Some(mut place) = EVENTS.reserve::<RawEvent>(0) {
            place.write(*event);
            place.submit(0);
            add(&raw mut (*host).events, 1);
        } else {
            add(&raw mut (*host).events_ring_full, 1);
        }
    }
}

/// Reports a buffer that crossed its threshold.
#[inline(always)]
pub fn pressure(kind: EventKind, now: u64, slot: u32, bytes: u32, limit: u32) {
    write(&RawEvent {
        time_ns: now,
        kind: kind as u32,
        slot,
        bytes,
        limit,
        ..RawEvent::default()
    });
}
