//! Drops by the sender's firewall are distinguished from drops by a queue.

use std::error::Error;
use std::io;

use ebpf_congestion_signals::{Direction, DropClass, SignalSource, WatchTarget};
use netlab::{Family, Namespace, Path, PathConfig};

use crate::known::Known;
use crate::traffic::{bind, drain, send, send_batch, sink, wait_until};
use crate::{TestResult, kernel, source, tool};

/// Datagrams that the rule takes, sent one by one and in batches of ten.
const SINGLE: usize = 20;
const BATCHES: usize = 4;
const TAKEN: u64 = SINGLE as u64 + 10 * BATCHES as u64;

/// Datagrams that it lets pass.
const PASSED: usize = 30;

#[test]
fn what_a_rule_takes_is_policy_and_was_seen() -> TestResult {
    let source = source()?;
    let path = Path::new(&PathConfig::default())?;
    let tables = tool(path.sender(), "nft")?
        .args(["list", "tables"])
        .output()?;
    let refused = String::from_utf8_lossy(&tables.stderr);
    live_test::require((!tables.status.success()).then_some(refused))?;
    for family in [Family::V4, Family::V6] {
        let ends = path.addresses(family);
        let sinks = [sink(&path, ends.receiver)?, sink(&path, ends.receiver)?];
        let [closed, open] = [sinks[0].local_addr()?, sinks[1].local_addr()?];
        refuse(path.sender(), closed.port())?;

        let sender = bind(path.sender(), ends.sender)?;
        let watch = source.watch(WatchTarget::socket(&sender))?;
        for _ in 0..SINGLE {
            assert_refused(send(&sender, closed, 1));
        }
        for _ in 0..BATCHES {
            assert_refused(send_batch(&sender, closed, 10));
        }
        send(&sender, open, PASSED)?;
        assert_eq!(drain(&sinks[1])?, PASSED as u64);

        let seen = || watch.known_sample().sent_packets == PASSED as u64;
        wait_until("what passed is counted", seen);
        let sample = watch.known_sample();
        let reasons = source.drops_by_reason(Some(watch.id()));
        assert_eq!(sample.drops.total().packets, TAKEN, "{reasons:?}");
        assert_eq!(sample.congestion.queue_drops, 0);
        assert_eq!(sample.congestion.observed_packets, PASSED as u64);
        if kernel::has(source, "skb_drop_reason") {
            let policy = sample.drops.get(Direction::Egress, DropClass::Policy);
            assert_eq!(policy.packets, TAKEN, "{reasons:?}");
            assert_eq!(sample.congestion.policy_drops, TAKEN);
            assert_eq!(
                watch.congestion().seen_packets(),
                Some(TAKEN + PASSED as u64)
            );
            assert!(
                reasons.iter().all(|by| &*by.reason == "NETFILTER_DROP"),
                "{reasons:?}"
            );
        } else {
            let other = sample.drops.get(Direction::Egress, DropClass::Other);
            assert_eq!(other.packets, TAKEN, "{reasons:?}");
            assert_eq!(sample.congestion.policy_drops, 0);
        }
    }
    Ok(())
}

/// A rule on the way out that drops datagrams to this port.
fn refuse(namespace: &Namespace, port: u16) -> Result<(), Box<dyn Error>> {
    let rules = format!(
        "add table inet rules; \
         add chain inet rules leaving {{ type filter hook output priority 0; }}; \
         add rule inet rules leaving udp dport {port} drop"
    );
    let output = namespace.command("nft").arg(rules).output()?;
    assert!(output.status.success(), "{output:?}");
    Ok(())
}

/// The kernel returns an error to the sender; for a queue's drop it does not.
fn assert_refused(sent: io::Result<()>) {
    let kind = sent.expect_err("a rule takes it").kind();
    assert_eq!(kind, io::ErrorKind::PermissionDenied);
}
