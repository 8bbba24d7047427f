//! A real token bucket at the sender's egress: what it drops is what does not arrive, counted for
//! the right owner.

use std::error::Error;
use std::net::UdpSocket;

use ebpf_congestion_signals::{Direction, DropClass, EbpfSource, SignalSource, Watch, WatchTarget};
use netlab::{Bottleneck, Family, Path, PathConfig, TokenBucket};

use crate::known::Known;
use crate::traffic::{bind, drain, send, send_batch, sink, wait_until};
use crate::{TestResult, kernel, source};

/// Ten times ten datagrams a round overflow this at once.
const BUCKET: TokenBucket = TokenBucket {
    rate: 10_000_000,
    burst: 15_000,
    limit: 40_000,
};

/// Smaller than a batch: the kernel splits each into datagrams when it enters the queue.
const SPLITTING: TokenBucket = TokenBucket {
    burst: 3000,
    ..BUCKET
};

/// Datagrams of a batch.
const SEGMENTS: usize = 10;

fn lay(bucket: TokenBucket) -> Result<Path, netlab::Error> {
    Path::new(&PathConfig {
        bottleneck: Bottleneck::Local(bucket),
        second_peer: true,
        ..PathConfig::default()
    })
}

/// Asserts that `watch` counted as dropped in the queue exactly what was sent and did not arrive.
fn assert_exact(source: &EbpfSource, what: &str, watch: &Watch, sent: u64, arrived: u64) {
    let drops = watch.known_sample().drops;
    let class = if kernel::has(source, "skb_drop_reason") {
        DropClass::QueueFull
    } else {
        DropClass::Other
    };
    let full = drops.get(Direction::Egress, class);
    assert_eq!(
        full.packets,
        sent - arrived,
        "{what}: {sent} sent, {arrived} arrived, dropped: {:?}",
        source.drops_by_reason(Some(watch.id()))
    );
    if class == DropClass::QueueFull {
        assert_eq!(watch.known().queue_drops, full.packets);
    }
    assert_eq!(
        drops.total().packets,
        full.packets,
        "{what}: of no other class"
    );
    assert_eq!(watch.known_sample().sent_packets, sent, "{what}");
}

/// Two sockets send in turns, the second twice as much; `send` sends ten datagrams.
fn two_sockets(
    source: &EbpfSource,
    path: &Path,
    family: Family,
    ten: impl Fn(&UdpSocket, std::net::SocketAddr) -> std::io::Result<()>,
) -> Result<u64, Box<dyn Error>> {
    let ends = path.addresses(family);
    let sinks = [sink(path, ends.receiver)?, sink(path, ends.receiver)?];
    let senders = [
        bind(path.sender(), ends.sender)?,
        bind(path.sender(), ends.sender)?,
    ];
    let watches = [
        source.watch(WatchTarget::socket(&senders[0]))?,
        source.watch(WatchTarget::socket(&senders[1]))?,
    ];
    for _ in 0..20 {
        ten(&senders[0], sinks[0].local_addr()?)?;
        ten(&senders[1], sinks[1].local_addr()?)?;
        ten(&senders[1], sinks[1].local_addr()?)?;
    }
    let mut dropped = 0;
    for (index, sent) in [(0, 200), (1, 400)] {
        let arrived = drain(&sinks[index])?;
        assert_exact(
            source,
            &format!("socket {index} {family:?}"),
            &watches[index],
            sent,
            arrived,
        );
        dropped += sent - arrived;
        if kernel::has(source, "qdisc_enqueue") {
            let own = || watches[index].known().queue.map(|queue| queue.own);
            // A packet can leave the queue unseen when the processor is busy, the last one too:
            // the next one through the queue puts that right.
            for _ in 0..3 {
                if own() != Some(0) {
                    send(&senders[index], sinks[index].local_addr()?, 1)?;
                    drain(&sinks[index])?;
                }
            }
            assert_eq!(own(), Some(0));
        }
    }
    assert!(dropped > 100, "the bucket overflows: {dropped}");
    Ok(dropped)
}

#[test]
fn every_datagram_dropped_is_counted_for_the_socket_that_sent_it() -> TestResult {
    let source = source()?;
    for family in Family::ALL {
        let path = lay(BUCKET)?;
        let dropped = two_sockets(source, &path, family, |socket, to| send(socket, to, 10))?;
        assert_eq!(path.bottleneck_stats()?.dropped, dropped, "as tc counts");
    }
    Ok(())
}

#[test]
fn a_dropped_batch_counts_every_segment() -> TestResult {
    let source = source()?;
    for family in Family::ALL {
        let path = lay(BUCKET)?;
        let dropped = two_sockets(source, &path, family, |socket, to| {
            send_batch(socket, to, SEGMENTS)
        })?;
        let batches = path.bottleneck_stats()?.dropped;
        assert_eq!(
            batches * SEGMENTS as u64,
            dropped,
            "tc counts a batch as one"
        );
    }
    Ok(())
}

#[test]
fn segments_of_a_batch_that_the_queue_splits_are_counted_for_their_socket() -> TestResult {
    let source = source()?;
    for family in Family::ALL {
        let path = lay(SPLITTING)?;
        two_sockets(source, &path, family, |socket, to| {
            send_batch(socket, to, SEGMENTS)
        })?;
    }
    Ok(())
}

/// One socket, unconnected, sends to two peers; each is a flow of its own.
fn two_peers(
    source: &EbpfSource,
    bucket: TokenBucket,
    ten: impl Fn(&UdpSocket, std::net::SocketAddr) -> std::io::Result<()>,
) -> TestResult {
    let path = lay(bucket)?;
    let first = path.addresses(Family::V4);
    let second = path.second_addresses(Family::V4).ok_or("no second peer")?;
    let sinks = [sink(&path, first.receiver)?, sink(&path, second.receiver)?];
    let server = bind(path.sender(), std::net::Ipv4Addr::UNSPECIFIED.into())?;
    let peers = [sinks[0].local_addr()?, sinks[1].local_addr()?];
    let watches = [
        source.watch(WatchTarget::socket(&server).peer(peers[0]).sharing())?,
        source.watch(WatchTarget::socket(&server).peer(peers[1]).sharing())?,
    ];
    for _ in 0..20 {
        ten(&server, peers[0])?;
        ten(&server, peers[1])?;
        ten(&server, peers[1])?;
    }
    let mut dropped = 0;
    for (index, sent) in [(0, 200), (1, 400)] {
        let arrived = drain(&sinks[index])?;
        assert_exact(
            source,
            &format!("peer {index}"),
            &watches[index],
            sent,
            arrived,
        );
        assert_eq!(
            watches[index].known_sample().send,
            None,
            "sends are the socket's"
        );
        dropped += sent - arrived;
    }
    assert!(dropped > 100, "the bucket overflows: {dropped}");
    Ok(())
}

#[test]
fn drops_of_one_socket_are_counted_for_the_right_peer() -> TestResult {
    let source = source()?;
    two_peers(source, BUCKET, |socket, to| send(socket, to, 10))?;
    two_peers(source, BUCKET, |socket, to| {
        send_batch(socket, to, SEGMENTS)
    })?;
    two_peers(source, SPLITTING, |socket, to| {
        send_batch(socket, to, SEGMENTS)
    })
}

#[test]
fn a_socket_and_a_peer_of_it_can_both_be_watched() -> TestResult {
    let source = source()?;
    let path = lay(BUCKET)?;
    let ends = path.addresses(Family::V4);
    let sink = sink(&path, ends.receiver)?;
    let sender = bind(path.sender(), ends.sender)?;
    let whole = source.watch(WatchTarget::socket(&sender))?;
    let peer = source.watch(WatchTarget::socket(&sender).peer(sink.local_addr()?))?;
    send(&sender, sink.local_addr()?, 100)?;
    let arrived = drain(&sink)?;
    assert_exact(source, "socket", &whole, 100, arrived);
    assert_exact(source, "peer", &peer, 100, arrived);
    if kernel::has(source, "qdisc_enqueue") {
        wait_until("the queue drains", || {
            whole.known().queue.is_some_and(|q| q.own == 0)
        });
    }
    Ok(())
}
