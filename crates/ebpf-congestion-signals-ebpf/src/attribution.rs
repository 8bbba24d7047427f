//! Which watched flows a packet belongs to: found by its socket, else by its addresses.

use ebpf_congestion_signals_common::{FlowAddress, FlowRef, LocalKey, PeerKey};

use crate::kernel::{Skb, Sock};
use crate::maps::{self, Finder, LOCALS, PEERS};
use crate::owner::Owner;
use crate::packet;

/// Of an egress packet.
#[inline(always)]
pub fn of_leaving(skb: Skb) -> Owner {
    let sk = skb.sk();
    let mut cookie = 0;
    let mut of_socket = None;
    if !sk.is_none() {
        cookie = sk.cookie();
        let Some(entry) = maps::watched(cookie) else {
            return Owner::NONE;
        };
        if entry.peers == 0 {
            return Owner::of_socket(entry.flow);
        }
        of_socket = Some(entry.flow);
    } else if skb.iif() != 0 {
        // Forwarded: received from a device, and never a socket's of this namespace.
        return Owner::NONE;
    }
    let Some(work) = maps::finding(Finder::Sending) else {
        return Owner::NONE;
    };
    // SAFETY: this CPU's own record. These programs run with softirqs off, and none interrupts another.
    unsafe {
        let found = packet::parse(skb, &raw mut (*work).parsing);
        let ends = &raw const (*work).parsing.ends;
        let socket = if let Some(flow) = of_socket {
            if !found {
                return Owner::of_socket(flow);
            }
            flow
        } else {
            if !found {
                return Owner::NONE;
            }
            (*work).local.netns = skb.dev().netns_cookie();
            (*work).local.local = (*ends).source;
            (*work).local.protocol = (*ends).protocol as u64;
            cookie = by_key(&raw mut (*work).local);
            let Some(entry) = maps::watched(cookie) else {
                return Owner::NONE;
            };
            if entry.peers == 0 {
                return Owner::of_socket(entry.flow);
            }
            entry.flow
        };
        (*work).peer.cookie = cookie;
        (*work).peer.remote = (*ends).destination;
        Owner {
            socket,
            peer: peer_by_key(&raw mut (*work).peer),
        }
    }
}

/// Of a packet that was dropped at egress, or that came in from a device; `receiver` is the
/// socket it was for, where known. Its headers are read only if the answer needs them.
#[inline(always)]
pub fn of_dropped(skb: Skb, arriving: bool, receiver: Sock) -> Owner {
    let sk = skb.sk();
    let at_hand = if arriving { receiver } else { sk };
    let mut cookie = 0;
    if !at_hand.is_none() {
        cookie = at_hand.cookie();
        let Some(entry) = maps::watched(cookie) else {
            return Owner::NONE;
        };
        if entry.peers == 0 {
            return Owner::of_socket(entry.flow);
        }
    }
    let Some(work) = maps::finding(Finder::Dropping) else {
        return Owner::NONE;
    };
    // SAFETY: this CPU's own record, which no other program uses, and this one does not interrupt
    // itself.
    unsafe {
        let found = packet::parse(skb, &raw mut (*work).parsing);
        let ends = &raw const (*work).parsing.ends;
        let (local, remote) = if arriving {
            (&raw const (*ends).destination, &raw const (*ends).source)
        } else {
            (&raw const (*ends).source, &raw const (*ends).destination)
        };
        if found && cookie == 0 {
            // A packet of a sender on this host keeps the sender's socket until it is received.
            if !sk.is_none() && sk.port() == (*local).port && sk.port() != (*remote).port {
                cookie = sk.cookie();
            }
            if cookie == 0 {
                (*work).local.netns = skb.dev_unless_delivered().netns_cookie();
                (*work).local.local = *local;
                (*work).local.protocol = (*ends).protocol as u64;
                cookie = by_key(&raw mut (*work).local);
            }
        }
        let Some(entry) = maps::watched(cookie) else {
            return Owner::NONE;
        };
        let peer = if entry.peers == 0 || !found {
            FlowRef::NONE
        } else {
            (*work).peer.cookie = cookie;
            (*work).peer.remote = *remote;
            peer_by_key(&raw mut (*work).peer)
        };
        Owner {
            socket: entry.flow,
            peer,
        }
    }
}

/// The cookie of the watched socket that has this address, on its link or on any, or has its port on
/// all addresses; 0: none has.
#[inline(always)]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "by value, the key would be copied onto the stack, which has no room"
)]
fn by_key(key: *mut LocalKey) -> u64 {
    // SAFETY: the caller's memory, and values that are copied at once.
    unsafe {
        let mut cookie = LOCALS.get(&*key).copied();
        if cookie.is_none() && (*key).local.scope != 0 {
            (*key).local.scope = 0;
            cookie = LOCALS.get(&*key).copied();
        }
        if cookie.is_none() {
            (*key).local = FlowAddress::wildcard((*key).local.port);
            cookie = LOCALS.get(&*key).copied();
        }
        cookie.unwrap_or(0)
    }
}

/// A peer watched on the packet's link, or on any.
#[inline(always)]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "by value, the key would be copied onto the stack, which has no room"
)]
fn peer_by_key(key: *mut PeerKey) -> FlowRef {
    // SAFETY: the caller's memory, and values that are copied at once.
    unsafe {
        let mut flow = PEERS.get(&*key).copied();
        if flow.is_none() && (*key).remote.scope != 0 {
            (*key).remote.scope = 0;
            flow = PEERS.get(&*key).copied();
        }
        flow.unwrap_or(FlowRef::NONE)
    }
}
