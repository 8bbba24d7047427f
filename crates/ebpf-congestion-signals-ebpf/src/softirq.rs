//! Time in the network's softirqs.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use ebpf_congestion_signals_common::SoftirqCounters;

use crate::atomic::{add, get, set};
use crate::maps;

/// Numbers of the softirqs (`include/linux/interrupt.h`), unchanged since 2.6.
const NET_TX_SOFTIRQ: u32 = 2;
const NET_RX_SOFTIRQ: u32 = 3;

/// A handler begins on this CPU. Softirqs of one CPU do not nest.
#[inline(always)]
pub fn entered(vector: u32) {
    let Some(counters) = counters(vector) else {
        return;
    };
    // SAFETY: a field of a slot, and a helper without preconditions.
    unsafe { set(&raw mut (*counters).since, bpf_ktime_get_ns()) };
}

/// The handler has ended.
#[inline(always)]
pub fn left(vector: u32) {
    let Some(counters) = counters(vector) else {
        return;
    };
    // SAFETY: fields of a slot, and a helper without preconditions.
    unsafe {
        let since = get(&raw const (*counters).since);
        // Entered before the probes were attached.
        if since == 0 {
            return;
        }
        add(&raw mut (*counters).ns, bpf_ktime_get_ns() - since);
        add(&raw mut (*counters).runs, 1);
        set(&raw mut (*counters).since, 0);
    }
}

#[inline(always)]
fn counters(vector: u32) -> Option<*mut SoftirqCounters> {
    if vector != NET_RX_SOFTIRQ && vector != NET_TX_SOFTIRQ {
        return None;
    }
    let host = maps::host()?;
    // SAFETY: fields of a slot.
    Some(unsafe {
        if vector == NET_RX_SOFTIRQ {
            &raw mut (*host).net_rx
        } else {
            &raw mut (*host).net_tx
        }
    })
}
