//! How full buffers are: sums for an average, and peaks of the last second.

use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_ns};
use ebpf_congestion_signals_common::{PRESSURE_ONE, Peak, Pressure, position, span};

use crate::atomic::{add, get, set};

/// Occupancy as a share of the limit.
#[inline(always)]
pub fn share(bytes: u32, limit: u32) -> u32 {
    if bytes == 0 || limit == 0 {
        return 0;
    }
    (bytes as u64 * PRESSURE_ONE as u64 / limit as u64) as u32
}

/// Counts a sample of a buffer, weighted by the samples that were skipped.
#[inline(always)]
pub fn note(pressure: *mut Pressure, share: u32, every: u32) {
    // SAFETY: fields of a slot.
    unsafe {
        if share != 0 {
            add(&raw mut (*pressure).sum, share as u64 * every as u64);
        }
        add(&raw mut (*pressure).samples, every as u64);
    }
    note_peak(pressure, share);
}

#[inline(always)]
fn note_peak(pressure: *mut Pressure, share: u32) {
    if share == 0 {
        return;
    }
    let span = span_now(pressure);
    // SAFETY: a place is below the number of spans.
    unsafe {
        let peak: *mut Peak = (&raw mut (*pressure).peaks)
            .cast::<Peak>()
            .add(position(span));
        if get(&raw const (*peak).span) != span {
            set(&raw mut (*peak).share, share);
            set(&raw mut (*peak).span, span);
        } else if share > get(&raw const (*peak).share) {
            set(&raw mut (*peak).share, share);
        }
    }
}

/// The span that it is now. A tick of the kernel is a small part of one and costs a load to read,
/// the time ten times as much.
#[inline(always)]
fn span_now(pressure: *mut Pressure) -> u32 {
    // SAFETY: helpers without preconditions, and fields of a slot.
    unsafe {
        let tick = bpf_jiffies64() as u32;
        if tick != get(&raw const (*pressure).tick) {
            set(&raw mut (*pressure).span, span(bpf_ktime_get_ns()));
            set(&raw mut (*pressure).tick, tick);
        }
        get(&raw const (*pressure).span)
    }
}
