//! The watched flows of a packet.

use ebpf_congestion_signals_common::{FlowRef, LocalKey, PeerKey};

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

    /// Both, and whether the packet counts as shared by each.
    #[inline(always)]
    pub fn flows(self) -> [(FlowRef, bool); 2] {
        [
            (self.socket, self.socket_shares()),
            (self.peer, self.peer_shares()),
        ]
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
