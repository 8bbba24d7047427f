//! Time in the network's softirqs.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use ebpf_congestion_signals_common::{SoftirqCounters, WAITS_ONE_IN};

use crate::atomic::{add, get};
use crate::maps::{self, SoftirqState};

/// Numbers of the softirqs (`include/linux/interrupt.h`), unchanged since 2.6.
const NET_TX_SOFTIRQ: u32 = 2;
const NET_RX_SOFTIRQ: u32 = 3;

/// A softirq is asked for on this CPU.
#[inline(always)]
pub fn raised(vector: u32) {
    let Some(state) = state(vector) else {
        return;
    };
    // SAFETY: fields of this CPU's own record, and a helper without preconditions.
    unsafe {
        let raises = (*state).raises.wrapping_add(1);
        (*state).raises = raises;
        if raises % WAITS_ONE_IN == 1 && (*state).raised == 0 {
            (*state).raised = bpf_ktime_get_ns();
        }
    }
}

/// A handler begins on this CPU. Softirqs of one CPU do not nest.
#[inline(always)]
pub fn entered(vector: u32) {
    let Some(state) = state(vector) else {
        return;
    };
    // SAFETY: fields of a slot and of this CPU's own record, and a helper without preconditions.
    unsafe {
        // Read before the time: a hard interrupt may raise the softirq between the two.
        let raised = get(&raw const (*state).raised);
        let now = bpf_ktime_get_ns();
        (*state).since = now;
        if raised != 0
            && let Some(counters) = counters(vector)
        {
            (*state).raised = 0;
            add(&raw mut (*counters).wait_ns, now.wrapping_sub(raised));
            add(&raw mut (*counters).waits, 1);
        }
    }
}

/// The handler has ended.
#[inline(always)]
pub fn left(vector: u32) {
    let (Some(state), Some(counters)) = (state(vector), counters(vector)) else {
        return;
    };
    // SAFETY: as above.
    unsafe {
        let since = (*state).since;
        // Entered before the probes were attached.
        if since == 0 {
            return;
        }
        add(&raw mut (*counters).ns, bpf_ktime_get_ns() - since);
        add(&raw mut (*counters).runs, 1);
        (*state).since = 0;
    }
}

/// A device was polled on this CPU. Outside of NET_RX its time is not counted: the device's own thread
/// polls (threaded NAPI), or the receiving process does (busy polling).
#[inline(always)]
pub fn polled() {
    let (Some(state), Some(host)) = (state(NET_RX_SOFTIRQ), maps::host()) else {
        return;
    };
    // SAFETY: fields of a slot and of this CPU's own record.
    unsafe {
        if (*state).since == 0 {
            add(&raw mut (*host).polls_elsewhere, 1);
        }
    }
}

#[inline(always)]
fn state(vector: u32) -> Option<*mut SoftirqState> {
    match vector {
        NET_RX_SOFTIRQ => maps::softirq(0),
        NET_TX_SOFTIRQ => maps::softirq(1),
        _ => None,
    }
}

#[inline(always)]
fn counters(vector: u32) -> Option<*mut SoftirqCounters> {
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
