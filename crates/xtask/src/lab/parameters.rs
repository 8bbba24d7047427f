//! What a scenario is made of. A scenario sets these, and the command line may set them again.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use examples::args::Base;
use serde::Serialize;

use super::disturb::Disturbance;
use super::tree::Tree;

/// Where the bottleneck is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    /// On the sender's own device
    Local,
    /// One hop on; the sender's own queue is empty
    Remote,
    /// Nowhere: sender and receiver are on the same host, and talk over its loopback
    SameHost,
}

/// Where governed flows have their signals from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Signals {
    /// The best of the others that works here
    Auto,
    /// Probes in the kernel
    Ebpf,
    /// What a program may know of its own socket
    Socket,
    /// Invented: a drop at the local queue every second
    Mock,
    /// No signals: the base controller alone
    None,
}

impl Signals {
    /// As the examples name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ebpf => "ebpf",
            Self::Socket => "socket",
            Self::Mock => "mock",
            Self::None => "none",
        }
    }

    /// Whether the examples' report that names `source` is of this choice.
    pub(super) fn is(self, source: &str) -> bool {
        self == Self::Auto || self.name() == source
    }
}

/// What a queue and a bucket hold at the least where rates are scaled down.
const LEAST_QUEUE_KB: f64 = 30.0;
const LEAST_BUCKET_KB: f64 = 5.0;

/// Everything that can be set of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Parameters {
    pub(super) base: Base,
    pub(super) source: Signals,
    pub(super) unwatched: bool,
    pub(super) bottleneck: Place,
    pub(super) rate_mbps: f64,
    pub(super) queue_kb: f64,
    pub(super) bucket_kb: f64,
    pub(super) tree: Option<Tree>,
    pub(super) next_hop_mbps: Option<f64>,
    pub(super) next_hop_kb: f64,
    pub(super) delay_ms: f64,
    pub(super) netem: bool,
    pub(super) jitter_ms: f64,
    pub(super) loss_percent: f64,
    pub(super) seconds: f64,
    pub(super) rounds: u32,
    pub(super) flows: u16,
    pub(super) stagger_s: f64,
    pub(super) peers: u16,
    pub(super) tcp: u8,
    pub(super) rivals: u16,
    pub(super) step_mbps: Option<f64>,
    pub(super) policy_percent: f64,
    pub(super) receive_buffer_kb: Option<f64>,
    pub(super) busy: u16,
    pub(super) burst_kb: Option<f64>,
    pub(super) pause_ms: f64,
    pub(super) flood_mbps: f64,
    pub(super) download_first_s: f64,
    pub(super) detach: Option<f64>,
    pub(super) one_socket: bool,
    pub(super) half_open: u16,
    pub(super) reconnects: u16,
    pub(super) disturb: Option<Disturbance>,
    pub(super) disturb_s: f64,
}

impl Default for Parameters {
    /// One flow of base Cubic for 8 s; 50 Mbit/s at the own device, 150 kB of queue, 20 ms there
    /// and back.
    fn default() -> Self {
        Self {
            base: Base::Cubic,
            source: Signals::Ebpf,
            unwatched: false,
            bottleneck: Place::Local,
            rate_mbps: 50.0,
            queue_kb: 150.0,
            bucket_kb: 20.0,
            tree: None,
            next_hop_mbps: None,
            next_hop_kb: 200.0,
            delay_ms: 20.0,
            netem: false,
            jitter_ms: 0.0,
            loss_percent: 0.0,
            seconds: 8.0,
            rounds: 3,
            flows: 1,
            stagger_s: 0.0,
            peers: 0,
            tcp: 0,
            rivals: 0,
            step_mbps: None,
            policy_percent: 0.0,
            receive_buffer_kb: None,
            busy: 0,
            burst_kb: None,
            pause_ms: 200.0,
            flood_mbps: 0.0,
            download_first_s: 0.0,
            detach: None,
            one_socket: false,
            half_open: 0,
            reconnects: 0,
            disturb: None,
            disturb_s: 0.0,
        }
    }
}

/// Parameters that are set on the command line; the scenario's own where they are not.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Parameters (default: the scenario's own)")]
pub(super) struct Overrides {
    /// Rate of the bottleneck in Mbit/s, headers included.
    #[arg(long, value_name = "MBITS", allow_negative_numbers = true)]
    rate: Option<f64>,
    /// What may wait at the bottleneck, in kB.
    #[arg(long, value_name = "KB", allow_negative_numbers = true)]
    queue: Option<f64>,
    /// What may leave the bottleneck at once after idleness, in kB.
    #[arg(long, value_name = "KB", allow_negative_numbers = true)]
    bucket: Option<f64>,
    /// Shape with htb and a queue in its class, instead of a token bucket alone.
    #[arg(long, value_enum)]
    tree: Option<Tree>,
    /// Rate of a second token bucket one hop on, in Mbit/s.
    #[arg(long, value_name = "MBITS")]
    next_hop: Option<f64>,
    /// What may wait there, in kB.
    #[arg(long, value_name = "KB")]
    next_hop_queue: Option<f64>,
    /// Where the bottleneck is.
    #[arg(long, value_enum)]
    bottleneck: Option<Place>,
    /// Round trip of the path when nothing waits, in ms.
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    delay: Option<f64>,
    /// Let the kernel's netem delay packets instead of a relay in user space, where the path does
    /// nothing else to them.
    #[arg(long)]
    netem: bool,
    /// Multiply the scenario's rates, queues and bursts by this, for a machine that is slow.
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    scale: Option<f64>,
    /// Random delay on top, in ms, half of it each way; order is kept.
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    jitter: Option<f64>,
    /// Random loss on the way to the receiver, in percent.
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    loss: Option<f64>,
    /// How long each run sends.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    seconds: Option<f64>,
    /// Runs of stock, and as many governed, in turn.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    rounds: Option<u32>,
    /// Flows that are measured, each with a socket of its own.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    flows: Option<u16>,
    /// How much later each flow begins than the one before.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stagger: Option<f64>,
    /// Let the server send, from its one socket to so many peers; 0: let the client send.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    peers: Option<u16>,
    /// TCP Cubic flows on the same queue (iperf3).
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    tcp: Option<u8>,
    /// Stock QUIC flows on the same queue.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    rivals: Option<u16>,
    /// Rate in the middle third of the time, in Mbit/s.
    #[arg(long, value_name = "MBITS", allow_negative_numbers = true)]
    step: Option<f64>,
    /// What a packet filter of the sender's host drops, in percent.
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    policy: Option<f64>,
    /// Receive buffer of the receiver's socket, in kB.
    #[arg(long, value_name = "KB", allow_negative_numbers = true)]
    receive_buffer: Option<f64>,
    /// Threads that keep processors busy meanwhile.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    busy: Option<u16>,
    /// Send bursts of so many kB instead of all the time.
    #[arg(long, value_name = "KB", allow_negative_numbers = true)]
    burst: Option<f64>,
    /// Pause between bursts, in ms.
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    pause: Option<f64>,
    /// UDP that another program sends by the same queue, in Mbit/s, whatever is lost; until half a
    /// second before the end, or before what --download-first says.
    #[arg(long, value_name = "MBITS", allow_negative_numbers = true)]
    flood: Option<f64>,
    /// Download for this time before sending.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    download_first: Option<f64>,
    /// Take the probes away after this share of the time, 0 to 1.
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    detach: Option<f64>,
    /// Make all flows, or all peers, from one socket.
    #[arg(long)]
    one_socket: bool,
    /// Connections that clients begin and forget before the others.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    half_open: Option<u16>,
    /// Connections that each client makes and closes before its own.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    reconnects: Option<u16>,
    /// What happens at a third of the time.
    #[arg(long, value_enum, value_name = "WHAT")]
    disturb: Option<Disturbance>,
    /// For how long it lasts.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    disturb_seconds: Option<f64>,
}

impl Overrides {
    /// A scenario's parameters with what was set on the command line.
    pub(super) fn apply(&self, own: Parameters) -> Result<Parameters> {
        let scale = self.scale.unwrap_or(1.0);
        ensure!(
            scale > 0.0 && scale <= 1.0,
            "--scale {scale}: give more than 0 and at most 1"
        );
        let own = own.scaled(scale);
        let with = Parameters {
            base: own.base,
            source: own.source,
            unwatched: own.unwatched,
            bottleneck: self.bottleneck.unwrap_or(own.bottleneck),
            rate_mbps: self.rate.unwrap_or(own.rate_mbps),
            queue_kb: self.queue.unwrap_or(own.queue_kb),
            bucket_kb: self.bucket.unwrap_or(own.bucket_kb),
            tree: self.tree.or(own.tree),
            next_hop_mbps: self.next_hop.or(own.next_hop_mbps),
            next_hop_kb: self.next_hop_queue.unwrap_or(own.next_hop_kb),
            delay_ms: self.delay.unwrap_or(own.delay_ms),
            netem: self.netem || own.netem,
            jitter_ms: self.jitter.unwrap_or(own.jitter_ms),
            loss_percent: self.loss.unwrap_or(own.loss_percent),
            seconds: self.seconds.unwrap_or(own.seconds),
            rounds: self.rounds.unwrap_or(own.rounds),
            flows: self.flows.unwrap_or(own.flows),
            stagger_s: self.stagger.unwrap_or(own.stagger_s),
            peers: self.peers.unwrap_or(own.peers),
            tcp: self.tcp.unwrap_or(own.tcp),
            rivals: self.rivals.unwrap_or(own.rivals),
            step_mbps: self.step.or(own.step_mbps),
            policy_percent: self.policy.unwrap_or(own.policy_percent),
            receive_buffer_kb: self.receive_buffer.or(own.receive_buffer_kb),
            busy: self.busy.unwrap_or(own.busy),
            burst_kb: self.burst.or(own.burst_kb),
            pause_ms: self.pause.unwrap_or(own.pause_ms),
            flood_mbps: self.flood.unwrap_or(own.flood_mbps),
            download_first_s: self.download_first.unwrap_or(own.download_first_s),
            detach: self.detach.or(own.detach),
            one_socket: self.one_socket || own.one_socket,
            half_open: self.half_open.unwrap_or(own.half_open),
            reconnects: self.reconnects.unwrap_or(own.reconnects),
            disturb: self.disturb.or(own.disturb),
            disturb_s: self.disturb_seconds.unwrap_or(own.disturb_s),
        };
        with.check()?;
        Ok(with)
    }
}

impl Parameters {
    /// Whether they are possible, each and together; else what to change.
    fn check(&self) -> Result<()> {
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
            self.disturb.is_none() || self.bottleneck == Place::Local,
            "--disturb is for a bottleneck at the own device"
        );
        ensure!(
            (self.tree.is_none() && self.next_hop_mbps.is_none())
                || self.bottleneck == Place::Local,
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
        if self.bottleneck == Place::SameHost {
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

    /// The same with less of everything that is counted in bits or bytes, so that all takes the same
    /// time. But a bucket and a queue hold a few full packets.
    fn scaled(self, factor: f64) -> Self {
        let scaled = |value: Option<f64>| value.map(|value| value * factor);
        Self {
            rate_mbps: self.rate_mbps * factor,
            queue_kb: (self.queue_kb * factor).max(self.queue_kb.min(LEAST_QUEUE_KB)),
            bucket_kb: (self.bucket_kb * factor).max(self.bucket_kb.min(LEAST_BUCKET_KB)),
            next_hop_mbps: scaled(self.next_hop_mbps),
            next_hop_kb: (self.next_hop_kb * factor).max(LEAST_QUEUE_KB),
            step_mbps: scaled(self.step_mbps),
            burst_kb: scaled(self.burst_kb),
            flood_mbps: self.flood_mbps * factor,
            ..self
        }
    }

    /// Whether all flows send all the time.
    pub(super) fn is_steady(&self) -> bool {
        self.burst_kb.is_none() && self.stagger_s == 0.0 && self.step_mbps.is_none()
    }

    /// Whether netem delays, and there is no relay.
    pub(super) fn by_netem(&self) -> bool {
        self.netem
            && self.bottleneck == Place::Local
            && self.next_hop_mbps.is_none()
            && self.jitter_ms == 0.0
            && self.loss_percent == 0.0
    }

    pub(super) fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// When the rate falls, and when it rises again; seconds.
    pub(super) fn step_times(&self) -> (f64, f64) {
        (self.seconds / 3.0, self.seconds * 2.0 / 3.0)
    }

    /// Payload and headers that the bottleneck lets pass within a run of so many seconds; bits.
    pub(super) fn capacity(&self, seconds: f64) -> f64 {
        let (fall, rise) = self.step_times();
        let low = (seconds.min(rise) - fall).max(0.0);
        let step = self.step_mbps.unwrap_or(self.rate_mbps);
        (self.rate_mbps * (seconds - low) + step * low) * 1e6
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        overrides: Overrides,
    }

    fn parse(line: &str) -> Result<Parameters> {
        let words = std::iter::once("lab").chain(line.split_whitespace());
        let line = Line::try_parse_from(words)?;
        line.overrides.apply(Parameters::default())
    }

    #[test]
    fn what_is_not_set_stays_the_scenarios_own() {
        assert_eq!(parse("").unwrap(), Parameters::default());
        let set = parse("--rate 300 --queue 300 --delay 10 --tcp 3 --bottleneck remote").unwrap();
        let expected = Parameters {
            rate_mbps: 300.0,
            queue_kb: 300.0,
            delay_ms: 10.0,
            tcp: 3,
            bottleneck: Place::Remote,
            ..Parameters::default()
        };
        assert_eq!(set, expected);
    }

    #[test]
    fn nonsense_is_named_with_what_would_be_right() {
        for (line, advice) in [
            ("--rate 0", "--rate 0: give 0.5 to 2000 Mbit/s"),
            ("--rate NaN", "--rate NaN"),
            ("--queue 1", "--queue 1: give 2 to"),
            ("--delay=-1", "--delay -1"),
            ("--loss 51", "0 to 50 percent"),
            ("--seconds 0.5", "1 to 600 seconds"),
            ("--rounds 0", "1 to 99 rounds"),
            ("--flows 65", "1 to 64 flows"),
            ("--flows x", "--flows <N>"),
            ("--detach 1", "0.05 to 0.95"),
            (
                "--flows 9 --stagger 1",
                "the last flow would begin after 8 s",
            ),
            ("--peers 5 --flows 2", "neither --flows nor"),
            ("--bottleneck same-host --tcp 1", "none of --tcp"),
            ("--bottleneck far", "local, remote, same-host"),
        ] {
            let error = format!("{:#}", parse(line).unwrap_err());
            assert!(error.contains(advice), "{line}: {error}");
        }
    }

    #[test]
    fn a_step_lowers_what_can_pass() {
        let with = parse("--seconds 12 --step 10").unwrap();
        assert_eq!(with.step_times(), (4.0, 8.0));
        assert_eq!(with.capacity(12.0), 50e6 * 8.0 + 10e6 * 4.0);
        assert_eq!(with.capacity(6.0), 50e6 * 4.0 + 10e6 * 2.0);
        assert_eq!(Parameters::default().capacity(2.0), 100e6);
    }
}
