//! What the network reports of a socket's datagrams neither fails the socket nor costs a datagram.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use ebpf_congestion_signals::{NetworkError, SocketSource};

use crate::TestResult;
use crate::ours::Ours;

fn ours(source: &SocketSource, address: &str) -> Result<Ours, Box<dyn std::error::Error>> {
    let socket = UdpSocket::bind((address, 0))?;
    socket.set_nonblocking(true)?;
    Ours::of(source, socket)
}

/// A port at which no socket listens.
fn nobody(address: &str) -> std::io::Result<SocketAddr> {
    UdpSocket::bind((address, 0))?.local_addr()
}

#[test]
fn a_peer_that_is_gone_costs_no_other_peer_a_datagram() -> TestResult {
    for address in ["127.0.0.1", "::1"] {
        let source = SocketSource::new();
        let ours = ours(&source, address)?;
        let gone = nobody(address)?;
        let peer = UdpSocket::bind((address, 0))?;
        peer.set_nonblocking(true)?;
        let mut arrived = 0;
        for _ in 0..200 {
            ours.send(gone)?;
            ours.send(peer.local_addr()?)?;
            while peer.recv(&mut [0; 2048]).is_ok() {
                arrived += 1;
            }
        }
        assert_eq!(arrived, 200);
        let reported = source.network_errors(NetworkError::PortUnreachable);
        // Hosts limit how many they report in a second.
        assert!(reported > 0);
        assert_eq!(ours.queue_drops(), 0, "no queue was full");
    }
    Ok(())
}

#[test]
fn a_receive_that_is_answered_with_a_report_goes_on() -> TestResult {
    let source = SocketSource::new();
    let ours = ours(&source, "127.0.0.1")?;
    let peer = UdpSocket::bind("127.0.0.1:0")?;
    ours.send(nobody("127.0.0.1")?)?;
    peer.send_to(b"hello", ours.socket.local_addr()?)?;
    assert_eq!(ours.receive(), 1);
    assert_eq!(source.network_errors(NetworkError::PortUnreachable), 1);
    Ok(())
}

#[test]
fn a_datagram_that_is_too_big_is_refused_and_leaves_nothing_behind() -> TestResult {
    let source = SocketSource::new();
    let ours = ours(&source, "127.0.0.1")?;
    let peer = UdpSocket::bind("127.0.0.1:0")?;
    let to = peer.local_addr()?;
    let send = ebpf_congestion_signals::SocketSend {
        destination: to,
        bytes: 65_508,
        segment: None,
    };
    let payload = vec![0; 65_508];
    let refused = ours
        .observer
        .send(send, || ours.socket.send_to(&payload, to).map(drop))
        .expect_err("no datagram is so long");
    assert_eq!(refused.raw_os_error(), Some(libc::EMSGSIZE));
    assert_eq!(ours.watch.congestion().observed_packets, Some(0));
    ours.send(to)?;
    assert_eq!(peer.recv(&mut [0; 2048])?, crate::ours::PAYLOAD);
    Ok(())
}

#[test]
fn a_socket_whose_observer_is_gone_is_no_longer_live_and_gives_its_port_back() -> TestResult {
    let source = SocketSource::new();
    let Ours {
        socket,
        observer,
        watch,
    } = ours(&source, "127.0.0.1")?;
    let local = socket.local_addr()?;
    assert!(watch.congestion().live);
    drop(observer);
    assert!(!watch.congestion().live);
    drop(socket);
    let again = UdpSocket::bind((Ipv4Addr::LOCALHOST, local.port()))?;
    assert_eq!(again.local_addr()?, local);
    Ok(())
}
