//! Bytes sent are what the program sent.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use ebpf_congestion_signals::{SignalSource, WatchTarget};

use crate::traffic::{PAYLOAD, send, send_batch};
use crate::{TestResult, source, source_with};

const LOCALHOSTS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// Payload of what [`send_some`] sends.
const BYTES: u64 = 30 * PAYLOAD as u64;

/// 22 calls, 31 datagrams.
fn send_some(sender: &UdpSocket, to: SocketAddr) -> std::io::Result<()> {
    send(sender, to, 20)?;
    send_batch(sender, to, 10)?;
    sender.send_to(&[], to)?;
    Ok(())
}

#[test]
fn udp_datagrams_with_and_without_batches() -> TestResult {
    let Some((_turn, source)) = source("udp_datagrams_...") else {
        return Ok(());
    };
    for address in LOCALHOSTS {
        let sink = UdpSocket::bind((address, 0))?;
        let sender = UdpSocket::bind((address, 0))?;
        let to = sink.local_addr()?;
        let whole = source.watch(WatchTarget::socket(&sender))?;
        let peer = source.watch(WatchTarget::socket(&sender).peer(to))?;
        send_some(&sender, to)?;
        for sample in [whole.sample(), peer.sample()] {
            assert_eq!(
                (sample.sent_bytes, sample.sent_packets),
                (BYTES, 31),
                "{address}"
            );
        }
    }
    Ok(())
}

#[test]
fn udp_calls_with_and_without_batches() -> TestResult {
    let Some((_turn, source)) = source_with("udp_calls_...", &["sock_send_length"]) else {
        return Ok(());
    };
    for address in LOCALHOSTS {
        let sink = UdpSocket::bind((address, 0))?;
        let sender = UdpSocket::bind((address, 0))?;
        let to = sink.local_addr()?;
        let watch = source.watch(WatchTarget::socket(&sender))?;
        let before = source.host().udp_send.ok_or("sends are counted here")?;
        send_some(&sender, to)?;
        let socket = watch
            .sample()
            .send
            .ok_or("a socket's sends are counted here")?;
        assert_eq!((socket.bytes, socket.calls), (BYTES, 22));
        let host = source.host().udp_send.ok_or("sends are counted here")?;
        // Others on this host may send meanwhile.
        assert!(host.bytes - before.bytes >= BYTES);
        assert!(host.calls - before.calls >= 22);
    }
    Ok(())
}

#[test]
fn tcp() -> TestResult {
    const BYTES: usize = 1 << 20;
    let Some((_turn, source)) = source_with("tcp", &["sock_send_length"]) else {
        return Ok(());
    };
    for address in LOCALHOSTS {
        let listener = TcpListener::bind((address, 0))?;
        let to = listener.local_addr()?;
        let before = source.host().tcp_send.ok_or("sends are counted here")?;
        let reader = thread::spawn(move || -> std::io::Result<usize> {
            let (mut stream, _) = listener.accept()?;
            stream.read_to_end(&mut Vec::with_capacity(BYTES))
        });
        TcpStream::connect(to)?.write_all(&vec![1; BYTES])?;
        assert_eq!(reader.join().expect("the reader does not panic")?, BYTES);
        let after = source.host().tcp_send.ok_or("sends are counted here")?;
        let counted = after.bytes - before.bytes;
        assert!(counted >= BYTES as u64);
        // The host's own traffic beside the test's, at most.
        assert!(counted < BYTES as u64 + BYTES as u64 / 4, "{counted}");
    }
    Ok(())
}
