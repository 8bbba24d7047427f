//! Shapers and what can be done to them.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{QueueLimit, SignalSource, WatchTarget};
use live_test::TestResult;
use netlab::Namespace;

use super::bed::{Comparison, Drops, ON_WIRE, Pair, Qdisc, flood, own, sh, take, ten};
use crate::known::Known;
use crate::source_with;
use crate::traffic::{drain, send, send_batch};

const NEEDS: [&str; 4] = [
    "kfree_skb",
    "skb_drop_reason",
    "qdisc_enqueue",
    "qdisc_dequeue",
];

/// The root of a0.
fn root(pair: &Pair) -> Qdisc<'_> {
    Qdisc {
        namespace: &pair.a,
        device: "a0",
        handle: "1:",
    }
}

#[test]
fn backlog_is_counted_with_what_a_size_table_adds() -> TestResult {
    let source = source_with(&NEEDS)?;
    let pair = Pair::new("")?;
    sh(
        &pair.a,
        "tc qdisc add dev a0 root handle 1: stab overhead 200 tbf rate 20mbit burst 3k limit 100k",
    );
    let (sender, sink) = (pair.sender(), pair.sink());
    let watch = source.watch(WatchTarget::socket(&sender).sharing())?;
    let to = sink.local_addr()?;
    let (sent, compared) = flood(
        &watch,
        (&sender, to),
        Duration::from_secs(2),
        &[root(&pair)],
    );
    compared.assert_within(ON_WIRE + 200, "size table");
    let dropped = sent - drain(&sink)?;
    assert_eq!(Drops::of(&watch), Drops::by_queues(dropped));
    assert_eq!(own(&watch), 0);
    Ok(())
}

#[test]
fn a_queue_that_drops_its_head_holds_what_came_last() -> TestResult {
    let source = source_with(&NEEDS)?;
    // Slow enough that the backlog hardly changes while tc runs, also in a virtual machine.
    for (what, rate, batch, bursts) in [
        ("datagrams", "200kbit", false, 1),
        ("batches", "1mbit", true, 3),
    ] {
        let pair = Pair::new("")?;
        sh(
            &pair.a,
            &format!(
                "tc qdisc add dev a0 root handle 1: tbf rate {rate} burst 15000 limit 200000 && \
                 tc qdisc add dev a0 parent 1:1 handle 10: pfifo_head_drop limit 20"
            ),
        );
        let (sender, sink) = (pair.sender(), pair.sink());
        let to = sink.local_addr()?;
        let watch = source.watch(WatchTarget::socket(&sender).sharing())?;
        let mut compared = Comparison::default();
        for _ in 0..40 {
            for _ in 0..bursts {
                ten(&sender, to, batch)?;
            }
            compared.sample(&watch, &[root(&pair)]);
        }
        let largest = if batch { 10 * ON_WIRE } else { ON_WIRE };
        compared.assert_within(largest, what);
        let dropped = bursts * 400 - drain(&sink)?;
        assert_eq!(Drops::of(&watch), Drops::by_queues(dropped), "{what}");
        assert_eq!(own(&watch), 0, "{what}");
    }
    Ok(())
}

#[test]
fn refused_parts_of_others_batches_are_nobodys_backlog() -> TestResult {
    let source = source_with(&NEEDS)?;
    let pair = Pair::new("")?;
    sh(
        &pair.a,
        "tc qdisc add dev a0 root handle 1: tbf rate 400kbit burst 3000 limit 20000",
    );
    let (ours, others) = (pair.sender(), pair.sender());
    let sinks = [pair.sink(), pair.sink()];
    let to = [sinks[0].local_addr()?, sinks[1].local_addr()?];
    let watch = source.watch(WatchTarget::socket(&ours).sharing())?;
    for _ in 0..8 {
        send_batch(&others, to[1], 10)?;
    }
    // The queue never runs empty, and what the others have in it is gone after half a second.
    let mut compared = Comparison::default();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        for _ in 0..20 {
            if own(&watch) < 13 * ON_WIRE {
                send(&ours, to[0], 1)?;
            }
        }
        if start.elapsed() > Duration::from_millis(900) {
            compared.sample(&watch, &[root(&pair)]);
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert!(take(&sinks[1]) < 80, "some were refused");
    compared.assert_within(ON_WIRE, "only ours are left");
    Ok(())
}

#[test]
fn a_queue_that_is_replaced_is_known_with_its_first_packet() -> TestResult {
    let source = source_with(&NEEDS)?;
    let pair = Pair::new("")?;
    let (sender, sink) = (pair.sender(), pair.sink());
    let to = sink.local_addr()?;
    let watch = source.watch(WatchTarget::socket(&sender).sharing())?;
    for round in 1..=70u32 {
        // More queues than there are slots for at a time. One without a rate is passed by when it
        // is empty.
        let (kind, limit) = if round % 2 == 0 {
            ("tbf", 50_000 + round)
        } else {
            ("htb", 0)
        };
        let how = if round % 2 == 0 {
            format!("rate 100mbit burst 15000 limit {limit}")
        } else {
            "default 1".to_owned()
        };
        sh(
            &pair.a,
            &format!("tc qdisc replace dev a0 root handle {round:x}: {kind} {how}"),
        );
        send(&sender, to, 1)?;
        let state = watch.known_sample().queue.ok_or("the queue is known")?;
        assert_eq!(state.kind.as_str(), kind, "{round}");
        assert_eq!(state.handle >> 16, round & 0xffff);
        let told = (kind == "tbf").then_some(QueueLimit::Bytes(limit));
        assert_eq!(state.limit, told, "{round}");
    }
    assert_eq!(drain(&sink)?, 70);
    Ok(())
}

#[test]
fn slots_of_devices_that_are_gone_are_given_back() -> TestResult {
    let source = source_with(&NEEDS)?;
    let namespace = Namespace::new()?;
    let mut last = None;
    for round in 0..70 {
        sh(
            &namespace,
            "ip link add d0 type veth peer name d1 && ip address add 10.9.8.1/24 dev d0 && \
             ip link set d0 up && ip link set d1 up && \
             ip neigh replace 10.9.8.2 lladdr 02:00:00:00:08:02 dev d0 nud permanent && \
             tc qdisc add dev d0 root handle 1: tbf rate 10mbit burst 3000 limit 100000",
        );
        let sender = super::bed::bind(&namespace, "10.9.8.1:0");
        let watch = source.watch(WatchTarget::socket(&sender))?;
        send(&sender, "10.9.8.2:9".parse()?, 20)?;
        let queue = watch.known().queue;
        let queue = queue.ok_or_else(|| format!("no queue is known in round {round}"))?;
        assert_ne!(last, Some(queue.id), "another queue");
        last = Some(queue.id);
        sh(&namespace, "ip link del d0");
    }
    Ok(())
}

#[test]
fn a_token_buckets_limit_is_that_of_its_child() -> TestResult {
    let source = source_with(&NEEDS)?;
    let pair = Pair::new("")?;
    sh(
        &pair.a,
        "tc qdisc add dev a0 root handle 1: tbf rate 10mbit burst 15000 limit 1048576",
    );
    let (sender, sink) = (pair.sender(), pair.sink());
    let watch = source.watch(WatchTarget::socket(&sender))?;
    let to = sink.local_addr()?;
    send(&sender, to, 1)?;
    let limit = || watch.known_sample().queue.and_then(|queue| queue.limit);
    assert_eq!(limit(), Some(QueueLimit::Bytes(1_048_576)));
    sh(
        &pair.a,
        "tc qdisc add dev a0 parent 1:1 handle 10: pfifo limit 10",
    );
    // The kernel's tick.
    thread::sleep(Duration::from_millis(15));
    send(&sender, to, 1)?;
    assert_eq!(limit(), Some(QueueLimit::Packets(10)));
    assert_eq!(watch.known().queue.and_then(|queue| queue.limit), None);
    Ok(())
}

/// A TUN device that is never read, with a route to 10.9.7.0/24.
fn unread_tun(pair: &Pair) -> std::io::Result<std::fs::File> {
    let tun = pair.a.run(|| {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")?;
        let mut request = [0u8; 40];
        request[..4].copy_from_slice(b"tun7");
        let flags = libc::IFF_TUN | libc::IFF_NO_PI;
        request[16..20].copy_from_slice(&flags.to_le_bytes());
        // SAFETY: the request is a `struct ifreq`, 40 bytes, for the kernel to read and write.
        let made =
            unsafe { libc::ioctl(file.as_raw_fd(), 0x4004_54ca_u64 as _, request.as_mut_ptr()) };
        if made < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(file)
    });
    tun.expect("the namespace is entered")
}

#[test]
fn what_is_dropped_behind_the_queue_is_not_taken_from_it_twice() -> TestResult {
    let source = source_with(&NEEDS)?;
    let pair = Pair::new("")?;
    let _tun = unread_tun(&pair)?;
    sh(
        &pair.a,
        "ip link set tun7 txqueuelen 5 up && ip address add 10.9.7.1/24 dev tun7 && \
         tc qdisc add dev tun7 root handle 1: tbf rate 2mbit burst 3000 limit 200000",
    );
    let sender: UdpSocket = super::bed::bind(&pair.a, "10.9.7.1:0");
    let watch = source.watch(WatchTarget::socket(&sender).sharing())?;
    let queue = Qdisc {
        namespace: &pair.a,
        device: "tun7",
        handle: "1:",
    };
    let mut compared = Comparison::default();
    send(&sender, "10.9.7.2:9".parse()?, 100)?;
    for _ in 0..15 {
        compared.sample(&watch, &[queue]);
        thread::sleep(Duration::from_millis(20));
    }
    compared.assert_within(ON_WIRE, "behind the queue");
    assert!(Drops::of(&watch).queue_full > 20, "{:?}", Drops::of(&watch));
    Ok(())
}
