//! Addresses that mean another host on each link.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use ebpf_congestion_signals::{SignalSource, WatchTarget};
use live_test::TestResult;
use netlab::Namespace;

use super::bed::{Drops, Qdisc, address, cable, neighbour, roomy, sh};
use crate::known::Known;
use crate::source_with;
use crate::traffic::{drain, send};

const NEEDS: [&str; 2] = ["kfree_skb", "skb_drop_reason"];

const PEER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The peer's address as seen through a device, which has its index as scope.
fn through(
    namespace: &Namespace,
    device: &str,
    port: u16,
) -> Result<SocketAddr, Box<dyn std::error::Error>> {
    let index = namespace.run(|| nix::net::if_::if_nametoindex(device))??;
    Ok(SocketAddrV6::new(PEER, port, 0, index).into())
}

fn at(namespace: &Namespace, bound: SocketAddr) -> Result<UdpSocket, Box<dyn std::error::Error>> {
    let socket = namespace.run(|| UdpSocket::bind(bound))??;
    roomy(&socket);
    Ok(socket)
}

#[test]
fn one_link_local_address_on_two_links_is_two_peers() -> TestResult {
    const PORT: u16 = 9300;
    let source = source_with(&NEEDS)?;
    let (a, b) = (Namespace::new()?, Namespace::new()?);
    for (number, [near, far]) in [(1, ["a0", "b0"]), (2, ["a1", "b1"])] {
        cable([&a, &b], [near, far], number, "");
        address(&a, near, &format!("fe80::a{number}/64 nodad"));
        address(&b, far, "fe80::1/64 nodad");
        neighbour(&a, near, "fe80::1", &format!("02:00:00:00:0{number}:02"));
        neighbour(
            &b,
            far,
            &format!("fe80::a{number}"),
            &format!("02:00:00:00:0{number}:01"),
        );
    }
    sh(
        &a,
        "tc qdisc add dev a1 root handle 1: tbf rate 2mbit burst 3000 limit 20000",
    );
    let queue = Qdisc {
        namespace: &a,
        device: "a1",
        handle: "1:",
    };
    let sinks = [
        at(&b, through(&b, "b0", PORT)?)?,
        at(&b, through(&b, "b1", PORT)?)?,
    ];
    let sender = at(&a, (Ipv6Addr::UNSPECIFIED, 0).into())?;
    let to = [through(&a, "a0", PORT)?, through(&a, "a1", PORT)?];
    let [first, second] = to.map(|peer| source.watch(WatchTarget::socket(&sender).peer(peer)));
    let watches = [first?, second?];
    for _ in 0..30 {
        send(&sender, to[0], 1)?;
        send(&sender, to[1], 3)?;
    }
    assert_eq!(drain(&sinks[0])?, 30);
    let dropped = 90 - drain(&sinks[1])?;
    assert_eq!(queue.told().drops, dropped);
    assert!(dropped > 10, "{dropped}");
    let sent = |watch: &ebpf_congestion_signals::Watch| watch.known_sample().sent_packets;
    assert_eq!([sent(&watches[0]), sent(&watches[1])], [30, 90]);
    assert_eq!(Drops::of(&watches[0]), Drops::NONE);
    assert_eq!(Drops::of(&watches[1]), Drops::by_queues(dropped));
    Ok(())
}
