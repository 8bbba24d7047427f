//! Queue disciplines that shape a device in the token bucket's place.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use netlab::Path;
use serde_json::Value;

use super::choices::Tree;
use super::parameters::Parameters;
use super::topology::{self, bytes};

/// The class of a sibling's packets, as their priority (`struct sk_buff`) names it.
pub(super) const SIBLING: u32 = 0x7_0002;

/// What counts marks in what `tc -s -j` prints: of fq_codel and cake, and of `ce_threshold`.
const MARKS: [&str; 2] = ["ecn_mark", "ce_mark"];

impl Tree {
    /// The queue in the class; `None` where there is no class.
    fn queue(self, limit: u32) -> Option<String> {
        let queue = match self {
            Self::HtbBfifo => return Some(format!("bfifo limit {limit}")),
            Self::HtbPfifo100 | Self::HtbSibling => "pfifo limit 100",
            Self::HtbPfifo1000 => "pfifo limit 1000",
            Self::HtbPfifoFast => "pfifo_fast",
            Self::HtbFq => "fq",
            Self::HtbFqCodel | Self::TbfFqCodel => "fq_codel",
            Self::HtbFqCodelCe => "fq_codel ce_threshold 1ms",
            Self::FqMaxrate | Self::Cake => return None,
        };
        Some(queue.to_owned())
    }

    /// What makes it, as `tc` takes it, at the rate of the token bucket.
    fn commands(self, parameters: &Parameters) -> Vec<String> {
        let (rate, burst) = (parameters.rate_mbps, bytes(parameters.bucket_kb));
        let limit = bytes(parameters.queue_kb);
        let Some(queue) = self.queue(limit) else {
            let option = match self {
                Self::FqMaxrate => "fq maxrate",
                _ => "cake bandwidth",
            };
            let line = format!("qdisc replace dev {{device}} root handle 7: {option} {rate}mbit");
            return vec![line];
        };
        let leaf = format!("qdisc replace dev {{device}} parent 7:1 {queue}");
        if self == Self::TbfFqCodel {
            let root = format!(
                "qdisc replace dev {{device}} root handle 7: tbf rate {rate}mbit burst {burst} limit {limit}"
            );
            return vec![root, leaf];
        }
        let class = |number, rate| {
            format!(
                "class replace dev {{device}} parent 7: classid 7:{number} htb rate {rate}mbit \
                 burst {burst} cburst {burst}"
            )
        };
        let root = "qdisc replace dev {device} root handle 7: htb default 1".to_owned();
        let mut commands = vec![root, class(1, rate), leaf];
        if self == Self::HtbSibling {
            commands.push(class(2, rate / 20.0));
            let queue = "qdisc replace dev {device} parent 7:2 bfifo limit 1000000";
            commands.push(queue.to_owned());
        }
        commands
    }

    /// Makes it the root queue of the sender's device.
    pub(super) fn shape(self, path: &Path, parameters: &Parameters) -> Result<()> {
        let lines = self.commands(parameters).join("\n");
        // As one batch: until the class is there, htb lets everything pass.
        batch(path, &lines.replace("{device}", path.sender_device()))
    }
}

/// Lets one `tc` execute these lines.
fn batch(path: &Path, lines: &str) -> Result<()> {
    let mut tc = path
        .sender()
        .command("tc")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start tc: install iproute2")?;
    let mut input = tc.stdin.take().context("tc has no input")?;
    input.write_all(lines.as_bytes())?;
    drop(input);
    let output = tc.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`tc -batch -` failed: {said}\n{lines}"
    );
    Ok(())
}

/// Packets that the queues of the sender's device marked so far.
pub(super) fn marks(path: &Path) -> Result<u64> {
    let line = format!("-s -j qdisc show dev {}", path.sender_device());
    let printed = topology::command(path.sender(), "tc", &line)?;
    let queues = serde_json::from_str(&printed).context("what tc prints of queues is no JSON")?;
    Ok(sum_of_marks(&queues))
}

/// Of a queue and of the parts that it consists of.
fn sum_of_marks(value: &Value) -> u64 {
    match value {
        Value::Array(values) => values.iter().map(sum_of_marks).sum(),
        Value::Object(fields) => {
            let own = MARKS.iter().filter_map(|name| fields.get(*name)?.as_u64());
            own.sum::<u64>() + fields.values().map(sum_of_marks).sum::<u64>()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn marks_are_counted_in_all_parts_of_all_queues() {
        let queues = json!([
            {"kind": "htb", "drops": 7, "options": {"ecn_mark": "no number"}},
            {"kind": "fq_codel", "ecn_mark": 5, "ce_mark": 2},
            {"kind": "cake", "tins": [{"ecn_mark": 1}, {"ecn_mark": 3}]},
        ]);
        assert_eq!(sum_of_marks(&queues), 11);
    }

    #[test]
    fn a_sibling_has_a_class_of_its_own() {
        let parameters = Parameters::default();
        let alone = Tree::HtbPfifo100.commands(&parameters);
        let commands = Tree::HtbSibling.commands(&parameters);
        assert_eq!(commands[..3], alone);
        assert!(commands[3].contains("classid 7:2 htb rate 2.5mbit"));
        assert!(Tree::Cake.commands(&parameters)[0].ends_with("cake bandwidth 50mbit"));
        assert!(Tree::FqMaxrate.commands(&parameters)[0].ends_with("fq maxrate 50mbit"));
    }
}
