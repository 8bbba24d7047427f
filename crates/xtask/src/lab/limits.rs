//! Which parameters of a scenario are possible, each and together.

use anyhow::{Result, ensure};

use super::choices::{BottleneckAt, Disturbance};
use super::parameters::Parameters;

impl Parameters {
    /// Fails with what to change if a parameter is out of its limits, or excluded by another.
    pub(super) fn check(&self) -> Result<()> {
        let within = |option: &str, value: f64, least: f64, most: f64, unit: &str| {
            ensure!(
                (least..=most).contains(&value),
                "--{option} {value}: give {least} to {most} {unit}"
            );
            Ok(())
        };
        within("rate", self.rate_mbps, 0.5, 2000.0, "Mbit/s")?;
        // A full packet and its headers must fit.
        within("queue", self.queue_kb, 2.0, 100_000.0, "kB")?;
        within("bucket", self.bucket_kb, 2.0, 10_000.0, "kB")?;
        if let Some(rate) = self.next_hop_mbps {
            within("next-hop", rate, 0.5, 2000.0, "Mbit/s")?;
        }
        within("next-hop-queue", self.next_hop_kb, 2.0, 100_000.0, "kB")?;
        within("delay", self.delay_ms, 0.0, 2000.0, "ms")?;
        within("jitter", self.jitter_ms, 0.0, 2000.0, "ms")?;
        within("loss", self.loss_percent, 0.0, 50.0, "percent")?;
        within("seconds", self.seconds, 1.0, 600.0, "seconds")?;
        within("rounds", f64::from(self.rounds), 1.0, 99.0, "rounds")?;
        within("flows", f64::from(self.flows), 1.0, 64.0, "flows")?;
        within("stagger", self.stagger_s, 0.0, 600.0, "seconds")?;
        within("peers", f64::from(self.peers), 0.0, 200.0, "peers")?;
        within("tcp", f64::from(self.tcp), 0.0, 32.0, "flows")?;
        within("rivals", f64::from(self.rivals), 0.0, 32.0, "flows")?;
        if let Some(step) = self.step_mbps {
            within("step", step, 0.5, 2000.0, "Mbit/s")?;
        }
        within("policy", self.policy_percent, 0.0, 50.0, "percent")?;
        if let Some(buffer) = self.receive_buffer_kb {
            within("receive-buffer", buffer, 1.0, 1_000_000.0, "kB")?;
        }
        within("busy", f64::from(self.busy), 0.0, 64.0, "threads")?;
        if let Some(burst) = self.burst_kb {
            within("burst", burst, 0.1, 1_000_000.0, "kB")?;
        }
        within("pause", self.pause_ms, 1.0, 60_000.0, "ms")?;
        within("flood", self.flood_mbps, 0.0, 2000.0, "Mbit/s")?;
        within(
            "download-first",
            self.download_first_s,
            0.0,
            600.0,
            "seconds",
        )?;
        if let Some(detach) = self.detach {
            within("detach", detach, 0.05, 0.95, "of the time")?;
        }
        within("disturb-seconds", self.disturb_s, 0.0, 60.0, "seconds")?;
        self.check_together()
    }

    fn check_together(&self) -> Result<()> {
        let begun = self.stagger_s * f64::from(self.flows - 1);
        ensure!(
            begun < self.seconds,
            "the last flow would begin after {begun} s, which is the end or later: give a longer \
             --seconds or a shorter --stagger"
        );
        ensure!(
            self.download_first_s == 0.0
                || (self.peers == 0 && self.download_first_s + 1.0 < self.seconds),
            "--download-first goes without --peers, and leaves a second of --seconds to send"
        );
        ensure!(
            self.peers == 0 || (self.flows == 1 && self.stagger_s == 0.0),
            "--peers is a server that sends to them: it goes with neither --flows nor --stagger"
        );
        ensure!(
            self.peers == 0
                || (self.burst_kb.is_none() && self.detach.is_none() && self.rivals == 0),
            "--peers goes with none of --burst, --detach and --rivals"
        );
        ensure!(
            self.disturb.is_none() || Disturbance::recovered(self) + 1.0 < self.seconds,
            "--disturb needs {} s, to see how it goes on: give more --seconds",
            Disturbance::recovered(self) + 1.0
        );
        ensure!(
            self.disturb.is_none() || self.bottleneck == BottleneckAt::Local,
            "--disturb is for a bottleneck at the own device"
        );
        ensure!(
            (self.tree.is_none() && self.next_hop_mbps.is_none())
                || self.bottleneck == BottleneckAt::Local,
            "--tree and --next-hop are for a bottleneck at the own device"
        );
        ensure!(
            self.tree.is_none() || self.step_mbps.is_none(),
            "--tree goes without --step"
        );
        ensure!(
            (self.disturb == Some(Disturbance::MovesOn)) == self.next_hop_mbps.is_some(),
            "--disturb moves-on and --next-hop belong together"
        );
        ensure!(
            self.disturb != Some(Disturbance::Rebind) || !self.one_socket,
            "--disturb rebind goes without --one-socket"
        );
        if self.bottleneck == BottleneckAt::SameHost {
            ensure!(
                self.tcp == 0
                    && self.flood_mbps == 0.0
                    && self.step_mbps.is_none()
                    && self.loss_percent == 0.0
                    && self.jitter_ms == 0.0,
                "--bottleneck same-host has no path: it goes with none of --tcp, --flood, \
                 --step, --loss and --jitter"
            );
        }
        Ok(())
    }
}
