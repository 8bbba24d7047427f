//! How packets change what a flow has in a queue, in global functions: the kernel verifies a function
//! that is visible outside of its object once, and not again at each call, such as for each packet of a
//! bulk. On Linux 5.10 such a function takes numbers only; it never takes more than five.
//!
//! Kernels before 6.5 load a build without calls (feature `inlined`): there, a program with calls has no
//! table of the loads that may fault, and the first fault stops the kernel.

use ebpf_congestion_signals_common::{FlowRef, FlowSlot};

use crate::atomic::set;
use crate::buffers;
use crate::in_queue::{self, Entry, Place};
use crate::maps;
use crate::owner::Owner;

/// A packet of these flows enters the queue; `entry.followed` is a number to the verifier.
#[inline(always)]
pub fn enter(owner: Owner, place: Place, entry: Entry) {
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

/// Puts a packet into what a flow has in the queue.
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

/// The packet was dropped after it had entered the queue: takes it out of what these flows have there.
#[inline(always)]
pub fn drop_inside(owner: Owner, place: Place, bytes: u32, address: u64) {
    let place_and_bytes = (place.index as u64) << 32 | bytes as u64;
    for (flow, shares) in [
        (owner.socket, owner.socket_shares()),
        (owner.peer, owner.peer_shares()),
    ] {
        if !flow.is_none() {
            drop_from(packed(flow), place_and_bytes, address, shares as u64);
        }
    }
}

/// Takes a packet that was dropped inside out of what a flow has in the queue.
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

/// A packet of these flows leaves the queue of this index. `address` is a number to the verifier;
/// `buffer` holds the occupancy of the send buffer in the upper half and its size in the lower, or is 0.
#[inline(always)]
pub fn leave(owner: Owner, index: u32, bytes: u32, address: u64, buffer: u64) {
    let place_and_bytes = (index as u64) << 32 | bytes as u64;
    let (socket, peer) = (packed(owner.socket), packed(owner.peer));
    take_out(place_and_bytes, socket, peer, address, buffer);
}

/// Takes a packet of these flows out of what they have in the queue.
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
