//! What a flow has in each queue that it is in.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use ebpf_congestion_signals_common::{
    FLOW_QUEUES, FlowRef, FlowSlot, InQueue, QueueSlot, SOJOURNS_ONE_IN,
};

use crate::atomic::{add, get, raise, set};
use crate::kernel::Skb;
use crate::maps::{self, Transit};
use crate::owner::Owner;

/// A queue, and its index among the queues.
#[derive(Clone, Copy)]
pub struct Place {
    pub index: u32,
    pub slot: *mut QueueSlot,
}

/// A packet or batch that enters a queue.
#[derive(Clone, Copy)]
pub struct Entry {
    /// As the queue discipline counts them.
    pub bytes: u32,
    /// Address of what will leave last of it; 0: not known, or the queue does not keep order.
    pub followed: u64,
    /// By what the queue may keep it apart from others; 0 where that is not known.
    pub order: u32,
}

/// A packet of these flows enters a queue.
#[inline(always)]
pub fn enter(owner: *const Owner, place: Place, mut entry: Entry, transit: *mut Transit) {
    entry.followed = maps::forgotten(transit, entry.followed);
    for which in 0..2 {
        let (whose, shared) = Owner::flow(owner, which);
        flow_enters(whose, place, entry, shared, transit);
    }
}

#[inline(always)]
fn flow_enters(whose: FlowRef, place: Place, entry: Entry, shared: bool, transit: *mut Transit) {
    let Some(flow) = maps::flow(whose) else {
        return;
    };
    let Some((record, number)) = find_or_make(flow, place, transit) else {
        return uncounted(flow);
    };
    // SAFETY: fields of slots, and a helper without preconditions.
    unsafe {
        if get(&raw const (*flow).queue) != number {
            set(&raw mut (*flow).queue, number);
            raise(&raw mut (*flow).changes);
        }
        if get(&raw const (*flow).uncounted) != 0 {
            set(&raw mut (*flow).uncounted, 0);
            raise(&raw mut (*flow).changes);
        }
        share(record, place.slot, shared);
        let before = get(&raw const (*record).entered);
        if entry.order != 0 && get(&raw const (*record).order) != entry.order {
            set(&raw mut (*record).order, entry.order);
            set(&raw mut (*record).order_since, before);
        }
        add(&raw mut (*record).entered, entry.bytes as u64);
        if shared {
            add(&raw mut (*place.slot).shared_entered, entry.bytes as u64);
        }
        follow(flow, record, before, &entry);
    }
}

/// The flow is in a queue that it cannot be counted in.
#[inline(always)]
pub fn uncounted(flow: *mut FlowSlot) {
    // SAFETY: fields of a slot.
    unsafe {
        set(&raw mut (*flow).uncounted, 1);
        raise(&raw mut (*flow).changes);
    }
}

/// Begins to follow a packet where none is followed.
#[inline(always)]
fn follow(flow: *mut FlowSlot, record: *mut InQueue, before: u64, entry: &Entry) {
    // SAFETY: fields of slots, and a helper without preconditions.
    unsafe {
        let until_due = get(&raw const (*flow).sojourn.until_due).saturating_sub(1);
        set(&raw mut (*flow).sojourn.until_due, until_due);
        let followed = get(&raw const (*record).followed);
        let left = get(&raw const (*record).left);
        let is_timed = until_due == 0;
        if followed != 0 {
            // It left unseen if its address is in use again, or what came in behind it has left.
            let behind = left.wrapping_sub(get(&raw const (*record).followed_end));
            let is_gone = followed == entry.followed || behind as i64 > 0;
            let gives_way = is_timed && get(&raw const (*record).followed_since) == 0;
            if !is_gone && !gives_way {
                return;
            }
            set(&raw mut (*record).followed, 0);
        }
        // Of what the queue may keep apart, some may leave behind what came in later.
        let in_order = left.wrapping_sub(get(&raw const (*record).order_since)) as i64 >= 0;
        if entry.followed == 0 || !in_order {
            return;
        }
        set(&raw mut (*record).followed_end, before + entry.bytes as u64);
        let since = if is_timed {
            set(&raw mut (*flow).sojourn.until_due, SOJOURNS_ONE_IN);
            bpf_ktime_get_ns()
        } else {
            0
        };
        set(&raw mut (*record).followed_since, since);
        set(&raw mut (*record).followed, entry.followed);
    }
}

/// A packet of these flows leaves a queue for the device.
#[inline(always)]
pub fn leave(owner: *const Owner, place: Place, skb: Skb, transit: *mut Transit) {
    let now = maps::tick_time(transit);
    let bytes = skb.pkt_len();
    let address = maps::forgotten(transit, skb.address());
    for which in 0..2 {
        let (whose, shared) = Owner::flow(owner, which);
        flow_leaves(whose, place, bytes, shared, address, now, transit);
    }
}

#[inline(always)]
fn flow_leaves(
    whose: FlowRef,
    place: Place,
    bytes: u32,
    shared: bool,
    skb: u64,
    now: u64,
    transit: *mut Transit,
) {
    let Some(flow) = maps::flow(whose) else {
        return;
    };
    // SAFETY: a field of a slot.
    unsafe { set(&raw mut (*flow).updated_ns, now) };
    let Some(record) = find(flow, place, transit) else {
        return;
    };
    // SAFETY: fields of slots, and a helper without preconditions.
    unsafe {
        share(record, place.slot, shared);
        add(&raw mut (*record).left, bytes as u64);
        if shared {
            add(&raw mut (*place.slot).shared_left, bytes as u64);
        }
        if get(&raw const (*record).followed) != skb {
            return;
        }
        set(&raw mut (*record).followed, 0);
        let end = get(&raw const (*record).followed_end);
        let off = end.wrapping_sub(get(&raw const (*record).left));
        if off != 0 {
            set(&raw mut (*record).left, end);
            if shared {
                add(&raw mut (*place.slot).shared_left, off);
            }
            let by = if (off as i64) < 0 {
                0u64.wrapping_sub(off)
            } else {
                off
            };
            add(&raw mut (*flow).corrected, by);
        }
        let since = get(&raw const (*record).followed_since);
        if since != 0 {
            let sojourn = bpf_ktime_get_ns().wrapping_sub(since);
            set(&raw mut (*flow).sojourn.last_ns, sojourn);
            add(&raw mut (*flow).sojourn.sum_ns, sojourn);
            add(&raw mut (*flow).sojourn.samples, 1);
        }
    }
}

/// A packet of these flows was dropped after it had entered the queue.
#[inline(always)]
pub fn drop_inside(owner: *const Owner, place: Place, skb: Skb, transit: *mut Transit) {
    let bytes = skb.pkt_len();
    let address = maps::forgotten(transit, skb.address());
    for which in 0..2 {
        let (whose, shared) = Owner::flow(owner, which);
        flow_drops(whose, place, bytes, shared, address, transit);
    }
}

#[inline(always)]
fn flow_drops(
    whose: FlowRef,
    place: Place,
    bytes: u32,
    shared: bool,
    skb: u64,
    transit: *mut Transit,
) {
    let Some(flow) = maps::flow(whose) else {
        return;
    };
    let Some(record) = find(flow, place, transit) else {
        return;
    };
    // SAFETY: fields of slots.
    unsafe {
        share(record, place.slot, shared);
        add(&raw mut (*record).left, bytes as u64);
        if shared {
            add(&raw mut (*place.slot).shared_left, bytes as u64);
        }
        if get(&raw const (*record).followed) == skb {
            set(&raw mut (*record).followed, 0);
        }
    }
}

/// Whether `bytes` of a flow, or more, are in some queue.
#[inline(always)]
pub fn holds(whose: FlowRef, place: Place, bytes: u32, transit: *mut Transit) -> bool {
    let Some(flow) = maps::flow(whose) else {
        return false;
    };
    let Some(record) = find(flow, place, transit) else {
        return false;
    };
    // SAFETY: fields of a slot.
    unsafe { inside(record) >= bytes as i64 }
}

/// Counts what the flow has inside as shared from now on, or no longer.
#[inline(always)]
fn share(record: *mut InQueue, queue: *mut QueueSlot, shared: bool) {
    // SAFETY: fields of slots.
    unsafe {
        if get(&raw const (*record).shared) == shared as u32 {
            return;
        }
        set(&raw mut (*record).shared, shared as u32);
        let bytes = inside(record);
        if bytes > 0 {
            let counter = if shared {
                &raw mut (*queue).shared_entered
            } else {
                &raw mut (*queue).shared_left
            };
            add(counter, bytes as u64);
        }
    }
}

#[inline(always)]
unsafe fn inside(record: *mut InQueue) -> i64 {
    // SAFETY: fields of a slot.
    unsafe {
        let entered = get(&raw const (*record).entered);
        entered.wrapping_sub(get(&raw const (*record).left)) as i64
    }
}

/// The record of a queue, while it is of what the queue holds now.
#[inline(always)]
fn find(flow: *mut FlowSlot, place: Place, transit: *mut Transit) -> Option<*mut InQueue> {
    let mut number = last(flow, place);
    if number == FLOW_QUEUES {
        number = 0;
        while number < FLOW_QUEUES {
            // SAFETY: an element of an array of a slot.
            let queue = unsafe { get(&raw const (*flow).queues[number].queue) };
            if queue == place.index + 1 {
                break;
            }
            number += 1;
        }
        if number == FLOW_QUEUES {
            return None;
        }
        number = maps::forgotten(transit, number);
    }
    let record = element(flow, number);
    // SAFETY: fields of slots.
    let is_current = unsafe {
        get(&raw const (*record).generation) == get(&raw const (*place.slot).generation)
            && get(&raw const (*record).drained) == get(&raw const (*place.slot).drained)
    };
    if is_current { Some(record) } else { None }
}

/// The number of the record of the queue that the flow entered last, if that is this queue; else
/// `FLOW_QUEUES`.
#[inline(always)]
fn last(flow: *mut FlowSlot, place: Place) -> usize {
    // SAFETY: fields of a slot.
    unsafe {
        let number = get(&raw const (*flow).queue).wrapping_sub(1) as usize % FLOW_QUEUES;
        if get(&raw const (*element(flow, number)).queue) == place.index + 1 {
            number
        } else {
            FLOW_QUEUES
        }
    }
}

/// A record by its number, of which the verifier knows no more than its range: it verifies what comes
/// next once, and not for each number.
#[inline(always)]
fn element(flow: *mut FlowSlot, number: usize) -> *mut InQueue {
    const { assert!(FLOW_QUEUES.is_power_of_two()) };
    // SAFETY: an element of an array of a slot.
    unsafe {
        (&raw mut (*flow).queues)
            .cast::<InQueue>()
            .add(number % FLOW_QUEUES)
    }
}

/// The record of a queue and its number, from one on: one that is empty is taken for it where it has
/// none. `None` where all are of other queues that hold packets of the flow.
#[inline(always)]
fn find_or_make(
    flow: *mut FlowSlot,
    place: Place,
    transit: *mut Transit,
) -> Option<(*mut InQueue, u32)> {
    let mut free = last(flow, place);
    // SAFETY: elements of an array of a slot, and fields of slots.
    unsafe {
        if free == FLOW_QUEUES {
            let mut number = 0;
            while number < FLOW_QUEUES {
                let record = &raw mut (*flow).queues[number];
                let queue = get(&raw const (*record).queue);
                if queue == place.index + 1 {
                    free = number;
                    break;
                }
                if free == FLOW_QUEUES && (queue == 0 || inside(record) <= 0) {
                    free = number;
                }
                number += 1;
            }
            if free == FLOW_QUEUES {
                return None;
            }
            free = maps::forgotten(transit, free);
        }
        let record = element(flow, free);
        let number = free as u32 + 1;
        let generation = get(&raw const (*place.slot).generation);
        let drained = get(&raw const (*place.slot).drained);
        let is_other = get(&raw const (*record).queue) != place.index + 1
            || get(&raw const (*record).generation) != generation;
        if is_other || get(&raw const (*record).drained) != drained {
            let entered = get(&raw const (*record).entered);
            set(&raw mut (*record).left, entered);
            set(&raw mut (*record).order_since, entered);
            set(&raw mut (*record).followed, 0);
            set(&raw mut (*record).shared, 0);
            set(&raw mut (*record).drained, drained);
            set(&raw mut (*record).generation, generation);
            set(&raw mut (*record).queue, place.index + 1);
        }
        if is_other {
            raise(&raw mut (*flow).changes);
        }
        Some((record, number))
    }
}
