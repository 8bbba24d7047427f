//! What sockets hand to the kernel, and what the kernel hands to devices.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use ebpf_congestion_signals_common::Socket;

use crate::atomic::{add, set};
use crate::buffers;
use crate::kernel::{Skb, Sock};
use crate::maps::{self, SOCKETS};
use crate::owner::{self, Owner};
use crate::packet::{self, IPPROTO_TCP, IPPROTO_UDP};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// A send on `sk` ended with `result`: bytes, or a negative error.
#[inline(always)]
pub fn socket_took(sk: Sock, result: i32) {
    if result < 0 || sk.is_none() {
        return;
    }
    let family = sk.family();
    if family != AF_INET && family != AF_INET6 {
        return;
    }
    let v6 = family == AF_INET6;
    let protocol = sk.protocol();
    let (kind, wmem) = if protocol == IPPROTO_UDP as u16 {
        (
            if v6 { Socket::Udp6 } else { Socket::Udp4 },
            buffers::udp_wmem(sk),
        )
    } else if protocol == IPPROTO_TCP as u16 {
        (
            if v6 { Socket::Tcp6 } else { Socket::Tcp4 },
            sk.wmem_queued(),
        )
    } else {
        return;
    };
    let sndbuf = sk.sndbuf();
    let pressure = buffers::pressure(wmem, sndbuf);
    let bytes = result as u64;
    if let Some(host) = maps::host() {
        // SAFETY: fields of a slot.
        unsafe {
            add(&raw mut (*host).send[kind as usize].bytes, bytes);
            add(&raw mut (*host).send[kind as usize].calls, 1);
            add(&raw mut (*host).pressure_sum, pressure);
            add(&raw mut (*host).pressure_samples, 1);
        }
    }
    let cookie = sk.cookie();
    if cookie == 0 {
        return;
    }
    // SAFETY: the value is read before the program ends.
    let Some(entry) = (unsafe { SOCKETS.get(cookie) }) else {
        return;
    };
    let slot = entry.slot;
    if slot == 0 {
        return;
    }
    let Some(flow) = maps::flow(slot) else { return };
    // SAFETY: fields of a slot.
    unsafe {
        add(&raw mut (*flow).send.bytes, bytes);
        add(&raw mut (*flow).send.calls, 1);
        add(&raw mut (*flow).pressure_sum, pressure);
        add(&raw mut (*flow).pressure_samples, 1);
    }
    buffers::observe(slot, flow, sk, wmem);
}

/// A packet is about to be queued for a device.
#[inline(always)]
pub fn device_takes(skb: Skb) {
    let Some(transit) = maps::in_transit() else {
        return;
    };
    // A packet without a socket is forwarded, or the kernel's own.
    let had_socket = !skb.sk().is_none();
    let owner = if had_socket {
        owner::of_leaving(skb)
    } else {
        Owner::NONE
    };
    // The on-wire length counts the headers of every segment, so it is longer for a batch alone.
    let packets = if skb.pkt_len() > skb.len() {
        packet::packets(skb)
    } else {
        1
    };
    // SAFETY: this CPU's own record.
    unsafe {
        (*transit).skb = skb.address();
        (*transit).owner = owner;
        (*transit).queued = 0;
        (*transit).packets = packets;
        (*transit).had_socket = had_socket as u32;
    }
    if owner.is_none() {
        return;
    }
    // SAFETY: as above.
    unsafe { (*transit).bytes = skb.pkt_len() };
    let payload = packet::udp_payload(skb) as u64;
    // SAFETY: a helper without preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    count_sent(owner.socket, payload, packets as u64, now);
    count_sent(owner.peer, payload, packets as u64, now);
}

#[inline(always)]
fn count_sent(slot: u32, payload: u64, packets: u64, now: u64) {
    if slot == 0 {
        return;
    }
    let Some(flow) = maps::flow(slot) else { return };
    // SAFETY: fields of a slot.
    unsafe {
        add(&raw mut (*flow).sent_bytes, payload);
        add(&raw mut (*flow).sent_packets, packets);
        add(&raw mut (*flow).sent_skbs, 1);
        set(&raw mut (*flow).updated_ns, now);
    }
}
