//! What the kernel says of a socket of the program's own, and what it is asked to report.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};
use nix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, SockRef, Type};

use crate::error::WatchError;
use crate::sample::KernelTime;

/// What a socket is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The kernel's number of the socket, the same for every descriptor of it.
    pub(super) cookie: u64,
    /// The kernel's number of its network namespace; `None` before Linux 5.14.
    pub(super) netns: Option<u64>,
    pub(super) is_ipv6: bool,
}

/// Asks the kernel what a socket is. Only UDP sockets that are bound will do.
pub(super) fn identify(socket: BorrowedFd<'_>) -> Result<Identity, WatchError> {
    let failed = |operation| move |source| WatchError::Socket { operation, source };
    let reference = SockRef::from(&socket);
    let domain = reference.domain().map_err(failed("SO_DOMAIN"))?;
    let kind = reference.r#type().map_err(failed("SO_TYPE"))?;
    let protocol = reference.protocol().map_err(failed("SO_PROTOCOL"))?;
    if !matches!(domain, Domain::IPV4 | Domain::IPV6)
        || kind != Type::DGRAM
        || protocol != Some(Protocol::UDP)
    {
        let found = format!("{domain:?}, {kind:?}, {protocol:?}");
        return Err(WatchError::WrongProtocol { found });
    }
    let local = reference.local_addr().map_err(failed("getsockname"))?;
    if local.as_socket().is_none_or(|local| local.port() == 0) {
        return Err(WatchError::NotBound);
    }
    Ok(Identity {
        cookie: reference.cookie().map_err(failed("SO_COOKIE"))?,
        netns: netns(socket),
        is_ipv6: domain == Domain::IPV6,
    })
}

/// The kernel's number of a socket's network namespace; `None` before Linux 5.14.
pub(super) fn netns(socket: impl AsFd) -> Option<u64> {
    let mut cookie = 0u64;
    read_option(
        socket.as_fd(),
        libc::SO_NETNS_COOKIE,
        std::slice::from_mut(&mut cookie),
    )
    .ok()?;
    Some(cookie)
}

/// Asks the kernel to answer sends with the errors that it otherwise keeps to itself: `ENOBUFS` of
/// a full queue, and what ICMP reports.
pub(super) fn report_errors(socket: BorrowedFd<'_>, is_ipv6: bool) -> Result<(), WatchError> {
    let failed = |operation| {
        move |error: nix::Error| WatchError::Socket {
            operation,
            source: error.into(),
        }
    };
    if is_ipv6 {
        setsockopt(&socket, Ipv6RecvErr, &true).map_err(failed("IPV6_RECVERR"))?;
    }
    // An IPv6 socket sends to IPv4-mapped addresses by IPv4's rules.
    match setsockopt(&socket, Ipv4RecvErr, &true) {
        Err(_) if is_ipv6 => Ok(()),
        answer => answer.map_err(failed("IP_RECVERR")),
    }
}

/// The kernel's monotonic clock now.
pub(super) fn now() -> KernelTime {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    KernelTime::from_nanos(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

/// A socket's memory, in bytes of `truesize`, and its drops (`SO_MEMINFO`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Received and not yet read (`sk_rmem_alloc`).
    pub(super) receive: u32,
    /// Limit of that (`sk_rcvbuf`).
    pub(super) receive_limit: u32,
    /// Sent and still in this host (`sk_wmem_alloc`).
    pub(super) send: u32,
    /// Limit of that (`sk_sndbuf`).
    pub(super) send_limit: u32,
    /// Datagrams dropped because the receive buffer was full. Wraps.
    pub(super) drops: u32,
}

/// Entries of `SO_MEMINFO` up to its last that is of use, from `linux/sock_diag.h`.
const MEMINFO_ENTRIES: usize = 9;
const RMEM_ALLOC: usize = 0;
const RCVBUF: usize = 1;
const WMEM_ALLOC: usize = 2;
const SNDBUF: usize = 3;
const DROPS: usize = 8;

/// Asks for a socket's memory. Linux 4.12.
pub(super) fn memory(socket: BorrowedFd<'_>) -> io::Result<Memory> {
    let mut entries = [0u32; MEMINFO_ENTRIES];
    read_option(socket, libc::SO_MEMINFO, &mut entries)?;
    Ok(Memory {
        receive: entries[RMEM_ALLOC],
        receive_limit: entries[RCVBUF],
        send: entries[WMEM_ALLOC],
        send_limit: entries[SNDBUF],
        drops: entries[DROPS],
    })
}

/// An integer type, any bits of which are a value.
trait Word: Copy {}
impl Word for u32 {}
impl Word for u64 {}

/// Reads an option of level `SOL_SOCKET`. Entries that the kernel does not have stay as they are.
fn read_option<T: Word>(
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

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn every_descriptor_of_a_socket_names_the_same_one() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let first = identify(socket.as_fd()).unwrap();
        assert_eq!(
            first,
            identify(socket.try_clone().unwrap().as_fd()).unwrap()
        );
        assert_ne!(first.cookie, identify(other.as_fd()).unwrap().cookie);
    }

    #[test]
    fn what_is_no_udp_socket_is_refused_by_name() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = identify(listener.as_fd());
        assert!(matches!(refused, Err(WatchError::WrongProtocol { .. })));
    }

    #[test]
    fn unread_datagrams_fill_the_receive_buffer_and_then_are_dropped() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let before = memory(receiver.as_fd()).unwrap();
        assert_eq!((before.receive, before.drops), (0, 0));
        SockRef::from(&receiver).set_recv_buffer_size(8192).unwrap();
        for _ in 0..100 {
            sender.send_to(&[0; 1200], to).unwrap();
        }
        let after = memory(receiver.as_fd()).unwrap();
        assert!(after.receive > 8192, "{after:?}");
        receiver.set_nonblocking(true).unwrap();
        let mut received = 0;
        while receiver.recv(&mut [0; 1500]).is_ok() {
            received += 1;
        }
        assert_eq!(received + after.drops, 100);
    }
}
