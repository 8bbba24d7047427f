//! What happens to a path while something is sent over it.

use std::time::Instant;

use anyhow::{Context, Result};
use netlab::{Family, Path};

use super::choices::{Disturbance, Tree};
use super::interrupt::Interrupt;
use super::parameters::Parameters;
use super::topology::{self, Topology, bucket, bytes};

impl Disturbance {
    /// When, in seconds since the beginning.
    pub(super) fn begins(parameters: &Parameters) -> f64 {
        parameters.seconds / 3.0
    }

    /// From when on everything must be as before, in seconds since the beginning: two seconds after
    /// its end.
    pub(super) fn recovered(parameters: &Parameters) -> f64 {
        if parameters.disturb == Some(Self::MovesOn) {
            // Of the move itself too.
            return Self::begins(parameters);
        }
        Self::begins(parameters) + parameters.disturb_s + 2.0
    }

    /// Lets it happen at its time. What a program does itself is among its arguments.
    pub(super) fn happen(
        self,
        parameters: &Parameters,
        topology: &Topology,
        began: Instant,
        interrupt: &Interrupt,
        has_ended: impl Fn() -> bool,
    ) -> Result<()> {
        if self == Self::Rebind {
            return Ok(());
        }
        let path = topology.path().context("a single host has no device")?;
        let wait = |seconds: f64| {
            let due = began + std::time::Duration::from_secs_f64(seconds);
            interrupt.wait(due, || Ok(has_ended()))
        };
        let begins = Self::begins(parameters);
        let ends = begins + parameters.disturb_s;
        wait(begins)?;
        match self {
            Self::Rebind => {}
            Self::Mtu => {
                ip(path, "link set {device} mtu 1280")?;
                wait(ends)?;
                ip(path, "link set {device} mtu 1500")?;
            }
            Self::Link => {
                ip(path, "link set {device} down")?;
                wait(ends)?;
                ip(path, "link set {device} up")?;
                // Both went with the device.
                ip(path, ROUTE)?;
                ip(path, NEIGHBOUR)?;
            }
            Self::Device => {
                path.remove_cable()?;
                wait(ends)?;
                path.restore_cable()?;
                if parameters.by_netem() {
                    topology::delay_way_back(path, parameters)?;
                }
            }
            Self::Route => {
                ip(path, "route del {receiver}/32 dev {device}")?;
                wait(ends)?;
                ip(path, ROUTE)?;
            }
            Self::Queue => Tree::HtbBfifo.shape(path, parameters)?,
            Self::MovesOn => path.change_bottleneck(bucket(parameters, UNLIMITED_MBPS))?,
            Self::QueueAgain => {
                let mut at = begins;
                for tree in [Some(Tree::HtbBfifo), None].into_iter().cycle() {
                    if wait(at)? || at >= parameters.seconds {
                        break;
                    }
                    match tree {
                        Some(tree) => tree.shape(path, parameters)?,
                        None => shape_again(path, parameters)?,
                    }
                    at += 1.0;
                }
            }
        }
        Ok(())
    }
}

const ROUTE: &str = "route replace {receiver}/32 dev {device} src {sender}";
const NEIGHBOUR: &str =
    "neighbour replace {receiver} dev {device} lladdr 02:00:00:00:00:02 nud permanent";

/// As good as none.
const UNLIMITED_MBPS: f64 = 5_000.0;

/// Makes the root queue a token bucket again.
fn shape_again(path: &Path, parameters: &Parameters) -> Result<()> {
    let (rate, burst, limit) = (
        parameters.rate_mbps,
        bytes(parameters.bucket_kb),
        bytes(parameters.queue_kb),
    );
    let line = format!(
        "qdisc replace dev {{device}} root handle 8: tbf rate {rate}mbit burst {burst} limit {limit}"
    );
    run(path, "tc", &line)
}

fn ip(path: &Path, line: &str) -> Result<()> {
    run(path, "ip", line)
}

fn run(path: &Path, program: &str, line: &str) -> Result<()> {
    let ends = path.addresses(Family::V4);
    let line = line
        .replace("{device}", path.sender_device())
        .replace("{sender}", &ends.sender.to_string())
        .replace("{receiver}", &ends.receiver.to_string());
    topology::command(path.sender(), program, &line).map(drop)
}
