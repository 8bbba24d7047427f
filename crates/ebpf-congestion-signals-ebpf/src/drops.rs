//! Dropped packets: how many, why, whose.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use ebpf_congestion_signals_common::{
    ABSENT, Direction, DropClass, DropCounters, EventKind, FlowRef, REASON_OF_QDISC, ReasonKey,
};

use crate::atomic::{add, raise, set};
use crate::kernel::{IPPROTO_UDP, Skb, Sock, fact};
use crate::maps::{self, REASONS, Transit};

use crate::owner::Owner;
use crate::{attribution, buffers, events, in_queue, packet, queue};

/// `map_update_elem` only if the key is new.
const BPF_NOEXIST: u64 = 1;

/// The owner in the table of reasons that means the host.
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
    let Some(transit) = maps::transit() else {
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
    if !packet::is_ip(skb) || is_no_drop(skb, reason) {
        return;
    }
    let Some(transit) = maps::transit() else {
        return;
    };
    if is_shell(transit, skb) {
        return;
    }
    let direction = direction_of(skb, receiver, reason);
    let arriving = matches!(direction, Direction::Ingress);
    let reason = if arriving {
        reason
    } else {
        recovered(transit, skb, reason)
    };
    let (class, is_of_qdisc) = class_of(reason);
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
    let owner = match direction {
        Direction::Forwarded => Owner::NONE,
        _ => attribution::of_dropped(skb, arriving, receiver),
    };
    let is_held = matches!(direction, Direction::Egress)
        && reason == fact!(reason_not_specified)
        && is_held(transit, skb, owner);
    let class = if is_held {
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
        observe_receiver(owner.socket, receiver, skb);
    } else if is_of_qdisc || is_held {
        leave_queue(transit, skb, owner, reason);
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

/// Whether a packet was freed that was not dropped: a packet tap's copy, or one that was delivered to
/// a socket which was closed before it was read.
#[inline(always)]
fn is_no_drop(skb: Skb, reason: u32) -> bool {
    if reason == fact!(reason_tap) || skb.is_taps_copy() {
        return true;
    }
    // A kernel that has no reasons also drops this way what a receive buffer has no room for.
    fact!(kfree_skb_reason) != ABSENT
        && (reason == fact!(reason_silent) || reason == fact!(reason_purge))
        && skb.is_delivered()
}

/// Which way a packet went. One that was received from a device has that device's index, and is at
/// another device when it is on its way out; it still has its sender's socket if the sender is on
/// this host and the packet was not routed. What is in an intermediate functional block will be
/// received again.
#[inline(always)]
fn direction_of(skb: Skb, receiver: Sock, reason: u32) -> Direction {
    let from = skb.iif();
    if from == 0 {
        // The far end's driver may drop before the packet counts as received (XDP), for a reason of
        // its own or none. A queue has one.
        let sk = skb.sk();
        let is_silent = reason == fact!(reason_silent) || reason == fact!(reason_xdp);
        return if is_silent && !sk.is_none() && sk.is_full() && skb.dev().is_far_end(sk) {
            Direction::Ingress
        } else {
            Direction::Egress
        };
    }
    if !receiver.is_none() {
        return Direction::Ingress;
    }
    let device = skb.dev_unless_delivered();
    let at = device.ifindex_or_none();
    if at == 0 || at == from {
        return Direction::Ingress;
    }
    if !skb.sk().is_none() {
        return Direction::Egress;
    }
    if device.is_ifb() {
        Direction::Ingress
    } else {
        Direction::Forwarded
    }
}

/// The class of a reason, and whether queue disciplines drop for it.
#[inline(always)]
fn class_of(reason: u32) -> (u32, bool) {
    let value = maps::reason(reason).unwrap_or(DropClass::Other as u32);
    let class = value & (DropClass::COUNT as u32 - 1);
    (class, value & REASON_OF_QDISC != 0)
}

/// Whether this is what remains of a batch that a queue discipline split into segments and then
/// refused, all of them: the last segment took its socket over. Each segment is freed by itself
/// and counted then.
#[inline(always)]
fn is_shell(transit: *mut Transit, skb: Skb) -> bool {
    let Some(record) = maps::handed(transit, skb.address()) else {
        return false;
    };
    // SAFETY: this CPU's own record.
    unsafe {
        (*record).packets > 1
            && (*record).had_socket == 1
            && skb.sk().is_none()
            // Over loopback a batch arrives as the same buffer, and without its socket too.
            && skb.iif() == 0
    }
}

/// The drop reason of an egress packet; the queue discipline's own reason where it gave one. Some
/// kernels lose the reason of a segment that a queue discipline made and refused: segmentation
/// overwrites it with a number of its own.
#[inline(always)]
fn recovered(transit: *mut Transit, skb: Skb, reason: u32) -> u32 {
    if fact!(reason_qdisc_drop) == ABSENT {
        return reason;
    }
    if reason == fact!(reason_qdisc_drop) {
        // SAFETY: this CPU's own record.
        let (refused, finer) = unsafe { ((*transit).refused, (*transit).refused_reason) };
        return if refused == skb.address() && maps::reason(finer).is_some() {
            finer
        } else {
            reason
        };
    }
    if fact!(skb_lost_reason) == ABSENT {
        return reason;
    }
    let Some(record) = maps::handed_to(transit, skb.dev().address()) else {
        return reason;
    };
    // SAFETY: this CPU's own record.
    let is_segment = unsafe { (*record).packets > 1 && (*record).skb != skb.address() };
    // Only the queue discipline that makes a segment gives it a length of its own.
    if is_segment && skb.pkt_len() == skb.len() && skb.lost_reason() == reason {
        fact!(reason_qdisc_drop)
    } else {
        reason
    }
}

/// Whether the packet is in its flow's queue. Some kernels give no reason for what a queue
/// discipline drops at dequeue (as CoDel does).
#[inline(always)]
fn is_held(transit: *mut Transit, skb: Skb, owner: Owner) -> bool {
    // A kernel that has a reason for what a queue refuses has it for all that was never in one. The
    // record may be of a packet that had the same address.
    if fact!(reason_qdisc_drop) == ABSENT
        && let Some(record) = maps::handed(transit, skb.address())
    {
        // SAFETY: this CPU's own record.
        if unsafe { (*record).queued } == 0 {
            return false;
        }
    }
    let bytes = skb.pkt_len();
    // Before it comes to a queue, a packet has no such length.
    if bytes < skb.len() {
        return false;
    }
    let Some(place) = queue::of_packet(skb) else {
        return false;
    };
    // A device may drop without a reason too, what the queue has given it.
    if queue::is_given(place, skb) {
        return false;
    }
    in_queue::holds(owner.socket, place, bytes, transit)
        || in_queue::holds(owner.peer, place, bytes, transit)
}

/// A queue discipline dropped the packet: what it held it holds no longer. What it refused it never
/// held: the packet that was just handed to it, or a segment that it made of that.
#[inline(always)]
fn leave_queue(transit: *mut Transit, skb: Skb, owner: Owner, reason: u32) {
    let handed = maps::handed_to(transit, skb.dev().address());
    if let Some(record) = handed {
        let bytes = skb.pkt_len();
        // SAFETY: this CPU's own record.
        unsafe {
            if (*record).skb == skb.address() {
                if (*record).queued == 0 {
                    return;
                }
            } else if (*record).refused_bytes >= bytes
                && bytes != 0
                && packet::packets(skb) == 1
                && (*record).owner.is_same(owner)
            {
                (*record).refused_bytes -= bytes;
                return;
            }
        }
    }
    let waits = match handed {
        // SAFETY: as above.
        Some(record) => unsafe {
            (*record).queued == 0
                && (*record).skb != skb.address()
                && (*record).mapping == skb.queue_mapping() as u32
                && !(*record).owner.is_none()
        },
        None => false,
    };
    if owner.is_none() && !waits {
        return;
    }
    let Some(place) = queue::of_packet(skb) else {
        return;
    };
    if !owner.is_none() {
        queue::dropped_inside(owner, place, skb, transit);
    }
    // What is dropped at dequeue makes no room for anything.
    if waits
        && reason != fact!(reason_congested)
        && reason != fact!(reason_not_specified)
        && let Some(record) = handed
    {
        queue::taken_for_another(record, place, transit);
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
            &raw mut (*flow).drops[direction as usize & 1][class as usize],
            counters,
        );
        raise(&raw mut (*flow).changes);
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
fn observe_receiver(whose: FlowRef, receiver: Sock, skb: Skb) {
    if receiver.is_none() {
        return;
    }
    let Some(flow) = maps::flow(whose) else {
        return;
    };
    buffers::observe_receive(whose, flow, receiver.rmem_alloc(), receiver.rcvbuf());
    // What is in the buffer is like what found no room.
    if receiver.protocol() == IPPROTO_UDP as u16 {
        buffers::note_received(flow, skb.len(), skb.truesize());
    }
}
