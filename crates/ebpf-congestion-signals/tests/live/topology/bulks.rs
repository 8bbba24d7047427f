//! Devices that take several packets from their queue at once.

use std::error::Error;
use std::fs;
use std::net::UdpSocket;

use ebpf_congestion_signals::{SignalSource, Watch, WatchTarget};
use live_test::{Skip, TestResult};

use super::bed::{ON_WIRE, Pair, Qdisc, sh, take};
use crate::known::Known;
use crate::traffic::send;
use crate::{source_with, tool};

const NEEDS: [&str; 3] = ["sock_send_length", "qdisc_enqueue", "qdisc_dequeue"];

/// What the kernel says that a socket's send buffer holds (`sk_wmem_alloc`).
fn occupancy(pair: &Pair, socket: &UdpSocket) -> Result<u32, Box<dyn Error>> {
    let table = pair
        .a
        .run(|| fs::read_to_string("/proc/thread-self/net/udp"))??;
    let port = format!(":{:04X}", socket.local_addr()?.port());
    let mut rows = table.lines().map(|line| line.split_whitespace());
    let mut row = rows
        .find(|row| row.clone().nth(1).is_some_and(|end| end.ends_with(&port)))
        .ok_or("the socket is listed")?;
    let queues = row.nth(4).ok_or("a row has queues")?;
    let (sent, _) = queues.split_once(':').ok_or("there are two")?;
    Ok(u32::from_str_radix(sent, 16)?)
}

/// The occupancy that is reported is the kernel's, of each socket.
fn assert_reported(pair: &Pair, flows: &[(UdpSocket, Watch)], when: &str) -> TestResult {
    for (index, (socket, watch)) in flows.iter().enumerate() {
        let buffers = watch.known_sample().buffers.ok_or("the socket was seen")?;
        let occupancy = occupancy(pair, socket)?;
        assert_eq!(buffers.wmem, occupancy, "socket {index}, {when}");
    }
    Ok(())
}

#[test]
fn a_bulk_of_several_sockets_updates_the_send_buffer_of_each() -> TestResult {
    let source = source_with(&NEEDS)?;
    // Where a device could have several queues, the kernel takes up to eight packets of one at once.
    let pair = Pair::new("numtxqueues 2 numrxqueues 2")?;
    let one = tool(&pair.a, "ethtool")?
        .args(["-L", "a0", "tx", "1"])
        .status()?;
    if !one.success() {
        return Err(Skip::new("this kernel does not set the number of a veth's queues").into());
    }
    // One packet in more than a second.
    let shaper = |verb: &str, packets: u64| {
        let burst = packets * ON_WIRE + ON_WIRE / 2;
        format!("tc qdisc {verb} dev a0 root handle 1: tbf rate 8kbit burst {burst} limit 200000")
    };
    sh(&pair.a, &shaper("add", 2));
    let queue = Qdisc {
        namespace: &pair.a,
        device: "a0",
        handle: "1:",
    };
    let (sink, other) = (pair.sink(), pair.sender());
    let to = sink.local_addr()?;
    let mut flows = Vec::new();
    for _ in 0..3 {
        let sender = pair.sender();
        let watch = source.watch(WatchTarget::socket(&sender).sharing())?;
        flows.push((sender, watch));
    }
    for round in 0..12 {
        for (index, (sender, _)) in flows.iter().enumerate() {
            send(sender, to, 1 + (round + index) % 3)?;
        }
    }
    assert_reported(&pair, &flows, "nothing left")?;
    let all = take(&sink);
    assert!(all <= 4, "{all} left before the bucket was filled");
    // Of several bulks in a row, the device has yet to send the first when it takes the last.
    for packets in [3, 7, 2, 5, 7, 7] {
        let before = queue.told();
        // The bucket is full after a change, and the next send takes from the queue what it allows.
        sh(&pair.a, &shaper("change", packets));
        send(&other, to, 1)?;
        let left = before.backlog + ON_WIRE - queue.told().backlog;
        let expected = packets.min(before.backlog / ON_WIRE + 1);
        let range = expected * ON_WIRE..=(expected + 1) * ON_WIRE;
        assert!(range.contains(&left), "{left} of {expected} packets");
        assert_reported(&pair, &flows, &format!("{packets} left"))?;
    }
    Ok(())
}
