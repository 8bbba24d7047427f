//! Which watched flows a packet belongs to.

use ebpf_congestion_signals_common::{FLOW_IS_SHARED, FlowAddress, LocalKey, PeerKey};

use crate::atomic::get;
use crate::kernel::{Skb, Sock};
use crate::maps::{self, LOCALS, PEERS};
use crate::packet;

/// The flows of a packet, as indices in the array of slots; 0: none. A packet can belong to both
/// a watched socket and a watched peer of it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Owner {
    pub socket: u32,
    pub peer: u32,
}

impl Owner {
    pub const NONE: Self = Self { socket: 0, peer: 0 };

    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.socket == 0 && self.peer == 0
    }

    /// Whether the packet counts among the sharing flows.
    #[inline(always)]
    pub fn is_shared(self) -> bool {
        is_shared(self.peer) || is_shared(self.socket)
    }
}

#[inline(always)]
fn is_shared(slot: u32) -> bool {
    if slot == 0 {
        return false;
    }
    match maps::flow(slot) {
        // SAFETY: a field of a slot.
        Some(flow) => get(unsafe { &raw const (*flow).flags }) & FLOW_IS_SHARED != 0,
        None => false,
    }
}

/// Of a packet on its way out.
#[inline(always)]
pub fn of_leaving(skb: Skb) -> Owner {
    let sk = skb.sk();
    if sk.is_none() {
        return match packet::ends(skb) {
            Some(ends) => by_address(skb, &ends.source, &ends.destination, ends.protocol),
            None => Owner::NONE,
        };
    }
    let cookie = sk.cookie();
    let Some(entry) = maps::watched(cookie) else {
        return Owner::NONE;
    };
    let peer = if entry.peers == 0 {
        0
    } else {
        match packet::ends(skb) {
            Some(ends) => peer_of(cookie, ends.destination),
            None => 0,
        }
    };
    Owner {
        socket: entry.slot,
        peer,
    }
}

/// Of a packet that came in from a device; `receiver` is the socket it was for, where known.
#[inline(always)]
pub fn of_arriving(skb: Skb, receiver: Sock) -> Owner {
    let receiver = if receiver.is_none() {
        skb.sk()
    } else {
        receiver
    };
    let cookie = if receiver.is_none() {
        0
    } else {
        receiver.cookie()
    };
    let Some(ends) = packet::ends(skb) else {
        return Owner::NONE;
    };
    if cookie == 0 {
        return by_address(skb, &ends.destination, &ends.source, ends.protocol);
    }
    by_cookie(cookie, &ends.source)
}

#[inline(always)]
fn by_address(skb: Skb, local: &FlowAddress, remote: &FlowAddress, protocol: u8) -> Owner {
    let mut key = LocalKey {
        netns: skb.dev().netns_cookie(),
        local: *local,
        protocol: protocol as u64,
    };
    // SAFETY: the value is read before the program ends.
    let mut cookie = unsafe { LOCALS.get(key) };
    if cookie.is_none() {
        key.local = FlowAddress::wildcard(local.port);
        // SAFETY: as above.
        cookie = unsafe { LOCALS.get(key) };
    }
    match cookie {
        Some(cookie) => by_cookie(*cookie, remote),
        None => Owner::NONE,
    }
}

#[inline(always)]
fn by_cookie(cookie: u64, remote: &FlowAddress) -> Owner {
    let Some(entry) = maps::watched(cookie) else {
        return Owner::NONE;
    };
    let peer = if entry.peers == 0 {
        0
    } else {
        peer_of(cookie, *remote)
    };
    Owner {
        socket: entry.slot,
        peer,
    }
}

#[inline(always)]
fn peer_of(cookie: u64, remote: FlowAddress) -> u32 {
    // SAFETY: the value is read before the program ends.
    match unsafe { PEERS.get(PeerKey { cookie, remote }) } {
        Some(slot) => *slot,
        None => 0,
    }
}
