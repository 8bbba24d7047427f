use std::net::SocketAddr;
use std::time::Duration;

use super::MockSource;
use crate::observer::{SendOutcome, SocketSend};
use crate::sample::{Direction, DropClass, DropCounters, DropsByReason, KernelTime};
use crate::source::{SignalSource, WatchTarget};

#[test]
fn a_script_is_applied_in_the_order_of_time() {
    let source = MockSource::new();
    let flow = source.add_flow();
    flow.at(Duration::from_millis(2), |sample| {
        sample.sent_packets = sample.sent_packets.map(|sent| sent * 10);
    });
    flow.at(Duration::from_millis(1), |sample| {
        sample.sent_packets = sample.sent_packets.map(|sent| sent + 1);
    });
    source.advance(Duration::from_millis(3));
    let sample = flow.watch().sample();
    assert_eq!(sample.sent_packets, Some(10));
    assert_eq!(sample.updated, Some(KernelTime::from_nanos(2_000_000)));
}

#[test]
fn drops_count_for_the_flow_its_reason_and_the_host() {
    let source = MockSource::new();
    let (ours, other) = (source.add_flow(), source.add_flow());
    let three = DropCounters {
        skbs: 1,
        packets: 3,
        bytes: 3600,
    };
    ours.drop_packets(Direction::Egress, DropClass::QueueFull, "QDISC_DROP", three);

    assert_eq!(ours.watch().congestion().queue_drops, Some(3));
    assert_eq!(other.watch().congestion().queue_drops, Some(0));
    assert_eq!(source.host().drops.map(|drops| drops.total()), Some(three));
    let reasons = source.drops_by_reason(Some(ours.watch().id()));
    assert_eq!(reasons, [DropsByReason::new("QDISC_DROP", three)]);
}

#[test]
fn what_a_firewall_drops_at_egress_was_seen() {
    let source = MockSource::new();
    let flow = source.add_flow();
    let three = DropCounters {
        skbs: 1,
        packets: 3,
        bytes: 3600,
    };
    flow.observe_sent(5, 6000);
    for direction in [Direction::Egress, Direction::Ingress] {
        flow.drop_packets(direction, DropClass::Policy, "NETFILTER_DROP", three);
    }
    let congestion = flow.watch().congestion();
    assert_eq!(
        (congestion.queue_drops, congestion.policy_drops),
        (Some(0), Some(3))
    );
    assert_eq!(
        (congestion.observed_packets, congestion.seen_packets()),
        (Some(5), Some(8))
    );
}

#[cfg(unix)]
#[test]
fn a_socket_is_one_flow_however_often_it_is_watched_and_so_is_each_peer_of_it() {
    let source = MockSource::new();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let again = socket.try_clone().unwrap();
    let [one, other] = [1, 2].map(|port| SocketAddr::from(([192, 0, 2, 1], port)));
    let watch = |target: WatchTarget<'_>| source.watch(target).unwrap();
    let whole = watch(WatchTarget::socket(&socket));
    let peer = watch(WatchTarget::socket(&socket).peer(one));
    assert_eq!(watch(WatchTarget::socket(&again)).id(), whole.id());
    assert_eq!(watch(WatchTarget::socket(&again).peer(one)).id(), peer.id());
    assert_ne!(peer.id(), whole.id());
    assert_ne!(
        watch(WatchTarget::socket(&socket).peer(other)).id(),
        peer.id()
    );

    let observer = source.observe_socket(WatchTarget::socket(&again));
    let observer = observer.unwrap().unwrap();
    for destination in [one, other] {
        let send = SocketSend {
            destination,
            bytes: 2_500,
            segment: Some(1_200),
        };
        let _ = observer.on_send(send, SendOutcome::Sent);
        let _ = observer.on_send(send, SendOutcome::WouldBlock);
    }
    assert_eq!(whole.congestion().observed_packets, Some(6));
    assert_eq!(peer.congestion().observed_packets, Some(3));

    let id = peer.id();
    drop(peer);
    assert_ne!(watch(WatchTarget::socket(&socket).peer(one)).id(), id);
}
