//! The slot of a queue: which queue discipline it belongs to, and how much that holds.

use ebpf_congestion_signals_common::QueueSlot;

use crate::atomic::{add, get, set};
use crate::kernel::{Qdisc, TBF};
use crate::maps::{self, FREE_QUEUES, QUEUES, Transit};

/// Flags of `struct Qdisc`: its statistics are kept per CPU, it takes no lock.
const TCQ_F_CPUSTATS: u32 = 0x20;
const TCQ_F_NOLOCK: u32 = 0x100;

/// `map_update_elem` only if the key is new.
const BPF_NOEXIST: u64 = 1;

/// Gives a queue slot to `qdisc`; `None` when all are taken.
#[inline(always)]
pub fn adopt(qdisc: Qdisc) -> Option<u32> {
    let index = FREE_QUEUES.pop().ok()??;
    if QUEUES.insert(qdisc.address(), index, BPF_NOEXIST).is_err() {
        // Another CPU was faster.
        let _ = FREE_QUEUES.push(index, 0);
        // SAFETY: the value is copied at once.
        let index = unsafe { QUEUES.get(qdisc.address()) }.copied()?;
        maps::remember_queue(qdisc.address(), index);
        return Some(index);
    }
    let queue = maps::queue(index)?;
    // SAFETY: fields of a slot.
    unsafe {
        set(&raw mut (*queue).qdisc, qdisc.address());
        let came_in = get(&raw const (*queue).enqueued);
        set(&raw mut (*queue).dequeued, came_in);
        let came_in = get(&raw const (*queue).enqueued_packets);
        set(&raw mut (*queue).dequeued_packets, came_in);
        set(&raw mut (*queue).requeues, qdisc.requeues());
        set(&raw mut (*queue).requeued, 0);
        set(&raw mut (*queue).backlog, qdisc.backlog() as u64);
        set(&raw mut (*queue).filled, 1);
    }
    drained(queue);
    identify(qdisc, queue);
    maps::remember_queue(qdisc.address(), index);
    Some(index)
}

/// Reads kind and limit of a queue once a tick: the limit can be changed while it works.
#[inline(always)]
pub fn identify_now_and_then(qdisc: Qdisc, queue: *mut QueueSlot, transit: *mut Transit) {
    let tick = maps::tick(transit);
    // SAFETY: fields of a slot.
    unsafe {
        if get(&raw const (*queue).identified) == tick {
            return;
        }
        set(&raw mut (*queue).identified, tick);
    }
    identify(qdisc, queue);
}

#[inline(always)]
fn identify(qdisc: Qdisc, queue: *mut QueueSlot) {
    let kind = qdisc.kind();
    let (limit, child) = if kind[0] == TBF {
        match maps::tbf_child().and_then(|offset| qdisc.bucket_child(offset)) {
            Some(child) => (child.limit(), child.kind),
            None => (0, 0),
        }
    } else {
        (qdisc.limit(), 0)
    };
    // SAFETY: fields of a slot.
    unsafe {
        set(&raw mut (*queue).handle, qdisc.handle());
        set(&raw mut (*queue).ifindex, qdisc.dev().ifindex());
        // A reader never sees a limit together with another kind.
        set(&raw mut (*queue).limit, 0);
        set((&raw mut (*queue).kind).cast::<u64>(), kind[0]);
        set((&raw mut (*queue).kind).cast::<u64>().add(1), kind[1]);
        set(&raw mut (*queue).child, child);
        set(&raw mut (*queue).limit, limit);
    }
}

#[inline(always)]
pub fn is_lockless(qdisc: Qdisc) -> bool {
    qdisc.flags() & (TCQ_F_CPUSTATS | TCQ_F_NOLOCK) != 0
}

/// Updates the backlog in the slot: the queue discipline's own figure where it keeps one, else ours.
/// Returns the bytes.
#[inline(always)]
pub fn gauge(qdisc: Qdisc, queue: *mut QueueSlot, is_lockless: bool) -> u64 {
    // SAFETY: fields of a slot.
    unsafe {
        let (backlog, packets) = if is_lockless {
            (
                inside(&raw const (*queue).enqueued, &raw const (*queue).dequeued),
                inside(
                    &raw const (*queue).enqueued_packets,
                    &raw const (*queue).dequeued_packets,
                ),
            )
        } else {
            (qdisc.backlog() as u64, qdisc.qlen() as u64)
        };
        set(&raw mut (*queue).backlog, backlog);
        set(&raw mut (*queue).packets, packets);
        backlog
    }
}

/// What entered and has not left; 0 if more was seen to leave than to enter.
#[inline(always)]
fn inside(entered: *const u64, left: *const u64) -> u64 {
    let inside = get(entered).wrapping_sub(get(left));
    if (inside as i64) < 0 { 0 } else { inside }
}

/// The queue is empty: nothing that was counted in is still there.
#[inline(always)]
pub fn drained(queue: *mut QueueSlot) {
    // SAFETY: fields of a slot.
    unsafe {
        if get(&raw const (*queue).filled) == 0 {
            return;
        }
        set(&raw mut (*queue).filled, 0);
        let enqueued = get(&raw const (*queue).enqueued);
        set(&raw mut (*queue).dequeued, enqueued);
        let packets = get(&raw const (*queue).enqueued_packets);
        set(&raw mut (*queue).dequeued_packets, packets);
        let shared = get(&raw const (*queue).shared_entered);
        set(&raw mut (*queue).shared_left, shared);
        add(&raw mut (*queue).drained, 1);
    }
}

/// Raises the slot's version, after everything else that changes for its readers.
#[inline(always)]
pub fn changed(queue: *mut QueueSlot) {
    // SAFETY: a field of a slot.
    unsafe { add(&raw mut (*queue).changes, 1) };
}
