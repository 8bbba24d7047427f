//! Occupancy of a watched socket's buffers, taken wherever a probe has the socket.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use ebpf_congestion_signals_common::{EventKind, FlowRef, FlowSlot};

use crate::atomic::{get, set};
use crate::kernel::{IPPROTO_TCP, Skb, Sock};
use crate::owner::Owner;
use crate::{events, maps, pressure, socket_kind};

/// A flow's crossings are reported no more often than this, nanoseconds: a buffer that fills and
/// empties with every burst would crowd out the drops.
const CROSSING_INTERVAL_NS: u64 = 10_000_000;

/// Bytes of a socket that have not left this host. UDP does not use `sk_wmem_queued`, and TCP's
/// `sk_wmem_alloc` knows nothing of what waits for the window.
#[inline(always)]
pub fn wmem(sk: Sock) -> u32 {
    if sk.protocol() == IPPROTO_TCP as u16 {
        return sk.wmem_queued();
    }
    // The kernel's count starts at one, for the socket.
    let allocated = sk.wmem_alloc();
    if allocated > 0 { allocated - 1 } else { 0 }
}

/// Takes the occupancy of both buffers; `wmem` as the caller knows it.
#[inline(always)]
pub fn observe(whose: FlowRef, flow: *mut FlowSlot, sk: Sock, wmem: u32) {
    observe_send(whose, flow, wmem, sk.sndbuf());
    observe_receive(whose, flow, sk.rmem_alloc(), sk.rcvbuf());
}

#[inline(always)]
pub fn observe_send(whose: FlowRef, flow: *mut FlowSlot, wmem: u32, sndbuf: u32) {
    // SAFETY: fields of a slot.
    unsafe {
        set(&raw mut (*flow).buffers.wmem, wmem);
        set(&raw mut (*flow).buffers.sndbuf, sndbuf);
        let pressed = &raw mut (*flow).wmem_pressed;
        let kinds = [EventKind::SendPressureLow, EventKind::SendPressureHigh];
        cross(whose, flow, pressed, wmem, sndbuf, kinds);
    }
}

/// A packet that leaves its queue, as its socket's send buffer knows it.
#[repr(C)]
pub struct Departed {
    owner: Owner,
    /// Occupancy of the buffer, with the packet.
    wmem: u32,
    /// The buffer's limit; 0: the packet has no full socket.
    sndbuf: u32,
    truesize: u32,
}

impl Departed {
    /// Returns where its owner is noted.
    #[inline(always)]
    pub fn note(departed: *mut Self, owner: Owner, skb: Skb) -> *const Owner {
        let sk = skb.sk();
        // SAFETY: this CPU's own record.
        unsafe {
            (*departed).owner = owner;
            if sk.is_none() || !sk.is_full() {
                (*departed).sndbuf = 0;
            } else {
                (*departed).wmem = wmem(sk);
                (*departed).sndbuf = sk.sndbuf();
                (*departed).truesize = skb.truesize();
            }
            &raw const (*departed).owner
        }
    }
}

/// What the buffer holds once the device has sent the packet, and those of the flow that left before it
/// in the same bulk: none of them is sent before all have left the queue.
#[inline(always)]
pub fn leave(departed: *const Departed, bulk: u32) {
    // SAFETY: this CPU's own record, and fields of a slot.
    unsafe {
        let departed = &*departed;
        if departed.sndbuf == 0 {
            return;
        }
        for whose in [departed.owner.socket, departed.owner.peer] {
            let Some(flow) = maps::flow(whose) else {
                continue;
            };
            // Values are read back: of what is in a map the verifier knows nothing, so it walks what
            // comes next once.
            let left = &raw mut (*flow).bulk_truesize;
            if get(&raw const (*flow).bulk) != bulk {
                set(&raw mut (*flow).bulk, bulk);
                set(left, 0);
            }
            set(left, get(left).wrapping_add(departed.truesize));
            let wmem = &raw mut (*flow).buffers.wmem;
            set(wmem, departed.wmem.saturating_sub(get(left)));
            observe_send(whose, flow, get(wmem), departed.sndbuf);
        }
    }
}

#[inline(always)]
pub fn observe_receive(whose: FlowRef, flow: *mut FlowSlot, rmem: u32, rcvbuf: u32) {
    // SAFETY: fields of a slot.
    unsafe {
        set(&raw mut (*flow).buffers.rmem, rmem);
        set(&raw mut (*flow).buffers.rcvbuf, rcvbuf);
        let pressed = &raw mut (*flow).rmem_pressed;
        let kinds = [
            EventKind::ReceivePressureLow,
            EventKind::ReceivePressureHigh,
        ];
        cross(whose, flow, pressed, rmem, rcvbuf, kinds);
    }
}

/// A packet for `sk` found no room.
#[inline(always)]
pub fn overflowed(sk: Sock) {
    if sk.is_none() {
        return;
    }
    let Some(entry) = maps::watched(sk.cookie()) else {
        return;
    };
    let whose = entry.flow;
    let Some(flow) = maps::flow(whose) else {
        return;
    };
    observe_receive(whose, flow, sk.rmem_alloc(), sk.rcvbuf());
}

/// A receive on `sk` ended: its buffer has room again.
#[inline(always)]
pub fn read_from(sk: Sock) {
    if sk.is_none() {
        return;
    }
    if socket_kind::kind_of(sk).is_none() {
        return;
    }
    let (rmem, rcvbuf) = (sk.rmem_alloc(), sk.rcvbuf());
    let share = pressure::share(rmem, rcvbuf);
    if let Some(host) = maps::host() {
        // SAFETY: a field of a slot.
        unsafe { pressure::note(&raw mut (*host).receive_pressure, share, 1) };
    }
    let Some(entry) = maps::watched(sk.cookie()) else {
        return;
    };
    let whose = entry.flow;
    let Some(flow) = maps::flow(whose) else {
        return;
    };
    // SAFETY: a field of a slot.
    unsafe { pressure::note(&raw mut (*flow).receive_pressure, share, 1) };
    observe_receive(whose, flow, rmem, rcvbuf);
    if rmem != 0
        && let Some([length, truesize]) = sk.waiting()
    {
        note_received(flow, length, truesize);
    }
}

/// Records what a packet in the receive buffer is charged for.
#[inline(always)]
pub fn note_received(flow: *mut FlowSlot, length: u32, truesize: u32) {
    // SAFETY: fields of a slot.
    unsafe {
        set(&raw mut (*flow).buffers.received_payload, length);
        set(&raw mut (*flow).buffers.received_truesize, truesize);
    }
}

/// Reports a threshold crossed: up at three quarters of the limit, down at a half.
#[inline(always)]
fn cross(
    whose: FlowRef,
    flow: *mut FlowSlot,
    pressed: *mut u32,
    bytes: u32,
    limit: u32,
    [low, high]: [EventKind; 2],
) {
    let was = get(pressed);
    let is = if bytes > limit - limit / 4 {
        1
    } else if bytes < limit / 2 {
        0
    } else {
        was
    };
    if is == was {
        return;
    }
    // SAFETY: a field of a slot, and a helper without preconditions.
    unsafe {
        let now = bpf_ktime_get_ns();
        if now - get(&raw const (*flow).pressure_ns) < CROSSING_INTERVAL_NS {
            return;
        }
        set(&raw mut (*flow).pressure_ns, now);
        set(pressed, is);
        let kind = if is == 1 { high } else { low };
        events::pressure(kind, now, whose, bytes, limit);
    }
}
