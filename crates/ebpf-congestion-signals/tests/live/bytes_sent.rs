//! Bytes sent are what the program sent.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use ebpf_congestion_signals::{SignalSource, WatchTarget};

use crate::traffic::{PAYLOAD, send, send_batch};
use crate::{TestResult, source};

const LOCALHOSTS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

#[test]
fn udp_with_and_without_batches() -> TestResult {
    let Some((_turn, source)) = source("udp_with_and_without_batches") else {
        return Ok(());
    };
    for address in LOCALHOSTS {
        let sink = UdpSocket::bind((address, 0))?;
        let sender = UdpSocket::bind((address, 0))?;
        let to = sink.local_addr()?;
        let whole = source.watch(WatchTarget::socket(&sender))?;
        let peer = source.watch(WatchTarget::socket(&sender).peer(to))?;
        let before = source.host().udp_send.ok_or("sends are counted here")?;

        send(&sender, to, 20)?;
        send_batch(&sender, to, 10)?;
        sender.send_to(&[], to)?;

        let bytes = 30 * PAYLOAD as u64;
        let sample = whole.sample();
        let socket = sample.send.ok_or("a socket's sends are counted here")?;
        assert_eq!((socket.bytes, socket.calls), (bytes, 22));
        assert_eq!(
            (sample.sent_bytes, sample.sent_packets),
            (bytes, 31),
            "{address}"
        );
        let sample = peer.sample();
        assert_eq!(
            (sample.sent_bytes, sample.sent_packets),
            (bytes, 31),
            "{address}"
        );
        let host = source.host().udp_send.ok_or("sends are counted here")?;
        // Others on this host may send meanwhile.
        assert!(host.bytes - before.bytes >= bytes);
        assert!(host.calls - before.calls >= 22);
    }
    Ok(())
}

#[test]
fn tcp() -> TestResult {
    const BYTES: usize = 1 << 20;
    let Some((_turn, source)) = source("tcp") else {
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
