//! One socket with many peers.

use ebpf_congestion_signals::{SignalSource, SocketSource, WatchTarget};
use netlab::Family;

use crate::ours::{ON_WIRE, Ours, bottleneck, drain, sink};
use crate::{TestResult, paths};

#[test]
fn peers_of_one_socket_each_have_their_part_of_its_backlog_and_drops() -> TestResult {
    const PEERS: usize = 20;
    paths()?;
    let path = bottleneck(1_000_000, 3000, 100_000)?;
    let sinks: Vec<_> = (0..PEERS)
        .map(|_| sink(&path, Family::V4))
        .collect::<Result<_, _>>()?;
    let source = SocketSource::new();
    let ours = Ours::bind(&source, path.sender(), path.addresses(Family::V4).sender)?;
    let watches: Vec<_> = sinks
        .iter()
        .map(|sink| {
            let target = WatchTarget::socket(&ours.socket).peer(sink.local_addr()?);
            Ok::<_, Box<dyn std::error::Error>>(source.watch(target)?)
        })
        .collect::<Result<_, _>>()?;
    // One to each peer in turn, and two more to the last: 110 datagrams do not fit.
    for _ in 0..5 {
        for sink in sinks.iter().chain([&sinks[PEERS - 1]; 2]) {
            drop(ours.send(sink.local_addr()?));
        }
    }
    let own = |watch: &ebpf_congestion_signals::Watch| {
        watch
            .congestion()
            .queue
            .and_then(|queue| queue.own)
            .unwrap_or(0)
    };
    let socket = ours.own()?;
    let parts: u64 = watches.iter().map(own).sum();
    assert!(socket.abs_diff(parts) <= ON_WIRE, "{socket} {parts}");
    let is_estimated = |watch: &ebpf_congestion_signals::Watch| watch.sample().is_backlog_estimated;
    assert!(watches.iter().all(is_estimated));
    assert!(!is_estimated(&ours.watch));
    let tc = path.bottleneck_stats()?.backlog_bytes;
    assert!(tc.abs_diff(socket) <= 2 * ON_WIRE, "{tc} {socket}");
    let mut dropped = 0;
    for (index, (sink, watch)) in sinks.iter().zip(&watches).enumerate() {
        let sent = if index == PEERS - 1 { 15 } else { 5 };
        let arrived = drain(sink)?;
        assert_eq!(
            watch.congestion().queue_drops,
            Some(sent - arrived),
            "peer {index}"
        );
        dropped += sent - arrived;
    }
    assert!(dropped > 10, "the queue overflows: {dropped}");
    assert_eq!(ours.queue_drops(), dropped);
    assert!(ours.queue().is_none_or(|queue| queue.own == Some(0)));
    assert_eq!(watches.iter().map(own).sum::<u64>(), 0);
    Ok(())
}

#[test]
fn watching_a_peer_twice_gives_the_same_flow() -> TestResult {
    let socket = std::net::UdpSocket::bind("[::]:0")?;
    let source = SocketSource::new();
    let watch = |peer: &str| -> Result<_, Box<dyn std::error::Error>> {
        Ok(source.watch(WatchTarget::socket(&socket).peer(peer.parse()?))?)
    };
    let first = watch("192.0.2.1:443")?;
    assert_eq!(first.id(), watch("[::ffff:192.0.2.1]:443")?.id());
    assert_ne!(first.id(), watch("192.0.2.2:443")?.id());
    let whole = source.watch(WatchTarget::socket(&socket))?;
    assert_eq!(whole.id(), source.watch(WatchTarget::socket(&socket))?.id());
    assert!(!whole.congestion().live, "not observed");
    let id = first.id();
    drop(first);
    assert_ne!(watch("192.0.2.1:443")?.id(), id, "it was released");
    Ok(())
}
