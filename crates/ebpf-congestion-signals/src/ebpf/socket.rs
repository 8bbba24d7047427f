//! A socket's identity, as getsockopt returns it.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use crate::error::WatchError;
use crate::inet::{Inet, netns_cookie};
use ebpf_congestion_signals_common::{FlowAddress, LocalKey};

/// A socket's identity, as the probes know it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) cookie: u64,
    /// By which packets that have lost the socket are found. None for TCP: segments keep their
    /// socket, and many sockets share one local address.
    pub(super) local: Option<LocalKey>,
}

/// `IPPROTO_UDP`
const UDP: u64 = 17;

/// Asks the kernel who `socket` is.
pub(super) fn identify(socket: BorrowedFd<'_>) -> Result<Identity, WatchError> {
    let Inet {
        cookie,
        local,
        is_tcp,
        ..
    } = Inet::of(socket)?;
    if is_tcp {
        return Ok(Identity {
            cookie,
            local: None,
        });
    }
    let netns = netns_cookie(socket).map_err(|source| WatchError::Socket {
        operation: "SO_NETNS_COOKIE",
        source,
    })?;
    let local = LocalKey {
        netns: netns.unwrap_or(0),
        local: if local.ip().is_unspecified() {
            FlowAddress::wildcard(local.port())
        } else {
            address(local)
        },
        protocol: UDP,
    };
    Ok(Identity {
        cookie,
        local: Some(local),
    })
}

/// An address as the probes read it from a packet.
pub(super) fn address(address: SocketAddr) -> FlowAddress {
    match address {
        SocketAddr::V4(v4) => FlowAddress::v4(v4.ip().octets(), v4.port()),
        SocketAddr::V6(v6) => FlowAddress::v6(v6.ip().octets(), v6.port()).on_link(v6.scope_id()),
    }
}
