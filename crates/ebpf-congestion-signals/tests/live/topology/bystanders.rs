//! Packets freed that were not dropped, and drops that are others'.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use ebpf_congestion_signals::{Direction, SignalSource, WatchTarget};
use live_test::TestResult;
use netlab::Namespace;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind as bind_to, setsockopt, socket,
    sockopt,
};

use super::bed::{Drops, Pair, host_queue_drops, roomy, sh, ten};
use crate::known::Known;
use crate::source_with;
use crate::traffic::{drain, send, send_batch};

const NEEDS: [&str; 4] = [
    "kfree_skb",
    "skb_drop_reason",
    "qdisc_enqueue",
    "qdisc_dequeue",
];

/// A packet socket that is never read, with a full buffer.
fn tap(namespace: &Namespace) -> OwnedFd {
    let tap = namespace.run(|| {
        let protocol = i32::from(u16::try_from(libc::ETH_P_ALL).expect("16 bits").to_be());
        // SAFETY: a system call without pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, protocol) };
        assert!(fd >= 0, "a packet socket can be made");
        // SAFETY: the descriptor was just opened, and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        setsockopt(&fd, sockopt::RcvBuf, &1).expect("SO_RCVBUF");
        fd
    });
    tap.expect("the namespace is entered")
}

#[test]
fn a_packet_tap_that_nobody_reads_drops_nothing_of_a_flow() -> TestResult {
    let source = source_with(&NEEDS)?;
    let pair = Pair::new("")?;
    sh(
        &pair.a,
        "tc qdisc add dev a0 root handle 1: tbf rate 20mbit burst 15000 limit 1000000",
    );
    let _taps = (tap(&pair.a), tap(&pair.b));
    let sink = pair.sink();
    let to = sink.local_addr()?;
    for batch in [false, true] {
        let sender = pair.sender();
        let watches = [
            source.watch(WatchTarget::socket(&sender).sharing())?,
            source.watch(WatchTarget::socket(&sender).peer(to))?,
            source.watch(WatchTarget::socket(&sink))?,
        ];
        let before = host_queue_drops(source);
        for _ in 0..20 {
            ten(&sender, to, batch)?;
        }
        assert_eq!(drain(&sink)?, 200);
        for (who, watch) in ["sender", "peer", "receiver"].into_iter().zip(&watches) {
            assert_eq!(Drops::of(watch), Drops::NONE, "{who}, batch {batch}");
        }
        assert_eq!(host_queue_drops(source), before);
    }
    Ok(())
}

/// A socket that shares its address and port with others.
fn sharing(namespace: &Namespace, address: SocketAddr) -> Result<UdpSocket, nix::Error> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let made = namespace.run(|| socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None));
    let fd = made.expect("the namespace is entered")?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    } else {
        setsockopt(&fd, sockopt::ReusePort, &true)?;
    }
    bind_to(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    let socket = UdpSocket::from(fd);
    roomy(&socket);
    Ok(socket)
}

#[test]
fn drops_of_a_socket_with_the_same_port_are_its_own() -> TestResult {
    let source = source_with(&NEEDS)?;
    let pair = Pair::new("")?;
    sh(
        &pair.a,
        "tc qdisc add dev a0 root handle 1: tbf rate 2mbit burst 3000 limit 60000",
    );
    let sink = pair.sink();
    let to = sink.local_addr()?;
    let port = |port| SocketAddr::from(([10, 9, 1, 1], port));
    let any6 = |port| SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
    let any4 = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    for (watched, other) in [(port(9100), port(9100)), (any6(9200), any4(9200))] {
        let (watched, other) = (sharing(&pair.a, watched)?, sharing(&pair.a, other)?);
        let watch = source.watch(WatchTarget::socket(&watched).sharing())?;
        for _ in 0..15 {
            send_batch(&other, to, 10)?;
        }
        assert!(drain(&sink)? < 150, "the queue overflows");
        assert_eq!(Drops::of(&watch), Drops::NONE);
        let _tap = tap(&pair.a);
        send(&other, to, 30)?;
        drain(&sink)?;
        assert_eq!(Drops::of(&watch), Drops::NONE, "beside a packet tap");
    }
    Ok(())
}

#[test]
fn what_was_delivered_and_is_not_read_is_not_dropped() -> TestResult {
    let source = source_with(&NEEDS)?;
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    roomy(&sink);
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let arriving = || {
        let drops = source.host().drops.unwrap_or_default();
        drops.direction(Direction::Ingress).packets
    };
    let watch = source.watch(WatchTarget::socket(&sink))?;
    send(&sender, sink.local_addr()?, 1000)?;
    let before = arriving();
    drop(sink);
    thread::sleep(Duration::from_millis(50));
    // The host has others that drop.
    assert!(arriving() - before < 100, "{}", arriving() - before);
    assert_eq!(watch.known_sample().drops.total().packets, 0);
    Ok(())
}
