//! What can be watched, and what is said when it cannot.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;

use ebpf_congestion_signals::{
    EbpfOptions, EbpfSource, LoadError, SignalSource, WatchError, WatchTarget,
};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::known::Known;
use crate::traffic::send;
use crate::{TestResult, source};

#[test]
fn only_bound_sockets_over_ip_are_watched() -> TestResult {
    let source = source()?;
    let unix = UnixDatagram::unbound()?;
    let refused = source.watch(WatchTarget::socket(&unix));
    assert!(
        matches!(refused, Err(WatchError::WrongProtocol { .. })),
        "{refused:?}"
    );

    let unbound = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::empty(),
        None,
    )?;
    let refused = source.watch(WatchTarget::socket(&unbound));
    assert!(matches!(refused, Err(WatchError::NotBound)), "{refused:?}");

    let file = std::fs::File::open("/proc/self/stat")?;
    let refused = source.watch(WatchTarget::socket(&file));
    assert!(
        matches!(refused, Err(WatchError::Socket { .. })),
        "{refused:?}"
    );
    Ok(())
}

#[test]
fn a_flow_is_watched_once_and_again_after_its_release() -> TestResult {
    let source = source()?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let to = socket.local_addr()?;
    let first = source.watch(WatchTarget::socket(&socket))?;
    let again = source.watch(WatchTarget::socket(&socket).sharing())?;
    assert_eq!(again.id(), first.id(), "another handle of the same flow");
    send(&socket, to, 5)?;
    let id = first.id();
    drop(first);
    assert_eq!(
        again.known_sample().sent_packets,
        5,
        "the other handle goes on"
    );
    drop(again);
    send(&socket, to, 5)?;

    let second = source.watch(WatchTarget::socket(&socket))?;
    assert_ne!(second.id(), id);
    assert_eq!(
        second.known_sample().sent_packets,
        0,
        "a new watch begins at zero"
    );
    send(&socket, to, 2)?;
    assert_eq!(second.known_sample().sent_packets, 2);
    assert_eq!(
        source.drops_by_reason(Some(id)),
        [],
        "the old one is forgotten"
    );
    Ok(())
}

#[test]
fn more_flows_than_slots_are_refused_until_one_is_released() -> TestResult {
    source()?;
    let source = EbpfSource::load_with(&EbpfOptions::default().flows(2))?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let peer = |port| WatchTarget::socket(&socket).peer(SocketAddr::from(([127, 0, 0, 1], port)));
    let _first = source.watch(peer(1))?;
    let second = source.watch(peer(2))?;
    let third = source.watch(peer(3));
    assert!(
        matches!(third, Err(WatchError::NoSlot { slots: 2 })),
        "{third:?}"
    );
    drop(second);
    source.watch(peer(3))?;
    Ok(())
}

#[test]
fn two_sources_count_side_by_side() -> TestResult {
    let source = source()?;
    let other = EbpfSource::load()?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (ours, theirs) = (
        source.watch(WatchTarget::socket(&socket))?,
        other.watch(WatchTarget::socket(&socket))?,
    );
    send(&socket, socket.local_addr()?, 4)?;
    assert_eq!(
        (
            ours.known_sample().sent_packets,
            theirs.known_sample().sent_packets
        ),
        (4, 4)
    );
    Ok(())
}

#[test]
fn options_out_of_their_limits_are_refused_before_anything_is_loaded() {
    for options in [
        EbpfOptions::default().flows(0),
        EbpfOptions::default().flows(65_537),
        EbpfOptions::default().ring_bytes(5000),
    ] {
        let refused = EbpfSource::load_with(&options);
        assert!(
            matches!(refused, Err(LoadError::Option { .. })),
            "{refused:?}"
        );
    }
}
