//! The kind of a socket.

use ebpf_congestion_signals_common::Socket;

use crate::kernel::{IPPROTO_TCP, IPPROTO_UDP, Sock};

pub const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Which kind of socket this is; `None` for all but UDP and TCP.
#[inline(always)]
pub fn kind_of(sk: Sock) -> Option<Socket> {
    let family = sk.family();
    if (family != AF_INET && family != AF_INET6) || !sk.is_full() {
        return None;
    }
    let v6 = family == AF_INET6;
    let protocol = sk.protocol();
    if protocol == IPPROTO_UDP as u16 {
        Some(if v6 { Socket::Udp6 } else { Socket::Udp4 })
    } else if protocol == IPPROTO_TCP as u16 {
        Some(if v6 { Socket::Tcp6 } else { Socket::Tcp4 })
    } else {
        None
    }
}
