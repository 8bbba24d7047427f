//! Devices above other devices, and devices with several queues.

use std::error::Error;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use ebpf_congestion_signals::{CongestionSignals, HostSample, SignalSource, WatchTarget};
use live_test::{Skip, TestResult};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::bed::{
    Comparison, Drops, ON_WIRE, Pair, Qdisc, address, bind, cable, flood, neighbour, own, quiet_up,
    sh, try_sh,
};
use crate::known::Known;
use crate::traffic::{drain, send};
use crate::unseen::Unseen;
use crate::{source_with, tool};

const NEEDS: [&str; 4] = [
    "kfree_skb",
    "skb_drop_reason",
    "qdisc_enqueue",
    "qdisc_dequeue",
];

/// A macvlan m0 above a0, with 10.9.2.1; the far end is 10.9.2.2.
fn upper_device() -> Result<Pair, Box<dyn Error>> {
    let pair = Pair::new("")?;
    let made = try_sh(
        &pair.a,
        "ip link add link a0 name m0 address 02:00:00:00:77:01 type macvlan mode bridge",
    );
    made.map_err(|_| Skip::new("this kernel has no such device: macvlan"))?;
    quiet_up(&pair.a, "m0");
    address(&pair.a, "m0", "10.9.2.1/24");
    address(&pair.b, "b0", "10.9.2.2/24");
    neighbour(&pair.a, "m0", "10.9.2.2", "02:00:00:00:01:02");
    neighbour(&pair.b, "b0", "10.9.2.1", "02:00:00:00:77:01");
    Ok(pair)
}

#[test]
fn a_shaper_on_an_upper_device_holds_the_flow() -> TestResult {
    let source = source_with(&NEEDS)?;
    let pair = upper_device()?;
    sh(
        &pair.a,
        "tc qdisc add dev m0 root handle 1: tbf rate 20mbit burst 3k limit 100k",
    );
    let upper = Qdisc {
        namespace: &pair.a,
        device: "m0",
        handle: "1:",
    };
    let sink = bind(&pair.b, "10.9.2.2:0");
    for below in [false, true] {
        if below {
            sh(
                &pair.a,
                "tc qdisc add dev a0 root handle 2: tbf rate 1gbit burst 100k limit 1m",
            );
        }
        let sender = bind(&pair.a, "10.9.2.1:0");
        let watch = source.watch(WatchTarget::socket(&sender).sharing())?;
        let before = upper.told().drops;
        let unseen = Unseen::start(source)?;
        let to = sink.local_addr()?;
        let (sent, compared) = flood(&watch, (&sender, to), Duration::from_secs(2), &[upper]);
        let what = if below {
            "another queue below"
        } else {
            "alone"
        };
        compared.assert_within(2 * ON_WIRE, what);
        let arrived = drain(&sink)?;
        let dropped = upper.told().drops - before;
        assert_eq!(arrived + dropped, sent, "{what}");
        // The kernel sends them on in a softirq.
        let seen = watch.known_sample().sent_packets;
        let unseen = unseen.passes()?.sends;
        println!("{what}: {seen} of {arrived} seen, the kernel ran no probe for {unseen}");
        assert!(seen <= arrived && arrived - seen <= unseen, "{what}");
        assert_eq!(Drops::of(&watch), Drops::by_queues(dropped), "{what}");
    }
    Ok(())
}

/// The kernel gives a packet the memory of the one that was freed last.
#[test]
fn a_packet_of_an_upper_device_is_not_taken_for_another_that_had_its_address() -> TestResult {
    let source = source_with(&NEEDS)?;
    let pair = upper_device()?;
    sh(
        &pair.a,
        "tc qdisc add dev m0 root handle 1: tbf rate 8kbit burst 1300 limit 200000",
    );
    let queue = Qdisc {
        namespace: &pair.a,
        device: "m0",
        handle: "1:",
    };
    let sink = bind(&pair.b, "10.9.2.2:0");
    let (sender, other) = (bind(&pair.a, "10.9.2.1:0"), UdpSocket::bind("127.0.0.1:0")?);
    let watch = source.watch(WatchTarget::socket(&sender).sharing())?;
    let everywhere = nix::sched::sched_getaffinity(Pid::from_raw(0))?;
    let mut cpu = CpuSet::new();
    cpu.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &cpu)?;
    for _ in 0..50 {
        send(&other, other.local_addr()?, 1)?;
        other.recv(&mut [0; 2048])?;
        send(&sender, sink.local_addr()?, 1)?;
    }
    sched_setaffinity(Pid::from_raw(0), &everywhere)?;
    let mut compared = Comparison::default();
    compared.sample(&watch, &[queue]);
    compared.assert_within(0, "beside another socket");
    Ok(())
}

/// The two queues of a0.
fn both(pair: &Pair) -> [Qdisc<'_>; 2] {
    ["11:", "12:"].map(|handle| Qdisc {
        namespace: &pair.a,
        device: "a0",
        handle,
    })
}

fn two_queues() -> Result<Pair, netlab::Error> {
    let pair = Pair::new("numtxqueues 2 numrxqueues 2")?;
    sh(
        &pair.a,
        "tc qdisc add dev a0 root handle 1: mq && \
         tc qdisc add dev a0 parent 1:1 handle 11: tbf rate 1mbit burst 3000 limit 200000 && \
         tc qdisc add dev a0 parent 1:2 handle 12: tbf rate 1mbit burst 3000 limit 200000",
    );
    Ok(pair)
}

/// A receiver for each of the two queues that the sender's flows hash to.
fn receivers(
    pair: &Pair,
    sender: &UdpSocket,
) -> Result<[UdpSocket; 2], Box<dyn std::error::Error>> {
    let mut ends: [Option<UdpSocket>; 2] = [None, None];
    for _ in 0..32 {
        let sink = pair.sink();
        let before = both(pair)[0].told().packets;
        send(sender, sink.local_addr()?, 1)?;
        drain(&sink)?;
        let which = usize::from(both(pair)[0].told().packets == before);
        ends[which] = Some(sink);
        if let [Some(_), Some(_)] = ends {
            break;
        }
    }
    match ends {
        [Some(first), Some(second)] => Ok([first, second]),
        _ => Err("all ports hash to one queue".into()),
    }
}

#[test]
fn a_flow_in_two_queues_of_a_device_has_the_sum() -> TestResult {
    let source = source_with(&NEEDS)?;
    let pair = two_queues()?;
    let sender = pair.sender();
    let sinks = receivers(&pair, &sender)?;
    let to = [sinks[0].local_addr()?, sinks[1].local_addr()?];
    let watch = source.watch(WatchTarget::socket(&sender).sharing())?;
    let peers = [
        source.watch(WatchTarget::socket(&sender).peer(to[0]))?,
        source.watch(WatchTarget::socket(&sender).peer(to[1]))?,
    ];
    for _ in 0..60 {
        send(&sender, to[0], 1)?;
        send(&sender, to[1], 1)?;
    }
    let mut compared = [(); 3].map(|()| Comparison::default());
    for _ in 0..10 {
        compared[0].sample(&watch, &both(&pair));
        for (peer, watch) in peers.iter().enumerate() {
            compared[1 + peer].sample(watch, &[both(&pair)[peer]]);
        }
    }
    compared[0].assert_within(2 * ON_WIRE, "the socket");
    for compared in &compared[1..] {
        compared.assert_within(ON_WIRE, "a peer");
    }
    for sink in &sinks {
        drain(sink)?;
    }
    Ok(())
}

#[test]
fn a_sender_that_changes_its_processor_has_the_sum_of_its_queues() -> TestResult {
    let source = source_with(&NEEDS)?;
    let pair = two_queues()?;
    // The namespace's devices are shown by a sysfs that is mounted in it.
    let mut set = pair.a.command("unshare");
    let script = "umount -l /sys; mount -t sysfs sysfs /sys && \
                  echo 1 > /sys/class/net/a0/queues/tx-0/xps_cpus && \
                  echo 2 > /sys/class/net/a0/queues/tx-1/xps_cpus";
    let set = set.args(["-m", "sh", "-c", script]).status();
    if !set.is_ok_and(|status| status.success()) {
        return Err(Skip::new("there is no XPS, or no shell to set it up").into());
    }
    let (sender, sink) = (pair.sender(), pair.sink());
    let to = sink.local_addr()?;
    let watch = source.watch(WatchTarget::socket(&sender).sharing())?;
    let everywhere = nix::sched::sched_getaffinity(Pid::from_raw(0))?;
    for index in 0..120 {
        let mut cpu = CpuSet::new();
        cpu.set(index % 2)?;
        sched_setaffinity(Pid::from_raw(0), &cpu)?;
        send(&sender, to, 1)?;
    }
    sched_setaffinity(Pid::from_raw(0), &everywhere)?;
    let mut compared = Comparison::default();
    for _ in 0..10 {
        compared.sample(&watch, &both(&pair));
        thread::sleep(Duration::from_millis(5));
    }
    compared.assert_within(2 * ON_WIRE, "both queues");
    assert!(both(&pair).iter().all(|queue| queue.told().packets > 0));
    drain(&sink)?;
    Ok(())
}

#[test]
fn a_flow_over_both_devices_of_a_bond_has_the_sum() -> TestResult {
    let source = source_with(&NEEDS)?;
    let pair = Pair::new("")?;
    cable([&pair.a, &pair.b], ["a1", "b1"], 2, "");
    let made = try_sh(
        &pair.a,
        "ip link add bd0 type bond mode balance-rr miimon 1",
    );
    made.map_err(|_| Skip::new("this kernel has no such device: bond"))?;
    for device in ["a0", "a1"] {
        sh(
            &pair.a,
            &format!("ip link set dev {device} down && ip link set dev {device} master bd0"),
        );
    }
    quiet_up(&pair.a, "bd0");
    address(&pair.a, "bd0", "10.9.2.1/24");
    address(&pair.b, "b0", "10.9.2.2/24");
    // What comes by the second cable is for the first one's receiver.
    sh(&pair.b, "ip link set dev b1 address 02:00:00:00:01:02");
    neighbour(&pair.a, "bd0", "10.9.2.2", "02:00:00:00:01:02");
    let queues = ["a0", "a1"].map(|device| {
        sh(
            &pair.a,
            &format!("tc qdisc add dev {device} root handle 1: tbf rate 2mbit burst 3k limit 50k"),
        );
        Qdisc {
            namespace: &pair.a,
            device,
            handle: "1:",
        }
    });
    let sender = bind(&pair.a, "10.9.2.1:0");
    let sink = bind(&pair.b, "10.9.2.2:0");
    let watch = source.watch(WatchTarget::socket(&sender).sharing())?;
    let to = sink.local_addr()?;
    let (sent, compared) = flood(&watch, (&sender, to), Duration::from_secs(2), &queues);
    compared.assert_within(2 * ON_WIRE, "both devices");
    let arrived = drain(&sink)?;
    let told = queues.map(|queue| queue.told());
    let dropped = told.iter().map(|queue| queue.drops).sum::<u64>();
    assert!(
        told.iter().all(|queue| queue.packets > 10),
        "both carried it: {told:?}"
    );
    assert_eq!(arrived + dropped, sent);
    assert_eq!(watch.known_sample().sent_packets, sent, "each once");
    assert_eq!(Drops::of(&watch), Drops::by_queues(dropped));
    assert_eq!(own(&watch), 0);
    Ok(())
}

/// Whether a thread of its own polls b0.
fn set_threaded(pair: &Pair, on: bool) -> TestResult {
    let script = format!(
        "umount -l /sys; mount -t sysfs sysfs /sys && echo {} > /sys/class/net/b0/threaded",
        u8::from(on)
    );
    // The namespace's devices are shown by a sysfs that is mounted in it.
    let set = pair
        .b
        .command("unshare")
        .args(["-m", "sh", "-c", &script])
        .status();
    if !set.is_ok_and(|status| status.success()) {
        return Err(Skip::new("there is no threaded NAPI, or no shell to ask for it").into());
    }
    Ok(())
}

#[test]
fn time_in_softirqs_is_absent_while_a_thread_polls_a_device() -> TestResult {
    let source = source_with(&["softirq_entry", "softirq_exit", "napi_poll"])?;
    let pair = Pair::new("")?;
    // Only so are packets of a cable taken by polling.
    let settings = [
        (&pair.a, ["-K", "a0", "tso", "off"]),
        (&pair.b, ["-K", "b0", "gro", "on"]),
    ];
    for (namespace, arguments) in settings {
        let set = tool(namespace, "ethtool")?.args(arguments).status()?;
        assert!(set.success(), "ethtool {arguments:?}");
    }
    let (sender, sink) = (pair.sender(), pair.sink());
    for threaded in [true, false] {
        set_threaded(&pair, threaded)?;
        let before = source.host();
        send(&sender, sink.local_addr()?, 200)?;
        assert_eq!(drain(&sink)?, 200);
        let after = source.host();
        let polls = |sample: &HostSample| sample.softirq.map(|softirq| softirq.polls_elsewhere);
        assert_eq!(polls(&after) > polls(&before), threaded);
        let signals = CongestionSignals::between(&before, &after);
        assert_eq!(signals.softirq_ns.is_none(), threaded, "{signals:?}");
        assert_eq!(signals.softirq_share.is_none(), threaded);
    }
    Ok(())
}
