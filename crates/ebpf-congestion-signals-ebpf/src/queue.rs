//! What stands in outgoing queues: watched flows' share, and everybody's.
//!
//! Counted in on-wire bytes at enqueue and dequeue. Most queue disciplines do both under one
//! lock; the lockless ones (pfifo_fast) may run this on two CPUs at once, which can misplace a
//! packet until the queue is next empty. Whatever else can go astray (a packet dequeued twice
//! because the device was busy, a queue thrown away) is put right then too.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use ebpf_congestion_signals_common::{ABSENT, FlowRef, QueueSlot, SOJOURNS_ONE_IN};

use crate::atomic::{add, get, set};
use crate::buffers;
use crate::kernel::{Qdisc, Skb, fact};
use crate::maps::{self, FREE_QUEUES, QUEUES};
use crate::owner::{self, Owner};

/// Flags of `struct Qdisc`: its statistics are kept per CPU, it takes no lock.
const TCQ_F_CPUSTATS: u32 = 0x20;
const TCQ_F_NOLOCK: u32 = 0x100;

/// Packets that one dequeue is followed through. Byte queue limits bound a bulk, which is larger
/// only for a fast device; what goes beyond is taken to be as long as what was seen. The verifier
/// walks the loop: 64 instead of 16 double the time that loading takes.
const BULK: u32 = 16;

/// A queue is asked what it is with the first packet of so many.
const IDENTIFY_EVERY: u64 = 64;

/// `map_update_elem` only if the key is new.
const BPF_NOEXIST: u64 = 1;

/// `qdisc` took `skb`, which may be freed already: split into segments by the queue discipline,
/// or sent by another CPU.
#[inline(always)]
pub fn enqueued(qdisc: Qdisc, skb: Skb) {
    let Some(transit) = maps::in_transit() else {
        return;
    };
    // SAFETY: this CPU's own record.
    let (owner, bytes) = unsafe {
        if (*transit).skb == skb.address() {
            (*transit).queued = 1;
            let owner = (*transit).owner;
            if owner.is_none() {
                (owner, skb.pkt_len())
            } else {
                (owner, (*transit).bytes)
            }
        } else {
            (owner::of_leaving(skb), skb.pkt_len())
        }
    };
    let index = match maps::known_queue(qdisc.address()) {
        Some(index) => index,
        None if owner.is_none() => return,
        None => match adopt(qdisc) {
            Some(index) => index,
            None => return,
        },
    };
    let Some(queue) = maps::queue(index) else {
        return;
    };
    // SAFETY: fields of a slot.
    let packets = unsafe {
        add(&raw mut (*queue).enqueued, bytes as u64);
        add(&raw mut (*queue).enqueued_packets, 1);
        get(&raw const (*queue).enqueued_packets)
    };
    gauge(qdisc, queue);
    if packets % IDENTIFY_EVERY == 1 {
        identify(qdisc, queue);
    }
    if owner.is_none() {
        return;
    }
    if owner.is_shared() {
        // SAFETY: as above.
        unsafe { add(&raw mut (*queue).shared_enqueued, bytes as u64) };
    }
    enter(owner.socket, index, queue, bytes);
    enter(owner.peer, index, queue, bytes);
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
    let Some(transit) = maps::in_transit() else {
        return;
    };
    if fact!(reason_not_specified) != ABSENT {
        // SAFETY: this CPU's own record.
        unsafe { (*transit).left = skb.address() };
    }
    let mut skb = skb;
    let mut gone = Gone {
        bytes: 0,
        packets: 0,
        now: maps::tick_time(transit),
    };
    while gone.packets < BULK {
        if gone.packets >= count || skb.is_none() {
            break;
        }
        depart(queue, skb, &mut gone);
        skb = skb.next();
        gone.packets += 1;
    }
    if gone.packets == BULK && count > BULK {
        gone.bytes = gone.bytes / BULK as u64 * count as u64;
        gone.packets = count;
    }
    // SAFETY: fields of a slot.
    unsafe {
        add(&raw mut (*queue).dequeued, gone.bytes);
        add(&raw mut (*queue).dequeued_packets, gone.packets as u64);
    }
    gauge(qdisc, queue);
    if is_lockless(qdisc) {
        // SAFETY: fields of a slot.
        let is_empty = unsafe {
            get(&raw const (*queue).dequeued_packets) >= get(&raw const (*queue).enqueued_packets)
        };
        if is_empty {
            drained(queue);
        }
    } else if qdisc.qlen() == 0 {
        drained(queue);
    }
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
    drained(queue);
    // SAFETY: fields of a slot.
    unsafe {
        set(&raw mut (*queue).backlog, 0);
        set(&raw mut (*queue).packets, 0);
    }
}

/// A watched packet was dropped after a queue discipline had taken it.
#[inline(always)]
pub fn dropped_inside(owner: Owner, bytes: u32) {
    let shared = owner.is_shared();
    let by_socket = leave(owner.socket, bytes);
    let by_peer = leave(owner.peer, bytes);
    let Some(index) = by_peer.or(by_socket) else {
        return;
    };
    let Some(queue) = maps::queue(index) else {
        return;
    };
    // SAFETY: fields of a slot.
    unsafe {
        add(&raw mut (*queue).dequeued, bytes as u64);
        add(&raw mut (*queue).dequeued_packets, 1);
        if shared {
            add(&raw mut (*queue).shared_dequeued, bytes as u64);
        }
    }
}

/// Whether `bytes` of a flow, or more, are in its queue.
#[inline(always)]
pub fn holds(whose: FlowRef, bytes: u32) -> bool {
    let Some(flow) = maps::flow(whose) else {
        return false;
    };
    // SAFETY: fields of a slot.
    let Some(index) = unsafe { get(&raw const (*flow).queue) }.checked_sub(1) else {
        return false;
    };
    let Some(queue) = maps::queue(index) else {
        return false;
    };
    // SAFETY: fields of slots.
    unsafe {
        let inside =
            get(&raw const (*flow).enqueued).wrapping_sub(get(&raw const (*flow).dequeued));
        get(&raw const (*flow).queue_drained) == get(&raw const (*queue).drained)
            && inside as i64 >= bytes as i64
    }
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
    // SAFETY: a field of a slot.
    unsafe { set(&raw mut (*queue).qdisc, qdisc.address()) };
    maps::remember_queue(qdisc.address(), index);
    Some(index)
}

/// Takes what a queue is and how much it holds: its limit can be changed while it works, and its
/// memory used for another when it is gone.
#[inline(always)]
fn identify(qdisc: Qdisc, queue: *mut QueueSlot) {
    let kind = qdisc.kind();
    // SAFETY: fields of a slot.
    unsafe {
        set(&raw mut (*queue).handle, qdisc.handle());
        set(&raw mut (*queue).ifindex, qdisc.dev().ifindex());
        set((&raw mut (*queue).kind).cast::<u64>(), kind[0]);
        set((&raw mut (*queue).kind).cast::<u64>().add(1), kind[1]);
        set(&raw mut (*queue).limit, qdisc.capacity(kind[0]));
    }
}

#[inline(always)]
fn is_lockless(qdisc: Qdisc) -> bool {
    qdisc.flags() & (TCQ_F_CPUSTATS | TCQ_F_NOLOCK) != 0
}

/// Takes what is in the queue: its own count where it keeps one, else ours.
#[inline(always)]
fn gauge(qdisc: Qdisc, queue: *mut QueueSlot) {
    // SAFETY: fields of a slot.
    unsafe {
        let (backlog, packets) = if is_lockless(qdisc) {
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
        let enqueued = get(&raw const (*queue).enqueued);
        if enqueued == get(&raw const (*queue).enqueued_at_drain) {
            return;
        }
        set(&raw mut (*queue).enqueued_at_drain, enqueued);
        set(&raw mut (*queue).dequeued, enqueued);
        let packets = get(&raw const (*queue).enqueued_packets);
        set(&raw mut (*queue).dequeued_packets, packets);
        let shared = get(&raw const (*queue).shared_enqueued);
        set(&raw mut (*queue).shared_dequeued, shared);
        add(&raw mut (*queue).drained, 1);
    }
}

/// What one dequeue took out.
struct Gone {
    bytes: u64,
    packets: u32,
    /// Kernel time, to a tick.
    now: u64,
}

/// One packet leaves the queue.
#[inline(always)]
fn depart(queue: *mut QueueSlot, skb: Skb, gone: &mut Gone) {
    let bytes = skb.pkt_len();
    gone.bytes += bytes as u64;
    let owner = owner::of_leaving(skb);
    if owner.is_none() {
        return;
    }
    if owner.is_shared() {
        // SAFETY: as above.
        unsafe { add(&raw mut (*queue).shared_dequeued, bytes as u64) };
    }
    leave(owner.socket, bytes);
    leave(owner.peer, bytes);
    observe(owner.socket, skb, gone.now);
    observe(owner.peer, skb, gone.now);
}

/// `bytes` of a flow enter a queue.
#[inline(always)]
fn enter(whose: FlowRef, index: u32, queue: *const QueueSlot, bytes: u32) {
    let Some(flow) = maps::flow(whose) else {
        return;
    };
    // SAFETY: fields of slots, and a helper without preconditions.
    unsafe {
        let drained = get(&raw const (*queue).drained);
        if get(&raw const (*flow).queue) != index + 1
            || get(&raw const (*flow).queue_drained) != drained
        {
            let enqueued = get(&raw const (*flow).enqueued);
            set(&raw mut (*flow).dequeued, enqueued);
            set(&raw mut (*flow).queue_drained, drained);
            set(&raw mut (*flow).queue, index + 1);
            set(&raw mut (*flow).sojourn.since, 0);
        }
        add(&raw mut (*flow).enqueued, bytes as u64);
        let entered = get(&raw const (*flow).sojourn.entered) + 1;
        set(&raw mut (*flow).sojourn.entered, entered);
        if entered % SOJOURNS_ONE_IN == 1 && get(&raw const (*flow).sojourn.since) == 0 {
            let until = get(&raw const (*flow).enqueued);
            set(&raw mut (*flow).sojourn.until, until);
            set(&raw mut (*flow).sojourn.since, bpf_ktime_get_ns());
        }
    }
}

/// `bytes` of a flow leave its queue, whose index is the answer.
#[inline(always)]
fn leave(whose: FlowRef, bytes: u32) -> Option<u32> {
    let flow = maps::flow(whose)?;
    // SAFETY: fields of a slot.
    unsafe {
        add(&raw mut (*flow).dequeued, bytes as u64);
        get(&raw const (*flow).queue).checked_sub(1)
    }
}

/// Takes the occupancy of the send buffer as it will be once the device has sent `skb`.
#[inline(always)]
fn observe(whose: FlowRef, skb: Skb, now: u64) {
    let Some(flow) = maps::flow(whose) else {
        return;
    };
    // SAFETY: fields of a slot, and a helper without preconditions.
    unsafe {
        set(&raw mut (*flow).updated_ns, now);
        let since = get(&raw const (*flow).sojourn.since);
        let to_go =
            get(&raw const (*flow).sojourn.until).wrapping_sub(get(&raw const (*flow).dequeued));
        if since != 0 && to_go as i64 <= 0 {
            set(&raw mut (*flow).sojourn.since, 0);
            let sojourn = bpf_ktime_get_ns() - since;
            set(&raw mut (*flow).sojourn.last_ns, sojourn);
            add(&raw mut (*flow).sojourn.sum_ns, sojourn);
            add(&raw mut (*flow).sojourn.samples, 1);
        }
    }
    let sk = skb.sk();
    if sk.is_none() {
        return;
    }
    let wmem = buffers::wmem(sk);
    let truesize = skb.truesize();
    let left = wmem.saturating_sub(truesize);
    buffers::observe_send(whose, flow, left, sk.sndbuf());
}
