//! Containers: a namespace behind a veth pair, bridges, routers.

use std::error::Error;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{Direction, EbpfSource, SignalSource, WatchTarget};
use live_test::{Skip, TestResult};
use netlab::Namespace;

use super::bed::{
    Drops, ON_WIRE, Pair, Qdisc, SEGMENTS, address, bind, cable, host_queue_drops, neighbour, own,
    quiet_up, sh, take, ten, try_sh,
};
use crate::known::Known;
use crate::source_with;
use crate::traffic::{drain, send};

const NEEDS: [&str; 4] = [
    "kfree_skb",
    "skb_drop_reason",
    "qdisc_enqueue",
    "qdisc_dequeue",
];

/// Each datagram counts once, and each drop as one of its socket and its peer on the way out.
fn assert_told(source: &EbpfSource, from: &Namespace, sink: &UdpSocket) -> TestResult {
    let to = sink.local_addr()?;
    for batch in [false, true] {
        let sender = bind(from, "10.9.1.1:0");
        let watches = [
            source.watch(WatchTarget::socket(&sender))?,
            source.watch(WatchTarget::socket(&sender).peer(to))?,
        ];
        let before = host_queue_drops(source);
        for _ in 0..20 {
            ten(&sender, to, batch)?;
        }
        let dropped = 200 - drain(sink)?;
        assert!(dropped > 20, "{dropped}");
        for (who, watch) in ["socket", "peer"].into_iter().zip(&watches) {
            assert_eq!(
                watch.known_sample().sent_packets,
                200,
                "{who}, batch {batch}"
            );
            let drops = Drops::of(watch);
            assert_eq!(drops, Drops::by_queues(dropped), "{who}, batch {batch}");
        }
        let after = host_queue_drops(source);
        for (direction, packets) in [
            (Direction::Egress, dropped),
            (Direction::Ingress, 0),
            (Direction::Forwarded, 0),
        ] {
            let index = direction as usize;
            assert_eq!(
                after[index] - before[index],
                packets,
                "{direction:?}, {batch}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_limit_on_the_hosts_side_of_a_containers_veth_tells_the_sender() -> TestResult {
    let source = source_with(&NEEDS)?;
    let pair = Pair::new("")?;
    let made = try_sh(&pair.b, "ip link add ifb0 type ifb");
    made.map_err(|_| Skip::new("this kernel has no such device: ifb"))?;
    quiet_up(&pair.b, "ifb0");
    sh(
        &pair.b,
        "tc qdisc add dev ifb0 root handle 1: tbf rate 5mbit burst 15000 limit 40000",
    );
    let redirected = try_sh(
        &pair.b,
        "tc qdisc add dev b0 ingress && tc filter add dev b0 parent ffff: protocol ip \
         u32 match u32 0 0 action mirred egress redirect dev ifb0",
    );
    redirected.map_err(|_| Skip::new("this kernel has no such filter: u32 with mirred"))?;
    assert_told(source, &pair.a, &pair.sink())
}

/// A container's cable to a bridge of the host, whose far port has the queue.
struct Bridged {
    container: Namespace,
    host: Namespace,
    /// Holds the receiver's end.
    _outside: Namespace,
    sink: UdpSocket,
}

impl Bridged {
    /// `firewall`: whether bridged packets pass the firewall (`bridge-nf-call-iptables`).
    fn new(firewall: bool) -> Result<Self, Box<dyn Error>> {
        let (container, host, outside) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
        cable([&container, &host], ["n0", "p0"], 1, "");
        cable([&host, &outside], ["f0", "r0"], 2, "");
        let made = try_sh(
            &host,
            "ip link add br0 type bridge forward_delay 0 mcast_snooping 0 && \
             ip link set p0 master br0 && ip link set f0 master br0",
        );
        made.map_err(|_| Skip::new("this kernel has no such device: bridge"))?;
        quiet_up(&host, "br0");
        let setting = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        let set = host.run(|| std::fs::write(setting, u8::from(firewall).to_string()))?;
        if firewall && set.is_err() {
            return Err(Skip::new("this kernel has no such module: br_netfilter").into());
        }
        address(&container, "n0", "10.9.1.1/24");
        address(&outside, "r0", "10.9.1.2/24");
        neighbour(&container, "n0", "10.9.1.2", "02:00:00:00:02:02");
        neighbour(&outside, "r0", "10.9.1.1", "02:00:00:00:01:01");
        sh(
            &host,
            "tc qdisc add dev f0 root handle 1: tbf rate 1mbit burst 15000 limit 100000",
        );
        thread::sleep(Duration::from_millis(200));
        let sink = bind(&outside, "10.9.1.2:0");
        // The bridge learns where the far end is.
        bind(&outside, "10.9.1.2:0").send_to(b"here", "10.9.1.1:9")?;
        thread::sleep(Duration::from_millis(50));
        Ok(Self {
            container,
            host,
            _outside: outside,
            sink,
        })
    }
}

#[test]
fn a_shaper_behind_a_bridge_tells_the_sender() -> TestResult {
    let source = source_with(&NEEDS)?;
    let bridged = Bridged::new(false)?;
    assert_told(source, &bridged.container, &bridged.sink)
}

/// The firewall takes the socket from a bridged packet.
#[test]
fn behind_a_bridge_with_a_firewall_drops_and_backlog_are_the_hosts_only() -> TestResult {
    let source = source_with(&NEEDS)?;
    let bridged = Bridged::new(true)?;
    let queue = Qdisc {
        namespace: &bridged.host,
        device: "f0",
        handle: "1:",
    };
    let to = bridged.sink.local_addr()?;
    for batch in [false, true] {
        let sender = bind(&bridged.container, "10.9.1.1:0");
        let watches = [
            source.watch(WatchTarget::socket(&sender).sharing())?,
            source.watch(WatchTarget::socket(&sender).peer(to))?,
        ];
        let (before, host) = (queue.told().drops, host_queue_drops(source));
        for _ in 0..20 {
            ten(&sender, to, batch)?;
        }
        let own = own(&watches[0]);
        assert!(queue.told().backlog > 0, "batch {batch}");
        assert_eq!(own, 0, "batch {batch}");
        let dropped = 200 - drain(&bridged.sink)?;
        // tc counts a batch that the queue drops whole as one.
        let of_one = if batch { SEGMENTS as u64 } else { 1 };
        let told = queue.told().drops - before;
        assert_eq!(told * of_one, dropped, "batch {batch}");
        for (who, watch) in ["socket", "peer"].into_iter().zip(&watches) {
            let sent = watch.known_sample().sent_packets;
            assert_eq!(sent, 200, "{who}, batch {batch}");
            assert_eq!(Drops::of(watch), Drops::NONE, "{who}, batch {batch}");
        }
        let after = host_queue_drops(source);
        for (direction, packets) in [
            (Direction::Egress, 0),
            (Direction::Ingress, 0),
            (Direction::Forwarded, dropped),
        ] {
            let index = direction as usize;
            let counted = after[index] - host[index];
            assert_eq!(counted, packets, "{direction:?}, batch {batch}");
        }
    }
    Ok(())
}

#[test]
fn what_a_router_forwards_is_no_socket_of_its_own() -> TestResult {
    let source = source_with(&NEEDS)?;
    let (a, router, b) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
    cable([&a, &router], ["a0", "ra"], 1, "");
    cable([&router, &b], ["rb", "b0"], 2, "");
    address(&a, "a0", "10.9.1.1/24");
    address(&router, "ra", "10.9.1.2/24");
    address(&router, "rb", "10.9.2.1/24");
    address(&b, "b0", "10.9.2.2/24");
    sh(&a, "ip route add 10.9.2.0/24 via 10.9.1.2");
    sh(&b, "ip route add 10.9.1.0/24 via 10.9.2.1");
    neighbour(&a, "a0", "10.9.1.2", "02:00:00:00:01:02");
    neighbour(&router, "ra", "10.9.1.1", "02:00:00:00:01:01");
    neighbour(&router, "rb", "10.9.2.2", "02:00:00:00:02:02");
    neighbour(&b, "b0", "10.9.2.1", "02:00:00:00:02:01");
    router.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
    sh(
        &router,
        "tc qdisc add dev rb root handle 1: tbf rate 1mbit burst 3000 limit 150000",
    );
    let queue = Qdisc {
        namespace: &router,
        device: "rb",
        handle: "1:",
    };
    let ours = bind(&router, "0.0.0.0:9000");
    let far = bind(&a, "10.9.1.1:9000");
    let (our_sink, far_sink) = (bind(&b, "10.9.2.2:0"), bind(&b, "10.9.2.2:0"));
    let watch = source.watch(WatchTarget::socket(&ours).sharing())?;
    // In turns, so that forwarded ones leave while the router's own wait.
    for _ in 0..40 {
        send(&far, far_sink.local_addr()?, 1)?;
        send(&ours, our_sink.local_addr()?, 1)?;
    }
    let (mut received, mut worst) = (0, 0);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        received += take(&our_sink);
        worst = worst.max(own(&watch).abs_diff((40 - received) * ON_WIRE));
        thread::sleep(Duration::from_millis(5));
    }
    assert!(worst <= 2 * ON_WIRE, "off by {worst}");
    drain(&our_sink)?;
    drain(&far_sink)?;
    // To the same port of another address, and from it.
    let port_sink = bind(&b, "10.9.2.2:9000");
    let other = bind(&a, "10.9.1.1:0");
    for (from, to) in [(&other, &port_sink), (&far, &far_sink)] {
        let (before, host) = (queue.told().drops, host_queue_drops(source));
        send(from, to.local_addr()?, 300)?;
        let dropped = queue.told().drops - before;
        assert!(dropped > 50, "{dropped}");
        assert_eq!(Drops::of(&watch), Drops::NONE);
        let forwarded = Direction::Forwarded as usize;
        assert_eq!(
            host_queue_drops(source)[forwarded] - host[forwarded],
            dropped
        );
    }
    Ok(())
}
