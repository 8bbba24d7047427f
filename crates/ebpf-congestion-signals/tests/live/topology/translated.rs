//! Destination NAT: the address that a program sends to is not the one that its packets have at the
//! device.

use std::net::SocketAddr;

use ebpf_congestion_signals::{SignalSource, WatchTarget};
use live_test::{Skip, TestResult};

use super::bed::{Drops, Pair, Qdisc, sh};
use crate::known::Known;
use crate::traffic::{drain, send};
use crate::{source_with, tool};

const NEEDS: [&str; 4] = [
    "kfree_skb",
    "skb_drop_reason",
    "qdisc_enqueue",
    "qdisc_dequeue",
];

#[test]
fn a_peer_behind_destination_nat_is_seen_at_its_own_address_only() -> TestResult {
    let source = source_with(&NEEDS)?;
    let pair = Pair::new("")?;
    let (sender, sink) = (pair.sender(), pair.sink());
    let translated = sink.local_addr()?;
    let addressed = SocketAddr::new(translated.ip(), 4433);
    let rules = format!(
        "add table ip nat; \
         add chain ip nat leaving {{ type nat hook output priority -100; }}; \
         add rule ip nat leaving udp dport {} dnat to {translated}",
        addressed.port()
    );
    let set = tool(&pair.a, "nft")?.arg(&rules).output()?;
    if !set.status.success() {
        return Err(Skip::new("this kernel has no such module: nft_nat").into());
    }
    sh(
        &pair.a,
        "tc qdisc add dev a0 root handle 1: tbf rate 5mbit burst 15000 limit 40000",
    );
    let queue = Qdisc {
        namespace: &pair.a,
        device: "a0",
        handle: "1:",
    };
    let peer = |address| source.watch(WatchTarget::socket(&sender).peer(address));
    let (by_address, by_translation) = (peer(addressed)?, peer(translated)?);
    let socket = source.watch(WatchTarget::socket(&sender))?;
    send(&sender, addressed, 200)?;
    let arrived = drain(&sink)?;
    let dropped = queue.told().drops;
    assert_eq!(arrived + dropped, 200);
    assert!(dropped > 20, "{dropped}");
    for watch in [&socket, &by_translation] {
        assert_eq!(watch.known_sample().sent_packets, 200);
        assert_eq!(Drops::of(watch), Drops::by_queues(dropped));
    }
    // Nothing of it was ever seen, which a reader can tell from a flow that sends nothing into a queue.
    let congestion = by_address.known();
    assert_eq!((congestion.observed_packets, congestion.queue), (0, None));
    assert_eq!(by_address.sample().updated, None);
    assert_eq!(Drops::of(&by_address), Drops::NONE);
    Ok(())
}
