//! Bytes sent are what the program sent.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket,
};
use std::thread;

use ebpf_congestion_signals::{EbpfSource, SignalSource, Watch, WatchTarget};
use live_test::Skip;
use netlab::{Path, PathConfig};

use crate::known::Known;
use crate::traffic::{PAYLOAD, bind, send, send_batch};
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
    let source = source()?;
    for address in LOCALHOSTS {
        let sink = UdpSocket::bind((address, 0))?;
        let sender = UdpSocket::bind((address, 0))?;
        let to = sink.local_addr()?;
        let whole = source.watch(WatchTarget::socket(&sender))?;
        let peer = source.watch(WatchTarget::socket(&sender).peer(to))?;
        send_some(&sender, to)?;
        for sample in [whole.known_sample(), peer.known_sample()] {
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
    let source = source_with(&["sock_send_length"])?;
    udp_calls(source)
}

pub(crate) fn udp_calls(source: &EbpfSource) -> TestResult {
    for address in LOCALHOSTS {
        let sink = UdpSocket::bind((address, 0))?;
        let sender = UdpSocket::bind((address, 0))?;
        let to = sink.local_addr()?;
        let watch = source.watch(WatchTarget::socket(&sender))?;
        let before = source.host();
        send_some(&sender, to)?;
        assert_eq!(socket_sends(&watch)?, (BYTES, 22));
        let after = source.host();
        let (send, send_before) = (after.udp_send, before.udp_send);
        let (send, send_before) = (send.ok_or("counted")?, send_before.ok_or("counted")?);
        // Others on this host may send meanwhile.
        assert!(send.bytes - send_before.bytes >= BYTES);
        assert!(send.calls - send_before.calls >= 22);
        assert_eq!(send.estimated, 0, "every call is looked at");
        let packets = after.udp_packets.ok_or("counted")? - before.udp_packets.ok_or("counted")?;
        assert!(packets >= 31, "{packets}");
    }
    // An IPv6 socket that sends to an IPv4 address makes one call.
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let sender = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    let to = (
        Ipv4Addr::LOCALHOST.to_ipv6_mapped(),
        sink.local_addr()?.port(),
    );
    let watch = source.watch(WatchTarget::socket(&sender))?;
    send_some(&sender, to.into())?;
    assert_eq!(socket_sends(&watch)?, (BYTES, 22), "an IPv4-mapped address");
    Ok(())
}

/// Bytes and calls.
fn socket_sends(watch: &Watch) -> Result<(u64, u64), Box<dyn Error>> {
    let send = watch
        .known_sample()
        .send
        .ok_or("a socket's sends are counted")?;
    Ok((send.bytes, send.calls))
}

#[test]
fn tcp() -> TestResult {
    let source = source_with(&["sock_send_length"])?;
    tcp_bytes(source)
}

pub(crate) fn tcp_bytes(source: &EbpfSource) -> TestResult {
    const WRITES: usize = 64;
    const WRITE: usize = 16 * 1024;
    const BYTES: u64 = (WRITES * WRITE) as u64;
    for address in LOCALHOSTS {
        let listener = TcpListener::bind((address, 0))?;
        let to = listener.local_addr()?;
        let before = source.host();
        let reader = thread::spawn(move || -> std::io::Result<usize> {
            let (mut stream, _) = listener.accept()?;
            stream.read_to_end(&mut Vec::with_capacity(WRITES * WRITE))
        });
        let mut stream = TcpStream::connect(to)?;
        let watch = source.watch(WatchTarget::socket(&stream))?;
        for _ in 0..WRITES {
            assert_eq!(stream.write(&[1; WRITE])?, WRITE, "written whole");
        }
        let sends = socket_sends(&watch)?;
        stream.shutdown(Shutdown::Write)?;
        assert_eq!(
            reader.join().expect("the reader does not panic")? as u64,
            BYTES
        );
        assert_eq!(sends, (BYTES, WRITES as u64));
        let sample = watch.known_sample();
        // A machine without time for the reader makes TCP send again what was not lost.
        assert!(
            (BYTES..BYTES + BYTES / 4).contains(&sample.sent_bytes),
            "{} of {BYTES}",
            sample.sent_bytes
        );
        let buffers = sample.buffers.ok_or("the socket was seen")?;
        assert!(buffers.sndbuf > 0 && buffers.rcvbuf > 0, "{buffers:?}");

        let after = source.host();
        let (send, send_before) = (after.tcp_send, before.tcp_send);
        let counted = send.ok_or("counted")?.bytes - send_before.ok_or("counted")?.bytes;
        assert!(counted >= BYTES);
        // The host's own traffic beside the test's, at most.
        assert!(counted < BYTES + BYTES / 4, "{counted}");
        let packets = after.tcp_packets.ok_or("counted")? - before.tcp_packets.ok_or("counted")?;
        assert!(
            packets > sample.sent_packets,
            "and acknowledgements: {packets}"
        );
    }
    Ok(())
}

#[test]
fn a_device_on_top_of_another_counts_a_packet_once() -> TestResult {
    let source = source()?;
    let path = Path::new(&PathConfig::default())?;
    let device = path.sender_device();
    live_test::require_program("ip")?;
    let ip = |args: &[&str]| path.sender().command("ip").args(args).output();
    let on_top = |kind: &[&str]| {
        let upper = ["link", "add", "link", device, "name", "upper", "type"];
        ip(&[&upper[..], kind].concat())
    };
    // A kernel may have one of them.
    let mut made = on_top(&["macvlan", "mode", "bridge"])?;
    if !made.status.success() {
        made = on_top(&["vlan", "id", "5"])?;
    }
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr);
        let why = format!("this kernel has no such device: macvlan, vlan: {said}");
        return Err(Skip::new(why).into());
    }
    for args in [
        &["addr", "add", "198.51.100.1/24", "dev", "upper"][..],
        &["link", "set", "upper", "up"],
        &[
            "neigh",
            "add",
            "198.51.100.2",
            "lladdr",
            "02:00:00:00:00:02",
            "dev",
            "upper",
        ],
    ] {
        assert!(ip(args)?.status.success(), "{args:?}");
    }
    let sender = bind(path.sender(), IpAddr::from([198, 51, 100, 1]))?;
    let watch = source.watch(WatchTarget::socket(&sender))?;
    send_some(&sender, SocketAddr::from(([198, 51, 100, 2], 9)))?;
    let sample = watch.known_sample();
    assert_eq!((sample.sent_bytes, sample.sent_packets), (BYTES, 31));
    Ok(())
}
