//! What the kernel says of a socket.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::{Domain, Protocol, SockRef, Type};

use crate::error::WatchError;

/// A bound UDP or TCP socket over IPv4 or IPv6.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inet {
    /// The kernel's number of the socket, the same for every descriptor of it.
    pub(crate) cookie: u64,
    #[cfg_attr(
        not(feature = "ebpf"),
        expect(dead_code, reason = "only the probes find packets by it")
    )]
    pub(crate) local: SocketAddr,
    pub(crate) is_ipv6: bool,
    pub(crate) is_tcp: bool,
}

impl Inet {
    /// Asks the kernel what `socket` is.
    pub(crate) fn of(socket: BorrowedFd<'_>) -> Result<Self, WatchError> {
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
        let local = local.as_socket().filter(|local| local.port() != 0);
        Ok(Self {
            local: local.ok_or(WatchError::NotBound)?,
            // Asking gives the socket its cookie: until then the kernel has none for it.
            cookie: reference.cookie().map_err(failed("SO_COOKIE"))?,
            is_ipv6: domain == Domain::IPV6,
            is_tcp,
        })
    }
}

/// The kernel's number of the socket's network namespace; `None` before Linux 5.14.
pub(crate) fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    let mut cookie = 0u64;
    match read_option(
        socket,
        libc::SO_NETNS_COOKIE,
        std::slice::from_mut(&mut cookie),
    ) {
        Ok(()) => Ok(Some(cookie)),
        Err(unknown) if unknown.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An integer type, any bits of which are a value.
pub(crate) trait Word: Copy {}
impl Word for u32 {}
impl Word for u64 {}

/// Reads an option of level `SOL_SOCKET`. Entries that the kernel does not have stay as they are.
pub(crate) fn read_option<T: Word>(
    socket: BorrowedFd<'_>,
    option: libc::c_int,
    value: &mut [T],
) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(size_of_val(value)).unwrap_or(0);
    // SAFETY: `value` is valid for the kernel to write `length` bytes, and any bits are a `Word`.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
