//! Dropped packets: how many, why, whose.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use ebpf_congestion_signals_common::{
    ABSENT, Direction, DropClass, DropCounters, EventKind, FlowRef, ReasonKey,
};

use crate::atomic::{add, set};
use crate::kernel::{Skb, Sock, fact};
use crate::maps::{self, REASON_CLASSES, REASONS};

use crate::owner::Owner;
use crate::{buffers, events, owner, packet, queue};

/// `map_update_elem` only if the key is new.
const BPF_NOEXIST: u64 = 1;

/// The owner in the table of reasons that stands for the host.
const HOST: FlowRef = FlowRef::NONE;

/// Why a packet was dropped.
#[derive(Clone, Copy)]
struct Because {
    reason: u32,
    /// The code that dropped it, where the reason says nothing; else 0.
    from: u64,
}

/// A queue discipline is about to drop `skb`, and has a reason of its own, finer than the one it
/// is freed for.
#[inline(always)]
pub fn refused(skb: Skb, reason: u32) {
    let Some(transit) = maps::in_transit() else {
        return;
    };
    // SAFETY: this CPU's own record.
    unsafe {
        (*transit).refused = skb.address();
        (*transit).refused_reason = reason;
    }
}

/// `skb` was freed at `location` because of `reason`; `receiver` is the socket it was for, where
/// the kernel says so.
#[inline(always)]
pub fn dropped(skb: Skb, location: u64, reason: u32, receiver: Sock) {
    // Others (netlink, Unix sockets) are freed the same way, and are no network traffic.
    if !packet::is_ip(skb) || is_shell(skb) {
        return;
    }
    // Set when a packet comes in from a device, and cleared when it changes its namespace.
    let arriving = skb.iif() != 0;
    let direction = if arriving {
        Direction::Arriving
    } else {
        Direction::Leaving
    };
    let reason = if arriving {
        reason
    } else {
        recovered(skb, reason)
    };
    let class = class_of(reason);
    let from = if reason == fact!(reason_silent) {
        location
    } else {
        0
    };
    let counters = DropCounters {
        skbs: 1,
        packets: packet::packets(skb) as u64,
        bytes: skb.len() as u64,
    };
    let owner = if arriving {
        owner::of_arriving(skb, receiver)
    } else {
        owner::of_leaving(skb)
    };
    let class = if !arriving && reason == fact!(reason_not_specified) && is_held(skb, owner) {
        DropClass::QueueFull as u32
    } else {
        class
    };
    if let Some(host) = maps::host() {
        // SAFETY: fields of a slot; `class` is below the number of classes.
        unsafe {
            count(
                &raw mut (*host).drops[direction as usize][class as usize],
                &counters,
            );
        }
    }
    let because = Because { reason, from };
    count_reason(HOST, because, &counters);
    // SAFETY: a helper without preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    count_flow(owner.socket, direction, class, because, &counters, now);
    count_flow(owner.peer, direction, class, because, &counters, now);
    if arriving {
        observe_receiver(owner.socket, receiver);
    } else if class == DropClass::QueueFull as u32 && was_queued(skb) {
        queue::dropped_inside(owner, skb.pkt_len());
    }
    let whose = if owner.peer.is_none() {
        owner.socket
    } else {
        owner.peer
    };
    events::write(now, |event| {
        // SAFETY: a record reserved in the ring.
        unsafe {
            (&raw mut (*event).time_ns).write(now);
            (&raw mut (*event).kind).write(EventKind::Drop as u32);
            (&raw mut (*event).slot).write(whose.index());
            (&raw mut (*event).generation).write(whose.generation);
            (&raw mut (*event).reserved).write(0);
            (&raw mut (*event).reason).write(reason);
            (&raw mut (*event).class).write(class);
            (&raw mut (*event).direction).write(direction as u32);
            (&raw mut (*event).packets).write(counters.packets as u32);
            (&raw mut (*event).bytes).write(counters.bytes as u32);
            (&raw mut (*event).limit).write(0);
            (&raw mut (*event).location).write(location);
        }
    });
}

#[inline(always)]
fn class_of(reason: u32) -> u32 {
    // SAFETY: the value is read before the program ends.
    let class = match unsafe { REASON_CLASSES.get(reason) } {
        Some(class) => *class,
        None => DropClass::Other as u32,
    };
    if class < DropClass::COUNT as u32 {
        class
    } else {
        DropClass::Other as u32
    }
}

/// Whether this is what remains of a batch that a queue discipline split into segments and then
/// refused, all of them: the last segment took its socket over. Each segment is freed by itself
/// and counted then.
#[inline(always)]
fn is_shell(skb: Skb) -> bool {
    let Some(transit) = maps::in_transit() else {
        return false;
    };
    // SAFETY: this CPU's own record.
    unsafe {
        (*transit).skb == skb.address()
            && (*transit).packets > 1
            && (*transit).had_socket == 1
            && skb.sk().is_none()
            // Over loopback a batch arrives as the same buffer, and without its socket too.
            && skb.iif() == 0
    }
}

/// The reason of a packet on its way out. Where the queue discipline has told a finer one, that
/// is it. Some kernels lose that of a segment which a queue
/// discipline made and refused: segmentation writes a number of its own over it, and the segment
/// is freed for that.
#[inline(always)]
fn recovered(skb: Skb, reason: u32) -> u32 {
    if fact!(reason_qdisc_drop) == ABSENT {
        return reason;
    }
    let Some(transit) = maps::in_transit() else {
        return reason;
    };
    // SAFETY: this CPU's own record.
    if reason == fact!(reason_qdisc_drop) {
        // SAFETY: this CPU's own record.
        let (refused, finer) = unsafe { ((*transit).refused, (*transit).refused_reason) };
        // SAFETY: the value is not read.
        let is_known = || unsafe { REASON_CLASSES.get(finer) }.is_some();
        return if refused == skb.address() && is_known() {
            finer
        } else {
            reason
        };
    }
    if fact!(skb_lost_reason) == ABSENT {
        return reason;
    }
    // SAFETY: this CPU's own record.
    let is_segment = unsafe { (*transit).packets > 1 && (*transit).skb != skb.address() };
    // Only the queue discipline that makes a segment gives it a length of its own.
    if is_segment && skb.pkt_len() == skb.len() && skb.lost_reason() == reason {
        fact!(reason_qdisc_drop)
    } else {
        reason
    }
}

/// Whether the packet stands in its flow's queue. Kernels that have no reason for what a queue
/// discipline drops at dequeue (CoDel does) drop it for none.
#[inline(always)]
fn is_held(skb: Skb, owner: Owner) -> bool {
    let Some(transit) = maps::in_transit() else {
        return false;
    };
    // A device may drop without a reason too, what the queue has given it.
    // SAFETY: this CPU's own record.
    if unsafe { (*transit).left == skb.address() || (*transit).skb == skb.address() } {
        return false;
    }
    let bytes = skb.pkt_len();
    // Before it comes to a queue, a packet has no such length.
    bytes >= skb.len() && (queue::holds(owner.socket, bytes) || queue::holds(owner.peer, bytes))
}

/// Whether a queue discipline had taken the packet before it was dropped, so that it was counted
/// as queued. The packet in transit on this CPU was not, unless a probe saw it taken; neither
/// were the segments that a queue discipline made of it and refused all.
#[inline(always)]
fn was_queued(skb: Skb) -> bool {
    let Some(transit) = maps::in_transit() else {
        return true;
    };
    // SAFETY: this CPU's own record.
    unsafe {
        if (*transit).skb == skb.address() || (*transit).packets > 1 {
            (*transit).queued == 1
        } else {
            true
        }
    }
}

#[inline(always)]
fn count(to: *mut DropCounters, more: &DropCounters) {
    // SAFETY: fields of a slot or of a map's value.
    unsafe {
        add(&raw mut (*to).skbs, more.skbs);
        add(&raw mut (*to).packets, more.packets);
        add(&raw mut (*to).bytes, more.bytes);
    }
}

#[inline(always)]
fn count_flow(
    whose: FlowRef,
    direction: Direction,
    class: u32,
    because: Because,
    counters: &DropCounters,
    now: u64,
) {
    let Some(flow) = maps::flow(whose) else {
        return;
    };
    // SAFETY: fields of a slot; `class` is below the number of classes.
    unsafe {
        count(
            &raw mut (*flow).drops[direction as usize][class as usize],
            counters,
        );
        set(&raw mut (*flow).last_drop_ns, now);
    }
    count_reason(whose, because, counters);
}

#[inline(always)]
fn count_reason(whose: FlowRef, because: Because, counters: &DropCounters) {
    let key = ReasonKey {
        slot: whose.index(),
        generation: whose.generation,
        reason: because.reason,
        reserved: 0,
        location: because.from,
    };
    if let Some(entry) = REASONS.get_ptr_mut(key) {
        count(entry, counters);
        return;
    }
    if REASONS.insert(key, counters, BPF_NOEXIST).is_ok() {
        return;
    }
    // Another CPU was faster, or the table is full.
    if let Some(entry) = REASONS.get_ptr_mut(key) {
        count(entry, counters);
    } else if let Some(host) = maps::host() {
        // SAFETY: a field of a slot.
        unsafe { add(&raw mut (*host).reasons_lost, 1) };
    }
}

#[inline(always)]
fn observe_receiver(whose: FlowRef, receiver: Sock) {
    if receiver.is_none() {
        return;
    }
    let Some(flow) = maps::flow(whose) else {
        return;
    };
    buffers::observe_receive(whose, flow, receiver.rmem_alloc(), receiver.rcvbuf());
}
