//! Tunnels: a packet goes through two devices, and most of its way with other headers.

use std::io::Write;
use std::process::Stdio;

use ebpf_congestion_signals::{SignalSource, WatchTarget};
use live_test::{Skip, TestResult};
use netlab::Namespace;

use super::bed::{Drops, Pair, address, bind, neighbour, quiet_up, sh, ten, try_sh};
use crate::known::Known;
use crate::traffic::{drain, send, wait_until};
use crate::{source_with, tool};

const NEEDS: [&str; 4] = [
    "kfree_skb",
    "skb_drop_reason",
    "qdisc_enqueue",
    "qdisc_dequeue",
];

/// Both ends: device `tn0` with 10.9.3.1 and 10.9.3.2, between 10.9.1.1 and 10.9.1.2.
fn ends(pair: &Pair) -> [(&Namespace, u8, u8); 2] {
    [(&pair.a, 1, 2), (&pair.b, 2, 1)]
}

/// A tunnel of a kind whose `options` name both ends of the path (LOCAL, REMOTE).
fn tunnel(kind: &'static str, options: &str) -> Result<Pair, Box<dyn std::error::Error>> {
    // Before anything that needs privilege.
    source_with(&NEEDS)?;
    let pair = Pair::new("")?;
    for (namespace, here, there) in ends(&pair) {
        let options = options
            .replace("LOCAL", &format!("10.9.1.{here}"))
            .replace("REMOTE", &format!("10.9.1.{there}"));
        let made = try_sh(namespace, &format!("ip link add tn0 type {kind} {options}"));
        made.map_err(|_| Skip::new(format!("this kernel has no such device: {kind}")))?;
    }
    Ok(pair)
}

fn up(pair: &Pair) {
    for (namespace, here, _) in ends(pair) {
        quiet_up(namespace, "tn0");
        address(namespace, "tn0", &format!("10.9.3.{here}/24"));
    }
}

/// Whether the destination of a packet in the tunnel can be read below it.
#[derive(Clone, Copy, PartialEq)]
enum Destination {
    Readable,
    Encrypted,
}

/// Sends more than the queue below the tunnel takes; each packet counts once, for the socket and,
/// where its destination can be read there, for the peer that it was sent to.
fn assert_counted_once(pair: &Pair, destination: Destination) -> TestResult {
    let source = source_with(&NEEDS)?;
    sh(
        &pair.a,
        "tc qdisc add dev a0 root handle 1: tbf rate 5mbit burst 15000 limit 40000",
    );
    for batch in [false, true] {
        let (sender, sink) = (bind(&pair.a, "10.9.3.1:0"), bind(&pair.b, "10.9.3.2:0"));
        let to = sink.local_addr()?;
        // A tunnel may have to be negotiated first.
        send(&sender, to, 1)?;
        assert_eq!(drain(&sink)?, 1);
        let watches = [
            source.watch(WatchTarget::socket(&sender))?,
            source.watch(WatchTarget::socket(&sender).peer(to))?,
        ];
        for _ in 0..20 {
            ten(&sender, to, batch)?;
        }
        let dropped = 200 - drain(&sink)?;
        assert!(dropped > 20);
        let of_peer = match destination {
            Destination::Readable => Drops::by_queues(dropped),
            Destination::Encrypted => Drops::NONE,
        };
        let expected = [("socket", Drops::by_queues(dropped)), ("peer", of_peer)];
        for ((who, expected), watch) in expected.into_iter().zip(&watches) {
            let sent = || watch.known_sample().sent_packets;
            wait_until("all were sent", || sent() >= 200);
            assert_eq!(sent(), 200, "{who}, batch {batch}");
            let drops = Drops::of(watch);
            assert_eq!(drops, expected, "{who}, batch {batch}");
        }
    }
    Ok(())
}

#[test]
fn a_vxlan_packet_is_counted_once_and_its_peer_told() -> TestResult {
    let pair = tunnel("vxlan", "id 7 dstport 4789 local LOCAL remote REMOTE")?;
    for (namespace, here, _) in ends(&pair) {
        sh(
            namespace,
            &format!("ip link set dev tn0 address 02:00:00:00:03:0{here}"),
        );
    }
    up(&pair);
    for (namespace, _, there) in ends(&pair) {
        let (ip, link_layer) = (
            format!("10.9.3.{there}"),
            format!("02:00:00:00:03:0{there}"),
        );
        neighbour(namespace, "tn0", &ip, &link_layer);
    }
    assert_counted_once(&pair, Destination::Readable)
}

#[test]
fn a_gre_packet_is_counted_once_and_its_peer_told() -> TestResult {
    let pair = tunnel("gre", "local LOCAL remote REMOTE")?;
    up(&pair);
    assert_counted_once(&pair, Destination::Readable)
}

#[test]
fn an_ipip_packet_is_counted_once_and_its_peer_told() -> TestResult {
    let pair = tunnel("ipip", "local LOCAL remote REMOTE")?;
    up(&pair);
    assert_counted_once(&pair, Destination::Readable)
}

/// Runs `wg` with these arguments; `input` goes to its standard input, its standard output is
/// returned.
fn wg(
    namespace: &Namespace,
    line: &str,
    input: &str,
) -> Result<String, Box<dyn std::error::Error>> {
    let mut wg = tool(namespace, "wg")?
        .args(line.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    wg.stdin
        .take()
        .expect("it is piped")
        .write_all(input.as_bytes())?;
    let output = wg.wait_with_output()?;
    assert!(output.status.success(), "wg {line}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[test]
fn a_wireguard_packet_is_counted_once_and_its_drop_told_to_the_socket() -> TestResult {
    let pair = tunnel("wireguard", "")?;
    let private = [wg(&pair.a, "genkey", "")?, wg(&pair.b, "genkey", "")?];
    let public = [
        wg(&pair.a, "pubkey", &private[0])?,
        wg(&pair.b, "pubkey", &private[1])?,
    ];
    for ((namespace, here, there), own) in ends(&pair).into_iter().zip(&private) {
        let peer = &public[usize::from(there) - 1];
        let line = format!(
            "set tn0 listen-port 5182{here} private-key /proc/self/fd/0 peer {peer} \
             endpoint 10.9.1.{there}:5182{there} allowed-ips 10.9.3.{there}/32"
        );
        wg(namespace, &line, own)?;
    }
    up(&pair);
    assert_counted_once(&pair, Destination::Encrypted)
}
