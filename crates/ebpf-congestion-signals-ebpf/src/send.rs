//! What sockets hand to the kernel, and what the kernel hands to devices.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use ebpf_congestion_signals_common::{ABSENT, FlowRef, SendCounters};

use crate::atomic::{add, add_alone, set};
use crate::attribution;
use crate::buffers;
use crate::kernel::{Skb, Sock, VXLAN, fact};
use crate::maps;
use crate::owner::Owner;
use crate::packet;
use crate::pressure;
use crate::socket_kind::{AF_INET, kind_of};

/// As [`socket_took`], where a send of an IPv6 socket to an IPv4 address comes by too, which was
/// counted for what it was called as.
#[inline(always)]
pub fn udp_took(sk: Sock, result: i32) {
    if !sk.is_none() && sk.family() == AF_INET {
        socket_took(sk, result);
    }
}

/// A send on `sk` ended with `result`: bytes, or a negative error.
#[inline(always)]
pub fn socket_took(sk: Sock, result: i32) {
    if result < 0 || sk.is_none() {
        return;
    }
    let every = maps::sample_every();
    // SAFETY: a helper without preconditions.
    if every > 1 && unsafe { bpf_get_prandom_u32() } % every != 0 {
        return;
    }
    let Some(kind) = kind_of(sk) else { return };
    let wmem = buffers::wmem(sk);
    let share = pressure::share(wmem, sk.sndbuf());
    let bytes = result as u64;
    if let Some(host) = maps::host() {
        // SAFETY: fields of a slot.
        unsafe {
            count(&raw mut (*host).send[kind as usize], bytes, every);
            pressure::note(&raw mut (*host).send_pressure, share, every);
        }
    }
    let Some(entry) = maps::watched(sk.cookie()) else {
        return;
    };
    let Some(flow) = maps::flow(entry.flow) else {
        return;
    };
    // SAFETY: fields of a slot.
    unsafe {
        count(&raw mut (*flow).send, bytes, every);
        pressure::note(&raw mut (*flow).send_pressure, share, every);
    }
    buffers::observe(entry.flow, flow, sk, wmem);
}

/// Counts a call, weighted by those that were not sampled.
#[inline(always)]
fn count(counters: *mut SendCounters, bytes: u64, every: u32) {
    let every = every as u64;
    // SAFETY: fields of a slot.
    unsafe {
        add(&raw mut (*counters).bytes, bytes * every);
        add(&raw mut (*counters).calls, every);
        if every > 1 {
            add(&raw mut (*counters).estimated, every - 1);
        }
    }
}

/// A packet is about to be queued for a device.
#[inline(always)]
pub fn device_takes(skb: Skb) {
    let Some(transit) = maps::transit() else {
        return;
    };
    let device = skb.dev();
    let is_stacked = device.is_stacked();
    let is_in_tunnel = skb.is_in_tunnel();
    // SAFETY: elements of this CPU's own record.
    let record = unsafe {
        if is_stacked {
            &raw mut (*transit).handed[1]
        } else if is_in_tunnel {
            &raw mut (*transit).handed[2]
        } else {
            &raw mut (*transit).handed[0]
        }
    };
    // A packet without a socket is forwarded, or the kernel's own.
    let sk = skb.sk();
    let had_socket = !sk.is_none();
    let owner = if had_socket {
        attribution::of_leaving(skb)
    } else {
        Owner::NONE
    };
    // The on-wire length counts the headers of every segment, so it is longer for a batch alone.
    let bytes = skb.pkt_len();
    let packets = if bytes > skb.len() {
        packet::packets(skb)
    } else {
        1
    };
    maps::supersede(transit, skb.address());
    // SAFETY: this CPU's own record.
    unsafe {
        (*record).skb = skb.address();
        (*record).owner = owner;
        (*record).packets = packets;
        (*record).had_socket = had_socket as u32;
        // The rest is asked for only of a packet that has an owner, or is a batch.
        if !owner.is_none() || packets > 1 {
            (*record).device = device.address();
            (*record).bytes = bytes;
            (*record).queued = 0;
            (*record).refused_bytes = if packets > 1 { bytes } else { 0 };
            (*record).mapping = skb.queue_mapping() as u32;
        }
    }
    // Counted once: where the packet comes to a device for the first time, not where another device
    // or a tunnel hands it on, nor where it was received from one by a bridge.
    let is_counted = fact!(counts_all) != ABSENT || !owner.is_none();
    if !had_socket || !is_counted || skb.iif() != 0 {
        return;
    }
    let is_first = if is_stacked {
        device.kind() == VXLAN
    } else {
        !is_in_tunnel
    };
    if !is_first {
        return;
    }
    let Some(kind) = kind_of(sk) else { return };
    if fact!(counts_all) != ABSENT
        && let Some(host) = maps::host()
    {
        // SAFETY: a field of a slot.
        unsafe { add_alone(&raw mut (*host).packets[kind as usize], packets as u64) };
    }
    if owner.is_none() {
        return;
    }
    let sent = Sent {
        payload: packet::payload(skb, sk.protocol() as u8),
        packets,
        truesize: skb.truesize(),
        time_ns: maps::tick_time(transit),
    };
    count_sent(owner.socket, &sent);
    count_sent(owner.peer, &sent);
}

/// A packet or batch that is handed to a device.
struct Sent {
    payload: u32,
    packets: u32,
    truesize: u32,
    time_ns: u64,
}

#[inline(always)]
fn count_sent(flow: FlowRef, sent: &Sent) {
    let Some(flow) = maps::flow(flow) else { return };
    // SAFETY: fields of a slot.
    unsafe {
        add(&raw mut (*flow).sent_bytes, sent.payload as u64);
        add(&raw mut (*flow).sent_packets, sent.packets as u64);
        add(&raw mut (*flow).sent_skbs, 1);
        set(&raw mut (*flow).buffers.sent_payload, sent.payload);
        set(&raw mut (*flow).buffers.sent_truesize, sent.truesize);
        set(&raw mut (*flow).updated_ns, sent.time_ns);
    }
}
