//! A scenario's parameters as the command line sets them.

use anyhow::{Result, ensure};
use clap::Args;

use super::choices::{BottleneckAt, Disturbance, Tree};
use super::parameters::Parameters;

/// Parameters set on the command line; for others the scenario's own hold.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Parameters (default: the scenario's own)")]
pub(super) struct Overrides {
    /// Rate of the bottleneck in Mbit/s, headers included.
    #[arg(long, value_name = "MBITS", allow_negative_numbers = true)]
    rate: Option<f64>,
    /// Queue of the bottleneck, in kB.
    #[arg(long, value_name = "KB", allow_negative_numbers = true)]
    queue: Option<f64>,
    /// Burst of the bottleneck's token bucket, in kB.
    #[arg(long, value_name = "KB", allow_negative_numbers = true)]
    bucket: Option<f64>,
    /// Shape with htb and a queue in its class, instead of a token bucket alone.
    #[arg(long, value_enum)]
    tree: Option<Tree>,
    /// Rate of a second token bucket one hop on, in Mbit/s.
    #[arg(long, value_name = "MBITS")]
    next_hop: Option<f64>,
    /// Its queue, in kB.
    #[arg(long, value_name = "KB")]
    next_hop_queue: Option<f64>,
    /// Where the bottleneck is.
    #[arg(long, value_enum)]
    bottleneck: Option<BottleneckAt>,
    /// Round trip of the idle path, in ms.
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    delay: Option<f64>,
    /// Delay packets by the kernel's netem instead of a relay in user space, if the path does
    /// nothing else to them.
    #[arg(long)]
    netem: bool,
    /// Multiply the scenario's rates, queues and bursts by this, for a slow machine.
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
    /// Number of stock runs, and of governed runs, in turn.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    rounds: Option<u32>,
    /// Measured flows, each with its own socket.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    flows: Option<u16>,
    /// Delay of each flow's start after the one before.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stagger: Option<f64>,
    /// Let the server send, from one socket to this many peers; 0: the client sends.
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
    /// Drops by a packet filter of the sender's host, in percent.
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    policy: Option<f64>,
    /// Receive buffer of the receiver's socket, in kB.
    #[arg(long, value_name = "KB", allow_negative_numbers = true)]
    receive_buffer: Option<f64>,
    /// Threads that keep processors busy during the run.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    busy: Option<u16>,
    /// Send bursts of this many kB instead of continuously.
    #[arg(long, value_name = "KB", allow_negative_numbers = true)]
    burst: Option<f64>,
    /// Pause between bursts, in ms.
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    pause: Option<f64>,
    /// UDP that another program sends through the same queue at a constant rate, in Mbit/s; until
    /// half a second before the end, or before the end of --download-first.
    #[arg(long, value_name = "MBITS", allow_negative_numbers = true)]
    flood: Option<f64>,
    /// Download for this time before sending.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    download_first: Option<f64>,
    /// Detach the probes after this share of the time, 0 to 1.
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    detach: Option<f64>,
    /// Make all flows, or all peers, from one socket.
    #[arg(long)]
    one_socket: bool,
    /// Handshakes that clients begin and abandon before the other connections.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    half_open: Option<u16>,
    /// Connections that each client makes and closes before the measured one.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    reconnects: Option<u16>,
    /// What happens at a third of the time.
    #[arg(long, value_enum, value_name = "WHAT")]
    disturb: Option<Disturbance>,
    /// How long it lasts.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    disturb_seconds: Option<f64>,
}

impl Overrides {
    /// A scenario's parameters with those of the command line.
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
            bottleneck: BottleneckAt::Remote,
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
}
