//! Replaces the queue of the sender's device.

use anyhow::{Context, Result, ensure};
use netlab::Path;

/// Trees of queue disciplines; each replaces the one before it. All have the rate of the path.
const TREES: [&[&str]; 4] = [
    &["qdisc replace dev {device} root handle 8: tbf rate 50mbit burst 20000 limit 150000"],
    &[
        "qdisc replace dev {device} root handle 7: htb default 1",
        "class replace dev {device} parent 7: classid 7:1 htb rate 50mbit burst 20000 cburst 20000",
        "qdisc replace dev {device} parent 7:1 bfifo limit 150000",
    ],
    &["qdisc replace dev {device} root handle 9: tbf rate 50mbit burst 20000 limit 60000"],
    &[
        "qdisc replace dev {device} root handle 6: htb default 1",
        "class replace dev {device} parent 6: classid 6:1 htb rate 50mbit burst 20000 cburst 20000",
        "qdisc replace dev {device} parent 6:1 pfifo limit 100",
    ],
];

/// Replaces the root by the next tree; `turn` counts the calls.
pub(crate) fn replace(path: &Path, turn: usize) -> Result<()> {
    let tree = TREES[turn % TREES.len()];
    for line in tree {
        let line = line.replace("{device}", path.sender_device());
        let output = path
            .sender()
            .command("tc")
            .args(line.split_whitespace())
            .output()
            .context("cannot start tc: install iproute2")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`tc {line}` failed: {said}");
    }
    Ok(())
}
