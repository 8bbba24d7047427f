//! What of a device's queues can be known, and what not.

use std::error::Error;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{QueueLimit, QueueSample, SocketSource};
use netlab::{Family, Path, PathConfig, RelayConfig};

use crate::ours::{ON_WIRE, Ours, bottleneck, sink, wait_until};
use crate::{TestResult, paths, tun};

#[test]
fn a_device_that_keeps_no_packet_on_the_sockets_account_shows_no_queue() -> TestResult {
    tun()?;
    // The sender's own device is a cable, then a router's TUN device holds packets for 50 ms.
    let path = Path::new(&PathConfig {
        relay: Some(RelayConfig::symmetric(Duration::from_millis(50))),
        ..PathConfig::default()
    })?;
    let router = path.router().ok_or("the path has a router")?;
    let sink = sink(&path, Family::V4)?;
    let source = SocketSource::new();
    let ours = Ours::bind(&source, router, std::net::Ipv4Addr::UNSPECIFIED.into())?;
    for _ in 0..50 {
        ours.send(sink.local_addr()?)?;
        thread::sleep(Duration::from_micros(300));
        ours.receive();
        assert_eq!(ours.watch.congestion().queue, None);
    }
    assert_eq!(ours.watch.congestion().observed_packets, Some(50));
    Ok(())
}

/// Makes classes the sender's queue: packets go to the first.
fn classes(path: &Path, count: u32) -> Result<(), Box<dyn Error>> {
    let tc = |arguments: String| -> Result<(), Box<dyn Error>> {
        let mut command = path.sender().command("tc");
        let done = command.args(arguments.split_whitespace()).status()?;
        done.success().then_some(()).ok_or_else(|| arguments.into())
    };
    let device = path.sender_device();
    tc(format!(
        "qdisc replace dev {device} root handle 1: htb default 1"
    ))?;
    for class in 1..=count {
        tc(format!(
            "class add dev {device} parent 1: classid 1:{class} htb rate 1mbit burst 3000"
        ))?;
        tc(format!(
            "qdisc add dev {device} parent 1:{class} pfifo limit 100"
        ))?;
    }
    Ok(())
}

#[test]
fn behind_one_class_everybody_is_known_and_behind_several_nobody() -> TestResult {
    paths()?;
    live_test::require_program("tc")?;
    for count in [1, 2] {
        let path = bottleneck(1_000_000, 3000, 100_000)?;
        classes(&path, count)?;
        let sink = sink(&path, Family::V4)?;
        let source = SocketSource::new();
        let ours = Ours::bind(&source, path.sender(), path.addresses(Family::V4).sender)?;
        for _ in 0..50 {
            ours.send(sink.local_addr()?)?;
        }
        let kind = || {
            ours.receive();
            ours.watch.sample().queue.map(|queue| queue.kind)
        };
        wait_until("the queue is listed", || {
            kind().is_some_and(|kind| kind.as_str() == "htb")
        });
        let queue = ours.queue().ok_or("the queue is known")?;
        let tc = path.bottleneck_stats()?.backlog_bytes;
        // The queue drains while tc starts.
        let later = ours.queue().ok_or("the queue is known")?;
        let own = |queue: &QueueSample| queue.own.ok_or("its own backlog is known");
        let (before, after) = (own(&queue)?, own(&later)?);
        let close = after.saturating_sub(3 * ON_WIRE)..=before + 3 * ON_WIRE;
        assert!(close.contains(&tc), "{tc} {queue:?} {later:?}");
        assert_eq!(queue.total.is_some(), count == 1, "{queue:?}");
        let limit = ours.watch.sample().queue.and_then(|queue| queue.limit);
        let known = (count == 1).then_some(QueueLimit::Packets(100));
        assert_eq!(limit, known);
    }
    Ok(())
}

#[test]
fn what_a_thread_is_just_sending_over_loopback_waits_in_no_queue() -> TestResult {
    let source = SocketSource::new();
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let ours = Ours::of(&source, socket)?;
    let sink = UdpSocket::bind("127.0.0.1:0")?;
    let to = sink.local_addr()?;
    let end = Instant::now() + Duration::from_secs(1);
    let (mut sent, mut samples) = (0u64, 0u64);
    thread::scope(|scope| {
        let sender = scope.spawn(|| -> std::io::Result<u64> {
            let mut sent = 0;
            while Instant::now() < end {
                // The sink is not read: its buffer overflows.
                ours.send_batch(to, 40)?;
                sent += 40;
            }
            Ok(sent)
        });
        // As a transport whose tasks run on several threads: one receives while another sends.
        while Instant::now() < end {
            ours.receive();
            assert!(ours.watch.congestion().queue.is_none());
            samples += 1;
        }
        sent = sender.join().expect("it does not panic")?;
        std::io::Result::Ok(())
    })?;
    assert!(sent > 1000 && samples > 1000, "{sent} {samples}");
    Ok(())
}
