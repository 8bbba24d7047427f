//! What a socket says of itself.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ebpf_congestion_signals_common::{FlowAddress, LocalKey};
use socket2::{Domain, Protocol, SockRef, Type};

use crate::error::WatchError;

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
    let failed = |operation| move |source| WatchError::Socket { operation, source };
    let reference = SockRef::from(&socket);
    let domain = reference.domain().map_err(failed("SO_DOMAIN"))?;
    let kind = reference.r#type().map_err(failed("SO_TYPE"))?;
    let protocol = reference.protocol().map_err(failed("SO_PROTOCOL"))?;
    let is_udp = kind == Type::DGRAM && protocol == Some(Protocol::UDP);
    let is_tcp = kind == Type::STREAM && protocol == Some(Protocol::TCP);
    if !matches!(domain, Domain::IPV4 | Domain::IPV6) || !(is_udp || is_tcp) {
        let found = format!("{domain:?}, {kind:?}, {protocol:?}");
        return Err(WatchError::WrongProtocol { found });
    }
    let local = reference.local_addr().map_err(failed("getsockname"))?;
    let local = local
        .as_socket()
        .filter(|local| local.port() != 0)
        .ok_or(WatchError::NotBound)?;
    // Asking gives the socket its cookie: until then the kernel has none for it.
    let cookie = reference.cookie().map_err(failed("SO_COOKIE"))?;
    if is_tcp {
        return Ok(Identity {
            cookie,
            local: None,
        });
    }
    let local = LocalKey {
        netns: netns_cookie(socket)
            .map_err(failed("SO_NETNS_COOKIE"))?
            .unwrap_or(0),
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

/// The cookie of the socket's network namespace; `None` before Linux 5.14.
pub(super) fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    let mut cookie = 0u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: `cookie` and `length` are valid for the kernel to write, and `length` is its size.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if answer == 0 {
        return Ok(Some(cookie));
    }
    match io::Error::last_os_error() {
        unknown if unknown.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
        error => Err(error),
    }
}
