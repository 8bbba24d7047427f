//! What stands in outgoing queues, and what of it belongs to watched flows.
//!
//! How much a queue holds, its queue discipline says itself. What a flow has in it is counted in
//! bytes at enqueue and dequeue, most queue disciplines doing both under one lock; see
//! [`InQueue`](ebpf_congestion_signals_common::InQueue) for how a miscount heals. The lockless ones
//! (pfifo_fast) count for each CPU, and may run this on two at once: there, what is in the queue is
//! what went in and did not come out, put right when it runs empty.

use ebpf_congestion_signals_common::{ABSENT, FlowRef, FlowSlot, QueueSlot};

use crate::atomic::{add, get, set};
use crate::buffers;
use crate::in_queue::{self, Entry, Place};
use crate::kernel::{NETEM, Qdisc, Skb, TBF, fact, read};
use crate::maps::{self, FREE_QUEUES, InTransit, QUEUES, Transit};
use crate::owner::{self, Owner};

/// Flags of `struct Qdisc`: its statistics are kept per CPU, it takes no lock.
const TCQ_F_CPUSTATS: u32 = 0x20;
const TCQ_F_NOLOCK: u32 = 0x100;

/// Packets that one dequeue is followed through. Byte queue limits bound a bulk, which is larger
/// only for a fast device; what goes beyond is taken to be as long as what was seen.
/// The verifier walks the loop: 64 instead of 16 add to the time that loading takes.
const BULK: u32 = 16;

/// `map_update_elem` only if the key is new.
const BPF_NOEXIST: u64 = 1;

/// `qdisc` took `skb`, which may be freed already: split into segments by the queue discipline,
/// or sent by another CPU.
#[inline(always)]
pub fn enqueued(qdisc: Qdisc, skb: Skb) {
    let Some(transit) = maps::transit() else {
        return;
    };
    let handed = maps::handed(transit, skb.address());
    let owner = match handed {
        // SAFETY: this CPU's own record.
        Some(record) => unsafe {
            (*record).queued = 1;
            (*record).owner
        },
        None => owner::of_leaving(skb),
    };
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
        shared: false,
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
    entry.followed = maps::as_number(transit, entry.followed);
    enter(owner, place, entry);
    changed(queue);
}

/// What readers take from the queue's slot is another: called after all of the change.
#[inline(always)]
fn changed(queue: *mut QueueSlot) {
    // SAFETY: a field of a slot.
    unsafe { add(&raw mut (*queue).changes, 1) };
}

/// What came into the queue may have the address of the packet that the queue gave to its device
/// last. Segments of a batch have addresses that no probe sees.
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

/// A batch may have been split into segments, and a part of them refused: what the queue grew by is
/// what it took.
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
        entry.followed = match qdisc.bucket_child() {
            Some(child) if qdisc.kind()[0] == TBF => child.last_packet(),
            _ => 0,
        };
    }
}

/// A packet of these flows enters the queue; `entry.followed` is a number to the verifier.
#[inline(always)]
fn enter(owner: Owner, place: Place, entry: Entry) {
    let place_and_bytes = (place.index as u64) << 32 | entry.bytes as u64;
    let order = (entry.order as u64) << 32;
    if !owner.socket.is_none() {
        let order_and_sharing = order | owner.socket_shares() as u64;
        put_in(
            packed(owner.socket),
            place_and_bytes,
            entry.followed,
            order_and_sharing,
        );
    }
    if !owner.peer.is_none() {
        let order_and_sharing = order | owner.peer_shares() as u64;
        put_in(
            packed(owner.peer),
            place_and_bytes,
            entry.followed,
            order_and_sharing,
        );
    }
}

/// Puts a packet into what a flow has in the queue. Verified once, as [`take_out`] is.
#[cfg_attr(not(feature = "inlined"), unsafe(no_mangle), inline(never))]
#[cfg_attr(feature = "inlined", inline(always))]
pub extern "C" fn put_in(
    flow: u64,
    place_and_bytes: u64,
    followed: u64,
    order_and_sharing: u64,
) -> u32 {
    let (index, bytes) = ((place_and_bytes >> 32) as u32, place_and_bytes as u32);
    if let Some(slot) = maps::queue(index) {
        let entry = Entry {
            bytes,
            shared: order_and_sharing & 1 != 0,
            followed,
            order: (order_and_sharing >> 32) as u32,
        };
        in_queue::enter(unpacked(flow), Place { index, slot }, entry);
    }
    0
}

/// Takes a packet that was dropped inside out of what a flow has in the queue. Verified once, as
/// [`take_out`] is.
#[cfg_attr(not(feature = "inlined"), unsafe(no_mangle), inline(never))]
#[cfg_attr(feature = "inlined", inline(always))]
pub extern "C" fn drop_from(flow: u64, place_and_bytes: u64, skb: u64, sharing: u64) -> u32 {
    let (index, bytes) = ((place_and_bytes >> 32) as u32, place_and_bytes as u32);
    if let Some(slot) = maps::queue(index) {
        let place = Place { index, slot };
        in_queue::drop_inside(unpacked(flow), place, bytes, sharing != 0, skb);
    }
    0
}

/// The flows are in a queue that no slot is left for.
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
        let mut skb = skb;
        while gone.packets < BULK {
            if gone.packets >= count || skb.is_none() {
                break;
            }
            gone.bytes += depart(index, skb, transit);
            skb = skb.next();
            gone.packets += 1;
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

/// Whether what a queue gives to its device was given to it before, which would not take it: the
/// queue discipline counts such packets, and gives them again before any other.
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

/// `qdisc` threw away all it held.
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

/// `qdisc` is gone: its slot is another's.
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

/// Where a packet stands, or stood until it was dropped.
#[inline(always)]
pub fn of_packet(skb: Skb) -> Option<Place> {
    let qdisc = skb.dev().queue_discipline(skb.queue_mapping())?;
    let index = maps::known_queue_at(qdisc)?;
    Some(Place {
        index,
        slot: maps::queue(index)?,
    })
}

/// A watched packet was dropped after a queue discipline had taken it.
#[inline(always)]
pub fn dropped_inside(owner: Owner, place: Place, skb: Skb, transit: *mut Transit) {
    let place_and_bytes = (place.index as u64) << 32 | skb.pkt_len() as u64;
    let address = maps::as_number(transit, skb.address());
    for (flow, shares) in [
        (owner.socket, owner.socket_shares()),
        (owner.peer, owner.peer_shares()),
    ] {
        if !flow.is_none() {
            drop_from(packed(flow), place_and_bytes, address, shares as u64);
        }
    }
    changed(place.slot);
}

/// A queue discipline dropped another packet to take this one, and says so to the sender
/// (`NET_XMIT_CN`), but to no probe.
#[inline(always)]
pub fn taken_for_another(record: *mut InTransit, place: Place) {
    // SAFETY: this CPU's own record.
    unsafe {
        (*record).queued = 1;
        let handed = (*record).bytes;
        // As a size table has it, if there is one.
        let place_of_length = (*record).skb.wrapping_add(fact!(skb_pkt_len) as u64);
        let told: u32 = read(place_of_length).unwrap_or_default();
        let bytes = if told > handed && told < 2 * handed {
            told
        } else {
            handed
        };
        set(&raw mut (*place.slot).filled, 1);
        in_use_again(place.slot, (*record).skb, Some(record));
        let entry = Entry {
            bytes,
            shared: false,
            followed: (*record).skb,
            order: 0,
        };
        enter((*record).owner, place, entry);
    }
    changed(place.slot);
}

/// Gives a queue slot to `qdisc`; `None` when all are taken.
#[inline(always)]
fn adopt(qdisc: Qdisc) -> Option<u32> {
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

/// Takes once a tick what a queue is: its limit can be changed while it works.
#[inline(always)]
fn identify_now_and_then(qdisc: Qdisc, queue: *mut QueueSlot, transit: *mut Transit) {
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
        match qdisc.bucket_child() {
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
        // A limit is never told as one of another kind.
        set(&raw mut (*queue).limit, 0);
        set((&raw mut (*queue).kind).cast::<u64>(), kind[0]);
        set((&raw mut (*queue).kind).cast::<u64>().add(1), kind[1]);
        set(&raw mut (*queue).child, child);
        set(&raw mut (*queue).limit, limit);
    }
}

#[inline(always)]
fn is_lockless(qdisc: Qdisc) -> bool {
    qdisc.flags() & (TCQ_F_CPUSTATS | TCQ_F_NOLOCK) != 0
}

/// Takes what is in the queue: its own count where it keeps one, else ours. Answers the bytes.
#[inline(always)]
fn gauge(qdisc: Qdisc, queue: *mut QueueSlot, is_lockless: bool) -> u64 {
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

/// What came in and did not go out; none when more went out than was seen to come in.
#[inline(always)]
fn inside(entered: *const u64, left: *const u64) -> u64 {
    let inside = get(entered).wrapping_sub(get(left));
    if (inside as i64) < 0 { 0 } else { inside }
}

/// The queue is empty: whatever was counted as inside is not.
#[inline(always)]
fn drained(queue: *mut QueueSlot) {
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

/// What one dequeue took out.
struct Gone {
    bytes: u64,
    packets: u32,
}

/// One packet leaves the queue of this index; its bytes.
#[inline(always)]
fn depart(index: u32, skb: Skb, transit: *mut Transit) -> u64 {
    let bytes = skb.pkt_len();
    let owner = owner::of_leaving(skb);
    if !owner.is_none() {
        let place_and_bytes = (index as u64) << 32 | bytes as u64;
        let (socket, peer) = (packed(owner.socket), packed(owner.peer));
        let address = maps::as_number(transit, skb.address());
        take_out(place_and_bytes, socket, peer, address, buffer_after(skb));
    }
    bytes as u64
}

/// The occupancy of the send buffer as it will be once the device has sent `skb`, and below it the
/// buffer's size; 0 without a full socket.
#[inline(always)]
fn buffer_after(skb: Skb) -> u64 {
    let sk = skb.sk();
    if sk.is_none() || !sk.is_full() {
        return 0;
    }
    let left = buffers::wmem(sk).saturating_sub(skb.truesize());
    (left as u64) << 32 | sk.sndbuf() as u64
}

/// Takes a packet of these flows out of what they have in the queue.
///
/// The kernel verifies a function that is visible outside of its object once, and not again for each
/// packet of a bulk. Such a function may take numbers alone, and five at most. What is built for kernels
/// before 6.5 (feature `inlined`) calls no functions: there, a program that does has no table of the
/// loads that may fault, and the kernel dies of the first that does.
#[cfg_attr(not(feature = "inlined"), unsafe(no_mangle), inline(never))]
#[cfg_attr(feature = "inlined", inline(always))]
pub extern "C" fn take_out(
    place_and_bytes: u64,
    socket: u64,
    peer: u64,
    skb: u64,
    buffer: u64,
) -> u32 {
    let (index, bytes) = ((place_and_bytes >> 32) as u32, place_and_bytes as u32);
    let owner = Owner {
        socket: unpacked(socket),
        peer: unpacked(peer),
    };
    let (Some(queue), Some(transit)) = (maps::queue(index), maps::transit()) else {
        return 0;
    };
    let place = Place { index, slot: queue };
    let now = maps::tick_time(transit);
    let flow = in_queue::leave(owner.socket, place, bytes, owner.socket_shares(), skb);
    observe(owner.socket, flow, buffer, now);
    let flow = in_queue::leave(owner.peer, place, bytes, owner.peer_shares(), skb);
    observe(owner.peer, flow, buffer, now);
    0
}

#[inline(always)]
fn packed(flow: FlowRef) -> u64 {
    (flow.slot as u64) << 32 | flow.generation as u64
}

#[inline(always)]
fn unpacked(number: u64) -> FlowRef {
    FlowRef {
        slot: (number >> 32) as u32,
        generation: number as u32,
    }
}

#[inline(always)]
fn observe(whose: FlowRef, flow: Option<*mut FlowSlot>, buffer: u64, now: u64) {
    let Some(flow) = flow else { return };
    // SAFETY: a field of a slot.
    unsafe { set(&raw mut (*flow).updated_ns, now) };
    if buffer != 0 {
        buffers::observe_send(whose, flow, (buffer >> 32) as u32, buffer as u32);
    }
}
