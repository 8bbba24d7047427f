//! What a queue is: its kind, its limit, its packets.

use ebpf_congestion_signals::{EbpfSource, QueueLimit, QueueState, SignalSource, WatchTarget};
use netlab::{Family, Path, PathConfig};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;

use crate::known::{Known, Sample};
use crate::traffic::{bind, send, sink};
use crate::{TestResult, source_with, tool};

/// What a queue discipline of the table is expected to tell.
struct Case {
    /// As `tc qdisc add dev DEVICE` takes them: where, kind and options. The first is the root.
    disciplines: &'static [(&'static str, &'static str, &'static str)],
    limit: Option<QueueLimit>,
}

const SLOW: (&str, &str, &str) = ("root", "tbf", "rate 200kbit burst 3000 limit 100000");

const CASES: [Case; 5] = [
    Case {
        disciplines: &[SLOW],
        limit: Some(QueueLimit::Bytes(100_000)),
    },
    // A child holds the packets; the root counts them too.
    Case {
        disciplines: &[
            ("root handle 1:", "htb", "default 1"),
            ("parent 1:1", "pfifo", "limit 40"),
        ],
        limit: None,
    },
    Case {
        disciplines: &[
            ("root handle 1:", "htb", "default 1"),
            ("parent 1:1", "fq_codel", "limit 40"),
        ],
        limit: None,
    },
    Case {
        disciplines: &[(
            "root",
            "fq",
            "limit 90 maxrate 200kbit initial_quantum 3000",
        )],
        limit: Some(QueueLimit::Packets(90)),
    },
    Case {
        disciplines: &[("root", "netem", "delay 5s limit 90")],
        limit: Some(QueueLimit::Packets(90)),
    },
];

/// Sets a queue up; `false` where the kernel lacks it, and the summary says so.
fn set_up(path: &Path, case: &Case) -> Result<bool, Box<dyn std::error::Error>> {
    let tc = |what: &[&str], rest: &str| {
        let mut tc = path.sender().command("tc");
        tc.args(what).args(["dev", path.sender_device()]);
        tc.args(rest.split_whitespace()).output()
    };
    for (place, kind, options) in case.disciplines {
        let output = tc(&["qdisc", "add"], &format!("{place} {kind} {options}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("qdisc kind is unknown") || said.contains("qdisc not found") {
            live_test::note(format!("this kernel has no such queue discipline: {kind}"));
            return Ok(false);
        }
        assert!(output.status.success(), "{kind}: {said}");
        if *kind == "htb" {
            let class = "parent 1: classid 1:1 htb rate 200kbit burst 3000 cburst 3000";
            let output = tc(&["class", "add"], class)?;
            assert!(output.status.success(), "{output:?}");
        }
    }
    Ok(true)
}

fn shown(path: &Path) -> Result<Value, Box<dyn std::error::Error>> {
    let output = tool(path.sender(), "tc")?
        .args(["-s", "-j", "qdisc", "show", "dev", path.sender_device()])
        .arg("root")
        .output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn kind_limit_and_packets_are_those_that_tc_shows() -> TestResult {
    source_with(&["qdisc_enqueue", "qdisc_dequeue"])?;
    live_test::require_program("tc")?;
    for case in &CASES {
        let path = Path::new(&PathConfig::default())?;
        if !set_up(&path, case)? {
            continue;
        }
        // Some kernels describe a token bucket once it is used for the first time.
        let source = EbpfSource::load()?;
        let ends = path.addresses(Family::V4);
        let sink = sink(&path, ends.receiver)?;
        let sender = bind(path.sender(), ends.sender)?;
        setsockopt(&sender, sockopt::SndBufForce, &(4 << 20))?;
        let watch = source.watch(WatchTarget::socket(&sender))?;
        send(&sender, sink.local_addr()?, 70)?;

        let kind = case.disciplines[0].1;
        let before = watch.known_sample();
        let root = &shown(&path)?[0];
        let after = watch.known_sample();
        let state = |sample: &Sample| -> QueueState {
            sample.queue.unwrap_or_else(|| panic!("{kind}: {sample:?}"))
        };
        assert_eq!(state(&after).kind.as_str(), kind);
        assert_eq!(root["kind"].as_str(), Some(kind));
        assert_eq!(state(&after).limit, case.limit, "{kind}");
        let in_bytes = match case.limit {
            Some(QueueLimit::Bytes(limit)) => Some(u64::from(limit)),
            _ => None,
        };
        let queue = after.congestion.queue.ok_or("the queue is known")?;
        assert_eq!(queue.limit, in_bytes, "{kind}");
        let handle = format!("{:x}:", state(&after).handle >> 16);
        assert_eq!(root["handle"].as_str(), Some(handle.as_str()));
        let packets = root["qlen"].as_u64().ok_or("tc tells a length")?;
        let range = state(&after).packets..=state(&before).packets;
        assert!(range.contains(&packets), "{kind}: {packets} in {range:?}");
        let bytes = root["backlog"].as_u64().ok_or("tc tells a backlog")?;
        let total = |sample: &Sample| sample.congestion.queue.map_or(0, |queue| queue.total);
        let range = total(&after)..=total(&before);
        assert!(range.contains(&bytes), "{kind}: {bytes} in {range:?}");
        assert!(packets > 10, "{kind}: {packets}");
    }
    Ok(())
}
