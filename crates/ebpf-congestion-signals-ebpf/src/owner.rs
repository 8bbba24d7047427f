//! The watched flows of a packet.

use ebpf_congestion_signals_common::{FlowRef, LocalKey, PeerKey};

use crate::atomic::get;
use crate::packet::Parsing;

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
    pub fn of_socket(socket: FlowRef) -> Self {
        Self {
            socket,
            peer: FlowRef::NONE,
        }
    }

    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.socket.is_none() && self.peer.is_none()
    }

    /// The socket's flow (0) or the peer's (1) of an owner in a map, and whether the packet counts as
    /// shared by it. Read each time: of what is in a map the verifier knows nothing, so it verifies what
    /// comes next once.
    #[inline(always)]
    pub fn flow(owner: *const Self, which: u32) -> (FlowRef, bool) {
        // SAFETY: callers pass what is in a map.
        let owner = unsafe {
            Self {
                socket: get(&raw const (*owner).socket),
                peer: get(&raw const (*owner).peer),
            }
        };
        if which == 0 {
            (owner.socket, owner.socket_shares())
        } else {
            (owner.peer, owner.peer_shares())
        }
    }

    #[inline(always)]
    pub fn is_same(self, other: Self) -> bool {
        self.socket == other.socket && self.peer == other.peer
    }

    /// Whether the packet counts as shared by its socket's flow.
    #[inline(always)]
    pub fn socket_shares(self) -> bool {
        self.socket.is_shared()
    }

    /// Whether it counts as shared by its peer's flow: once for both.
    #[inline(always)]
    pub fn peer_shares(self) -> bool {
        self.peer.is_shared() && !self.socket.is_shared()
    }
}

/// Room to find the owner of a packet in: the stack of a probe is small, and the verifier follows what is on it.
#[repr(C)]
pub struct Finding {
    pub parsing: Parsing,
    pub local: LocalKey,
    pub peer: PeerKey,
}
