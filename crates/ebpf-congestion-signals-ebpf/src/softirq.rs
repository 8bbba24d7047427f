//! Time in the network's softirqs.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use ebpf_congestion_signals_common::{SoftirqCounters, WAITS_ONE_IN};

use crate::atomic::{add, get, set};
use crate::maps;

/// Numbers of the softirqs (`include/linux/interrupt.h`), unchanged since 2.6.
const NET_TX_SOFTIRQ: u32 = 2;
const NET_RX_SOFTIRQ: u32 = 3;

/// A softirq is asked for on this CPU.
#[inline(always)]
pub fn raised(vector: u32) {
    let Some(counters) = counters(vector) else {
        return;
    };
    // SAFETY: a field of a slot, and a helper without preconditions.
    unsafe {
        let raises = get(&raw const (*counters).raises) + 1;
        set(&raw mut (*counters).raises, raises);
        if raises % WAITS_ONE_IN == 1 && get(&raw const (*counters).raised) == 0 {
            set(&raw mut (*counters).raised, bpf_ktime_get_ns());
        }
    }
}

/// A handler begins on this CPU. Softirqs of one CPU do not nest.
#[inline(always)]
pub fn entered(vector: u32) {
    let Some(counters) = counters(vector) else {
        return;
    };
    // SAFETY: fields of a slot, and a helper without preconditions.
    unsafe {
        let now = bpf_ktime_get_ns();
        let raised = get(&raw const (*counters).raised);
        set(&raw mut (*counters).since, now);
        if raised != 0 {
            set(&raw mut (*counters).raised, 0);
            add(&raw mut (*counters).wait_ns, now - raised);
            add(&raw mut (*counters).waits, 1);
        }
    }
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
