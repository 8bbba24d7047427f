//! Packets enter and leave the queues of this host: what each holds, and what of it belongs to watched
//! flows.
//!
//! A queue's backlog is the queue discipline's own figure. A flow's part is counted in bytes at enqueue
//! and dequeue, which most queue disciplines do under one lock; see
//! [`InQueue`](ebpf_congestion_signals_common::InQueue) for how a miscount heals. Lockless ones
//! (pfifo_fast) keep their figures for each CPU, and may run these probes on two CPUs at once: there,
//! the backlog is what was counted in and not out, and is corrected when the queue runs empty.

use ebpf_congestion_signals_common::{ABSENT, QueueSlot};

use crate::atomic::{add, get, set};
use crate::attribution;
use crate::buffers::{self, Departed};
use crate::in_queue::{self, Entry, Place};
use crate::kernel::{NETEM, Qdisc, Skb, TBF, fact, read};
use crate::maps::{self, BULK, FREE_QUEUES, InTransit, Transit};
use crate::owner::Owner;
use crate::queue_slot::{adopt, changed, drained, gauge, identify_now_and_then, is_lockless};

/// `qdisc` took `skb`, which may be freed already: split into segments by the queue discipline,
/// or sent by another CPU.
#[inline(always)]
pub fn enqueued(qdisc: Qdisc, skb: Skb) {
    let Some(transit) = maps::transit() else {
        return;
    };
    let handed = maps::handed(transit, skb.address());
    let whose = match handed {
        // SAFETY: this CPU's own record.
        Some(record) => unsafe {
            (*record).queued = 1;
            &raw const (*record).owner
        },
        None => maps::in_map(transit, attribution::of_leaving(skb)),
    };
    // SAFETY: this CPU's own record.
    let owner = unsafe { *whose };
    let index = match maps::known_queue(qdisc.address()) {
        Some(index) => index,
        None if owner.is_none() => return,
        None => match adopt(qdisc) {
            Some(index) => index,
            None => return uncounted(owner),
        },
    };
    let Some(queue) = maps::queue(index) else {
        return;
    };
    in_use_again(queue, skb.address(), handed);
    // SAFETY: fields of a slot.
    let before = unsafe {
        set(&raw mut (*queue).filled, 1);
        get(&raw const (*queue).backlog)
    };
    let is_lockless = is_lockless(qdisc);
    if is_lockless {
        // SAFETY: as above.
        unsafe {
            add(&raw mut (*queue).enqueued, skb.pkt_len() as u64);
            add(&raw mut (*queue).enqueued_packets, 1);
        }
    }
    let now = gauge(qdisc, queue, is_lockless);
    if owner.is_none() {
        return changed(queue);
    }
    identify_now_and_then(qdisc, queue, transit);
    let place = Place { index, slot: queue };
    let mut entry = Entry {
        bytes: skb.pkt_len(),
        followed: skb.address(),
        order: (skb.hash() ^ skb.priority()) | 1,
    };
    if let Some(record) = handed
        && !is_lockless
    {
        split(qdisc, record, &mut entry, now.wrapping_sub(before));
    }
    // SAFETY: a field of a slot.
    if unsafe { get((&raw const (*queue).kind).cast::<u64>()) } == NETEM {
        entry.followed = 0;
    }
    in_queue::enter(whose, place, entry, transit);
    changed(queue);
}

/// The packet that entered may reuse the address of the one that the queue gave to its device last.
/// Segments of a batch have addresses that no probe sees.
#[inline(always)]
fn in_use_again(queue: *mut QueueSlot, skb: u64, handed: Option<*mut InTransit>) {
    if fact!(reason_not_specified) == ABSENT {
        return;
    }
    // SAFETY: this CPU's own record, and a field of a slot.
    unsafe {
        let is_batch = handed.is_some_and(|record| (*record).packets > 1);
        if is_batch || get(&raw const (*queue).given) == skb {
            set(&raw mut (*queue).given, 0);
        }
    }
}

/// Whether `skb` is what the queue gave to its device last.
#[inline(always)]
pub fn is_given(place: Place, skb: Skb) -> bool {
    // SAFETY: a field of a slot.
    unsafe { get(&raw const (*place.slot).given) == skb.address() }
}

/// A batch may have been split into segments, and some of them refused: the queue took as much as its
/// backlog grew.
#[inline(always)]
fn split(qdisc: Qdisc, record: *mut InTransit, entry: &mut Entry, grown: u64) {
    // SAFETY: this CPU's own record.
    unsafe {
        if (*record).packets <= 1 {
            return;
        }
        let whole = (*record).bytes;
        (*record).refused_bytes = 0;
        if grown == entry.bytes as u64 {
            return;
        }
        if grown == 0 || grown > whole as u64 {
            // Something else has changed too.
            entry.bytes = whole;
            entry.followed = 0;
            entry.order = 0;
            return;
        }
        (*record).refused_bytes = whole - grown as u32;
        entry.bytes = grown as u32;
        entry.order = 0;
        entry.followed = match maps::tbf_child().and_then(|offset| qdisc.bucket_child(offset)) {
            Some(child) if qdisc.kind()[0] == TBF => child.last_packet(),
            _ => 0,
        };
    }
}

/// The flows are in a queue for which no slot is free.
#[inline(always)]
fn uncounted(owner: Owner) {
    for whose in [owner.socket, owner.peer] {
        if let Some(flow) = maps::flow(whose) {
            in_queue::uncounted(flow);
        }
    }
}

/// `qdisc` gave `count` packets to the device, the first of a list at `skb`; or none.
#[inline(always)]
pub fn dequeued(qdisc: Qdisc, count: u32, skb: Skb) {
    let Some(index) = maps::known_queue(qdisc.address()) else {
        return;
    };
    let Some(queue) = maps::queue(index) else {
        return;
    };
    let is_lockless = is_lockless(qdisc);
    let mut gone = Gone {
        bytes: 0,
        packets: 0,
    };
    if !skb.is_none() && !was_requeued(qdisc, queue, is_lockless) {
        let Some(transit) = maps::transit() else {
            return;
        };
        if fact!(reason_not_specified) != ABSENT {
            // SAFETY: a field of a slot.
            unsafe { set(&raw mut (*queue).given, skb.address()) };
        }
        let place = Place { index, slot: queue };
        maps::begin_departing(transit);
        let mut skb = skb;
        while gone.packets < BULK {
            if gone.packets >= count || skb.is_none() {
                break;
            }
            gone.bytes += depart(place, skb, transit);
            skb = skb.next();
            gone.packets += 1;
        }
        gone.packets = maps::forgotten(transit, gone.packets);
        gone.bytes = maps::forgotten(transit, gone.bytes);
        let watched = maps::departed_packets(transit);
        if watched > 0 {
            let bulk = maps::begin_bulk(transit);
            let mut packet = 0;
            while packet < BULK && packet < watched {
                buffers::leave(maps::departed(transit, packet), bulk);
                packet += 1;
            }
        }
        if gone.packets == BULK && count > BULK {
            gone.bytes = gone.bytes / BULK as u64 * count as u64;
            gone.packets = count;
        }
    }
    let is_empty = if is_lockless {
        // SAFETY: fields of a slot.
        unsafe {
            add(&raw mut (*queue).dequeued, gone.bytes);
            add(&raw mut (*queue).dequeued_packets, gone.packets as u64);
            get(&raw const (*queue).dequeued_packets) >= get(&raw const (*queue).enqueued_packets)
        }
    } else {
        qdisc.qlen() == 0
    };
    gauge(qdisc, queue, is_lockless);
    if is_empty {
        drained(queue);
    }
    changed(queue);
}

/// Whether the device gets a packet that it refused before: the queue discipline counts such packets
/// (`requeues`), and dequeues them again before any other.
#[inline(always)]
fn was_requeued(qdisc: Qdisc, queue: *mut QueueSlot, is_lockless: bool) -> bool {
    if is_lockless {
        return false;
    }
    let requeues = qdisc.requeues();
    // SAFETY: fields of a slot.
    unsafe {
        let before = get(&raw const (*queue).requeues);
        let mut again = get(&raw const (*queue).requeued);
        if requeues != before {
            set(&raw mut (*queue).requeues, requeues);
            again = again.wrapping_add(requeues.wrapping_sub(before));
        } else if again == 0 {
            return false;
        }
        set(&raw mut (*queue).requeued, again - 1);
    }
    true
}

/// `qdisc` discarded all packets.
#[inline(always)]
pub fn reset(qdisc: Qdisc) {
    let Some(index) = maps::known_queue(qdisc.address()) else {
        return;
    };
    let Some(queue) = maps::queue(index) else {
        return;
    };
    // SAFETY: fields of a slot.
    unsafe {
        set(&raw mut (*queue).filled, 1);
        set(&raw mut (*queue).requeued, 0);
        set(&raw mut (*queue).backlog, 0);
        set(&raw mut (*queue).packets, 0);
    }
    drained(queue);
    changed(queue);
}

/// The queue that a packet is in, or was in when it was dropped.
#[inline(always)]
pub fn of_packet(skb: Skb) -> Option<Place> {
    let qdisc = skb.dev().queue_discipline(skb.queue_mapping())?;
    let index = maps::known_queue_at(qdisc)?;
    Some(Place {
        index,
        slot: maps::queue(index)?,
    })
}

/// `qdisc` was destroyed: its slot is free for another.
#[inline(always)]
pub fn destroyed(qdisc: Qdisc) {
    let Some(index) = maps::known_queue(qdisc.address()) else {
        return;
    };
    let Some(queue) = maps::queue(index) else {
        return;
    };
    maps::forget_queue(qdisc.address());
    // SAFETY: fields of a slot.
    unsafe {
        set(&raw mut (*queue).qdisc, 0);
        let generation = get(&raw const (*queue).generation).wrapping_add(1);
        set(&raw mut (*queue).generation, generation);
    }
    changed(queue);
    let _ = FREE_QUEUES.push(index, 0);
}

/// A watched packet was dropped after a queue discipline had taken it.
#[inline(always)]
pub fn dropped_inside(owner: Owner, place: Place, skb: Skb, transit: *mut Transit) {
    in_queue::drop_inside(maps::in_map(transit, owner), place, skb, transit);
    changed(place.slot);
}

/// A queue discipline dropped another packet to take this one, and says so to the sender
/// (`NET_XMIT_CN`), but to no probe.
#[inline(always)]
pub fn taken_for_another(record: *mut InTransit, place: Place, transit: *mut Transit) {
    // SAFETY: this CPU's own record.
    unsafe {
        (*record).queued = 1;
        let handed = (*record).bytes;
        // Where a size table changed it, the length as the queue discipline counts it.
        let place_of_length = (*record).skb.wrapping_add(fact!(skb_pkt_len) as u64);
        let in_queue: u32 = read(place_of_length).unwrap_or_default();
        let bytes = if in_queue > handed && in_queue < 2 * handed {
            in_queue
        } else {
            handed
        };
        set(&raw mut (*place.slot).filled, 1);
        in_use_again(place.slot, (*record).skb, Some(record));
        let entry = Entry {
            bytes,
            followed: (*record).skb,
            order: 0,
        };
        in_queue::enter(&raw const (*record).owner, place, entry, transit);
    }
    changed(place.slot);
}

/// Total of one dequeue.
struct Gone {
    bytes: u64,
    packets: u32,
}

/// The packet leaves the queue; returns its bytes.
#[inline(always)]
fn depart(place: Place, skb: Skb, transit: *mut Transit) -> u64 {
    let bytes = skb.pkt_len();
    let owner = attribution::of_leaving(skb);
    if !owner.is_none() {
        let owner = Departed::note(maps::next_departed(transit), owner, skb);
        in_queue::leave(owner, place, skb, transit);
    }
    bytes as u64
}
