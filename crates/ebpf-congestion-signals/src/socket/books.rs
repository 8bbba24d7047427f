//! What a socket has sent, and to which peer, as long as it may be in the host.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::flow::Flow;
use super::ledger::{Destination, Ledger};

/// The destination of all datagrams to peers that are not watched themselves.
pub(super) const NOBODY: Destination = 0;

/// What changes with every send.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) ledger: Ledger,
    pub(super) peers: HashMap<SocketAddr, Destination>,
    pub(super) flows: HashMap<Destination, Arc<Flow>>,
    pub(super) last_destination: Destination,
    /// Where the last send went.
    pub(super) sent_to: Option<SocketAddr>,
    /// The kernel's count of receive drops, which wraps.
    pub(super) kernel_drops: Option<u32>,
}

/// An address in the one form that a peer is known by: IPv4 as such, no flow label.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(mut v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, v6.port())),
            None => {
                v6.set_flowinfo(0);
                v6.into()
            }
        },
        v4 @ SocketAddr::V4(_) => v4,
    }
}

impl Books {
    pub(super) fn destination(&self, address: SocketAddr) -> Destination {
        if self.peers.is_empty() {
            return NOBODY;
        }
        let destination = self.peers.get(&canonical(address));
        destination.copied().unwrap_or(NOBODY)
    }
}

/// Bytes that have left, in sum and of the sharing flows.
#[derive(Default)]
pub(super) struct Left {
    pub(super) all: u64,
    pub(super) shared: u64,
}

impl Left {
    pub(super) fn count(&mut self, socket: &Flow, peer: Option<&Arc<Flow>>, bytes: u64) {
        self.all += bytes;
        for flow in std::iter::once(socket).chain(peer.map(AsRef::as_ref)) {
            // A peer that is watched since its packets were sent has none of them on its account.
            let of_flow = bytes.min(flow.own());
            flow.leaves(of_flow);
            self.shared += if flow.is_sharing() { of_flow } else { 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_the_same_in_every_form_of_its_address() {
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:7".parse().unwrap();
        assert_eq!(canonical(mapped), "192.0.2.1:7".parse().unwrap());
        let scoped = |scope| {
            SocketAddr::V6(std::net::SocketAddrV6::new(
                "fe80::1".parse().unwrap(),
                7,
                5,
                scope,
            ))
        };
        assert_ne!(canonical(scoped(1)), canonical(scoped(2)));
    }
}
