//! Queue disciplines that drop and hold for reasons of their own. Kernels may lack any of them,
//! and then the tests of it are skipped.

use std::net::UdpSocket;

use ebpf_congestion_signals::{Direction, DropClass, EbpfSource, SignalSource, Watch, WatchTarget};
use live_test::Skip;
use netlab::{Family, Path, PathConfig};
use nix::sys::socket::{setsockopt, sockopt};

use crate::known::Known;
use crate::traffic::{PAYLOAD, bind, drain, send, send_batch, sink, wait_until};
use crate::{TestResult, source_with, tool};

/// Bytes on the wire of a test's datagram: Ethernet, IPv4 and UDP headers before the payload.
const ON_WIRE: u64 = PAYLOAD as u64 + 14 + 20 + 8;

/// Probes and facts needed to report a queue, and why it dropped.
const NEEDS: [&str; 3] = ["qdisc_enqueue", "qdisc_dequeue", "skb_drop_reason"];

/// A path, and a watched socket that sends on it.
struct Flow {
    path: Path,
    sink: UdpSocket,
    sender: UdpSocket,
    watch: Watch,
}

impl Flow {
    /// Sends through these queue disciplines: parent, kind and options of each, as
    /// `tc qdisc add dev DEVICE` takes them. The test is skipped where the kernel lacks one.
    fn through(
        source: &EbpfSource,
        disciplines: &[(&str, &str, &str)],
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let path = Path::new(&PathConfig::default())?;
        for (place, kind, options) in disciplines {
            let mut tc = tool(path.sender(), "tc")?;
            tc.args(["qdisc", "add", "dev", path.sender_device()])
                .args(place.split(' '))
                .arg(kind)
                .args(options.split(' '));
            let output = tc.output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            if said.contains("qdisc kind is unknown") || said.contains("qdisc not found") {
                let why = format!("this kernel has no such queue discipline: {kind}");
                return Err(Skip::new(why).into());
            }
            assert!(output.status.success(), "{kind}: {said}");
        }
        let ends = path.addresses(Family::V4);
        let sink = sink(&path, ends.receiver)?;
        let sender = bind(path.sender(), ends.sender)?;
        // So that a send never waits for the queue.
        setsockopt(&sender, sockopt::SndBufForce, &(4 << 20))?;
        let watch = source.watch(WatchTarget::socket(&sender).sharing())?;
        Ok(Self {
            path,
            sink,
            sender,
            watch,
        })
    }

    fn send(&self, datagrams: usize) -> std::io::Result<()> {
        send(&self.sender, self.sink.local_addr()?, datagrams)
    }

    fn own(&self) -> u64 {
        self.watch.known().queue.map_or(0, |queue| queue.own)
    }

    /// Asserts that what did not arrive of `sent` datagrams was counted as dropped by a queue for
    /// one of these reasons, and that nothing is left in it. Returns how many that were.
    fn assert_exact(&self, source: &EbpfSource, sent: u64, reasons: &[&str]) -> u64 {
        let arrived = drain(&self.sink).expect("the sink can be read");
        let drops = self.watch.known_sample().drops;
        let told = source.drops_by_reason(Some(self.watch.id()));
        assert_eq!(
            drops.total().packets,
            sent - arrived,
            "{sent} sent, {arrived} arrived, dropped: {told:?}"
        );
        let full = drops.get(Direction::Egress, DropClass::QueueFull);
        assert_eq!(full.packets, sent - arrived, "{told:?}");
        assert!(
            told.iter().all(|by| reasons.contains(&&*by.reason)),
            "{told:?}"
        );
        wait_until("the queue drains", || self.own() == 0);
        full.packets
    }
}

#[test]
fn what_netem_loses_is_counted_though_no_sender_is_told() -> TestResult {
    let source = source_with(&NEEDS)?;
    let netem = ("root", "netem", "loss 30% limit 1000");
    let flow = Flow::through(source, &[netem])?;
    flow.send(200)?;
    for _ in 0..20 {
        send_batch(&flow.sender, flow.sink.local_addr()?, 10)?;
    }
    let dropped = flow.assert_exact(source, 400, &["QDISC_DROP", "QDISC_GENERIC"]);
    assert!((20..300).contains(&dropped), "{dropped} of 400");
    Ok(())
}

#[test]
fn what_netem_delays_stands_in_the_queue_until_then() -> TestResult {
    let source = source_with(&NEEDS)?;
    let netem = ("root", "netem", "delay 1s limit 1000");
    let flow = Flow::through(source, &[netem])?;
    flow.send(50)?;
    assert_eq!(flow.own(), 50 * ON_WIRE);
    wait_until("the delay is over", || flow.own() == 0);
    assert_eq!(flow.assert_exact(source, 50, &[]), 0);
    Ok(())
}

#[test]
fn what_cake_drops_for_its_memory_is_a_full_queue() -> TestResult {
    let source = source_with(&NEEDS)?;
    let cake = ("root", "cake", "bandwidth 1mbit memlimit 50000");
    let flow = Flow::through(source, &[cake])?;
    flow.send(200)?;
    let own = flow.own();
    assert!(own > 5 * ON_WIRE && own <= 50_000, "{own}");
    assert_eq!(own % ON_WIRE, 0, "{own}");
    // Linux 6.12 gives no reason for what it drops at a dequeue.
    let reasons = [
        "QDISC_DROP",
        "QDISC_OVERLIMIT",
        "QDISC_CONGESTED",
        "NOT_SPECIFIED",
    ];
    let dropped = flow.assert_exact(source, 200, &reasons);
    assert!(dropped > 100, "{dropped} of 200");
    Ok(())
}

#[test]
fn what_fq_refuses_of_a_flow_too_long_is_a_full_queue() -> TestResult {
    let source = source_with(&NEEDS)?;
    let fq = ("root", "fq", "flow_limit 20 maxrate 1mbit");
    let flow = Flow::through(source, &[fq])?;
    flow.send(200)?;
    let own = flow.own();
    assert!(own > 10 * ON_WIRE && own <= 20 * ON_WIRE, "{own}");
    assert_eq!(own % ON_WIRE, 0, "{own}");
    let dropped = flow.assert_exact(
        source,
        200,
        &["QDISC_DROP", "FQ_FLOW_LIMIT", "QDISC_FLOW_LIMIT"],
    );
    assert!(dropped > 100, "{dropped} of 200");
    Ok(())
}

#[test]
fn what_codel_drops_from_the_head_leaves_the_queue() -> TestResult {
    let source = source_with(&NEEDS)?;
    let tbf = (
        "root handle 1:",
        "tbf",
        "rate 2mbit burst 3000 limit 500000",
    );
    let codel = ("parent 1:1", "fq_codel", "target 1ms interval 10ms noecn");
    let flow = Flow::through(source, &[tbf, codel])?;
    flow.send(300)?;
    wait_until("packets are dropped", || {
        flow.watch.known_sample().drops.total().packets >= 3
    });
    let before = flow.own();
    let output = tool(flow.path.sender(), "tc")?
        .args(["-s", "-j", "qdisc", "show", "dev"])
        .args([flow.path.sender_device(), "root"])
        .output()?;
    let after = flow.own();
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let backlog = shown[0]["backlog"].as_u64().ok_or("tc tells a backlog")?;
    assert!(
        (after..=before).contains(&backlog),
        "{after} {backlog} {before}"
    );
    // Older kernels have no name for it, and it is a full queue's all the same.
    let dropped = flow.assert_exact(source, 300, &["NOT_SPECIFIED", "QDISC_CONGESTED"]);
    assert!(dropped > 3, "{dropped} of 300");
    Ok(())
}
