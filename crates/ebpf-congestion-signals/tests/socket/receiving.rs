//! What a socket receives, and the host beside it.

use std::net::UdpSocket;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ebpf_congestion_signals::{CongestionCollector, Direction, DropClass, SocketSource};

use crate::TestResult;
use crate::ours::{Ours, PAYLOAD};

#[test]
fn datagrams_that_a_full_receive_buffer_drops_are_counted() -> TestResult {
    let source = SocketSource::new();
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    socket2::SockRef::from(&socket).set_recv_buffer_size(10_000)?;
    let ours = Ours::of(&source, socket)?;
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    for _ in 0..100 {
        sender.send_to(&[7; PAYLOAD], ours.socket.local_addr()?)?;
    }
    // As a receiver of QUIC does: it acknowledges.
    ours.send(sender.local_addr()?)?;
    thread::sleep(Duration::from_millis(1));
    let arrived = ours.receive();
    ours.send(sender.local_addr()?)?;
    thread::sleep(Duration::from_millis(1));
    ours.receive();
    let sample = ours.watch.sample();
    let dropped = sample
        .drops
        .ok_or("drops are known")?
        .get(Direction::Ingress, DropClass::ReceiveBuffer);
    assert!(dropped.packets > 50, "{dropped:?}");
    assert_eq!(dropped.packets, 100 - arrived);
    assert!(sample.receive_pressure.samples > 0);
    let buffers = sample.buffers.ok_or("buffers are known")?;
    assert_eq!(
        buffers.rcvbuf, 20_000,
        "the kernel doubles what is asked for"
    );
    Ok(())
}

#[test]
fn a_collector_tells_what_can_be_had() -> TestResult {
    let source = Arc::new(SocketSource::new());
    let mut collector = CongestionCollector::new(source);
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    socket2::SockRef::from(&receiver).set_recv_buffer_size(5000)?;
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    for _ in 0..200 {
        sender.send_to(&[7; PAYLOAD], receiver.local_addr()?)?;
    }
    let signals = collector.read_and_reset();
    let drops = signals.drops.unwrap_or(0);
    assert!(drops >= 150, "{signals:?}");
    assert!(signals.event_count >= drops);
    assert_eq!(signals.softirq_wait_ns, None, "not reported without probes");
    Ok(())
}
