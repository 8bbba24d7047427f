//! Which watched flows a packet belongs to.

use ebpf_congestion_signals_common::{FLOW_IS_SHARED, FlowAddress, FlowRef, LocalKey, PeerKey};

use crate::kernel::{Skb, Sock};
use crate::maps::{self, LOCALS, PEERS};
use crate::packet;

/// The flows of a packet. A packet can belong to both a watched socket and a watched peer of it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Owner {
    pub socket: FlowRef,
    pub peer: FlowRef,
}

impl Owner {
    pub const NONE: Self = Self {
        socket: FlowRef::NONE,
        peer: FlowRef::NONE,
    };

    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.socket.is_none() && self.peer.is_none()
    }

    /// Whether the packet counts among the sharing flows.
    #[inline(always)]
    pub fn is_shared(self) -> bool {
        (self.socket.slot | self.peer.slot) & FLOW_IS_SHARED != 0
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
        FlowRef::NONE
    } else {
        match packet::ends(skb) {
            Some(ends) => peer_of(cookie, ends.destination),
            None => FlowRef::NONE,
        }
    };
    Owner {
        socket: entry.flow,
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
    if cookie.is_none() && local.scope != 0 {
        key.local.scope = 0;
        // SAFETY: as above.
        cookie = unsafe { LOCALS.get(key) };
    }
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
        FlowRef::NONE
    } else {
        peer_of(cookie, *remote)
    };
    Owner {
        socket: entry.flow,
        peer,
    }
}

/// A peer watched on the packet's link, or on any.
#[inline(always)]
fn peer_of(cookie: u64, remote: FlowAddress) -> FlowRef {
    let mut key = PeerKey { cookie, remote };
    // SAFETY: the value is copied at once.
    let mut flow = unsafe { PEERS.get(key) }.copied();
    if flow.is_none() && remote.scope != 0 {
        key.remote.scope = 0;
        // SAFETY: as above.
        flow = unsafe { PEERS.get(key) }.copied();
    }
    flow.unwrap_or(FlowRef::NONE)
}
