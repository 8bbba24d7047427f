//! What the network reported of a socket's earlier datagrams.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use libc::sock_extended_err;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

/// Most errors taken from a queue at a time: a peer that causes many must not hold up the socket.
const AT_ONCE: usize = 64;

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NetworkError {
    /// There is no route to the destination's network or host, or the host does not answer.
    HostUnreachable = 0,
    /// No socket listens at the destination's port.
    PortUnreachable = 1,
    /// A rule on the way forbids it.
    Prohibited = 2,
    /// A datagram was larger than the path, or a device of this host, lets through.
    TooBig = 3,
    /// A datagram went through too many routers.
    HopLimit = 4,
    /// Any other report.
    Other = 5,
}

impl NetworkError {
    /// Every kind, in the order of its index.
    pub const ALL: [Self; 6] = [
        Self::HostUnreachable,
        Self::PortUnreachable,
        Self::Prohibited,
        Self::TooBig,
        Self::HopLimit,
        Self::Other,
    ];

    /// The kind of a report, by its ICMP type and code (RFC 792, RFC 1812 section 5.2.7.1, RFC
    /// 4443).
    fn of(report: &sock_extended_err) -> Self {
        match (report.ee_origin, report.ee_type, report.ee_code) {
            (libc::SO_EE_ORIGIN_ICMP, 3, 3) => Self::PortUnreachable,
            (libc::SO_EE_ORIGIN_ICMP, 3, 4) => Self::TooBig,
            (libc::SO_EE_ORIGIN_ICMP, 3, 9 | 10 | 13) => Self::Prohibited,
            (libc::SO_EE_ORIGIN_ICMP, 3, _) => Self::HostUnreachable,
            (libc::SO_EE_ORIGIN_ICMP, 11, _) => Self::HopLimit,
            (libc::SO_EE_ORIGIN_ICMP6, 1, 4) => Self::PortUnreachable,
            (libc::SO_EE_ORIGIN_ICMP6, 1, 1 | 5 | 6) => Self::Prohibited,
            (libc::SO_EE_ORIGIN_ICMP6, 1, _) => Self::HostUnreachable,
            (libc::SO_EE_ORIGIN_ICMP6, 2, _) => Self::TooBig,
            (libc::SO_EE_ORIGIN_ICMP6, 3, _) => Self::HopLimit,
            (libc::SO_EE_ORIGIN_LOCAL, ..) if is_too_big(report) => Self::TooBig,
            _ => Self::Other,
        }
    }
}

fn is_too_big(report: &sock_extended_err) -> bool {
    i32::try_from(report.ee_errno) == Ok(libc::EMSGSIZE)
}

/// How many reports of each kind there were. Counters.
#[derive(Debug, Default)]
pub(super) struct NetworkErrors {
    counters: [AtomicU64; NetworkError::ALL.len()],
}

impl NetworkErrors {
    fn count(&self, kind: NetworkError) {
        self.counters[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self, kind: NetworkError) -> u64 {
        self.counters[kind as usize].load(Ordering::Relaxed)
    }
}

/// Whether an error that a send met with may be an earlier datagram's, reported by ICMP
/// (`icmp_err_convert`, `icmpv6_err_convert`).
pub(super) fn may_be_reported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::ENOPROTOOPT
                | libc::EPROTO
                | libc::EOPNOTSUPP
        )
    )
}

/// Empties a socket's error queue, so that neither the next send nor the next receive is answered
/// with what lies there. Gives how many reports were the network's.
pub(super) fn drain(socket: BorrowedFd<'_>, errors: &NetworkErrors) -> usize {
    let mut reported = 0;
    for _ in 0..AT_ONCE {
        let Ok(report) = take(socket) else { break };
        errors.count(
            report
                .as_ref()
                .map_or(NetworkError::Other, NetworkError::of),
        );
        if report.is_none_or(|report| report.ee_origin != libc::SO_EE_ORIGIN_LOCAL) {
            reported += 1;
        }
    }
    reported
}

/// Room for what comes beside a report, as the socket's options ask for: the destination's address,
/// the traffic class.
const MORE_CONTROL: usize = 256;

/// Reads one report; `None` for one that cannot be parsed. Fails when there is none.
fn take(socket: BorrowedFd<'_>) -> nix::Result<Option<sock_extended_err>> {
    let mut control = nix::cmsg_space!(sock_extended_err, libc::sockaddr_in6, [u8; MORE_CONTROL]);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    // The datagram itself, which comes with the report, is not wanted.
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut [], Some(&mut control), flags)?;
    let report = |control| match control {
        ControlMessageOwned::Ipv4RecvErr(report, _)
        | ControlMessageOwned::Ipv6RecvErr(report, _) => Some(report),
        _ => None,
    };
    Ok(message
        .cmsgs()
        .ok()
        .and_then(|mut controls| controls.find_map(report)))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use nix::sys::socket::setsockopt;
    use nix::sys::socket::sockopt::{IpRecvTos, Ipv4PacketInfo};

    use super::*;
    use crate::socket::kernel;

    fn unused_port(host: &str) -> std::net::SocketAddr {
        let closed = UdpSocket::bind((host, 0)).unwrap();
        closed.local_addr().unwrap()
    }

    #[test]
    fn a_report_is_counted_by_kind_and_taken_from_the_queue() {
        for host in ["127.0.0.1", "::1"] {
            let socket = UdpSocket::bind((host, 0)).unwrap();
            kernel::report_errors(socket.as_fd(), host == "::1").unwrap();
            // As QUIC's sockets have it: more comes with each report.
            setsockopt(&socket, Ipv4PacketInfo, &true).unwrap();
            setsockopt(&socket, IpRecvTos, &true).unwrap();
            let errors = NetworkErrors::default();
            let nobody = unused_port(host);
            socket.send_to(b"x", nobody).unwrap();
            let answered = socket.send_to(b"y", nobody).unwrap_err();
            assert!(may_be_reported(&answered), "{answered}");
            assert_eq!(drain(socket.as_fd(), &errors), 1);
            assert_eq!(errors.get(NetworkError::PortUnreachable), 1);
            assert_eq!(drain(socket.as_fd(), &errors), 0);
            assert!(socket.send_to(b"z", nobody).is_ok());
        }
    }

    #[test]
    fn a_socket_of_ipv6_hears_of_its_ipv4_destinations_too() {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        kernel::report_errors(socket.as_fd(), true).unwrap();
        let port = unused_port("127.0.0.1").port();
        let mapped: std::net::SocketAddr = format!("[::ffff:127.0.0.1]:{port}").parse().unwrap();
        socket.send_to(b"x", mapped).unwrap();
        let errors = NetworkErrors::default();
        assert_eq!(drain(socket.as_fd(), &errors), 1);
        assert_eq!(errors.get(NetworkError::PortUnreachable), 1);
    }
}
