//! Reads a socket's state from the kernel, and switches on what it reports.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};

use crate::error::WatchError;
use crate::inet::{Inet, netns_cookie, read_option};

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
    let inet = Inet::of(socket)?;
    if inet.is_tcp {
        return Err(WatchError::Unsupported {
            what: "a TCP socket".to_owned(),
        });
    }
    Ok(Identity {
        cookie: inet.cookie,
        netns: netns(socket),
        is_ipv6: inet.is_ipv6,
    })
}

/// The kernel's number of a socket's network namespace; `None` where it does not say.
pub(super) fn netns(socket: impl AsFd) -> Option<u64> {
    netns_cookie(socket.as_fd()).ok().flatten()
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

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use socket2::SockRef;

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
        assert!(matches!(refused, Err(WatchError::Unsupported { .. })));
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
