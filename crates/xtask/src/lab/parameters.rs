//! The parameters of a scenario. A scenario sets them; the command line may override them.

use std::time::Duration;

use examples::args::Base;
use serde::Serialize;

use super::choices::{BottleneckAt, Disturbance, Signals, Tree};

/// The part of the bottleneck's rate that is payload: of a full packet, 1,494 bytes with all
/// headers, quinn fills about 1,425.
pub(super) const PAYLOAD: f64 = 0.95;

/// Least queue and bucket where rates are scaled down.
const LEAST_QUEUE_KB: f64 = 30.0;
const LEAST_BUCKET_KB: f64 = 5.0;

/// Everything that can be set of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Parameters {
    pub(super) base: Base,
    pub(super) source: Signals,
    pub(super) unwatched: bool,
    pub(super) bottleneck: BottleneckAt,
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
            bottleneck: BottleneckAt::Local,
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

impl Parameters {
    /// The same with less of everything that is counted in bits or bytes, so that all takes the
    /// same time. But a bucket and a queue hold a few full packets.
    pub(super) fn scaled(self, factor: f64) -> Self {
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
            && self.bottleneck == BottleneckAt::Local
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
    use super::*;

    #[test]
    fn a_step_lowers_what_can_pass() {
        let with = Parameters {
            seconds: 12.0,
            step_mbps: Some(10.0),
            ..Parameters::default()
        };
        assert_eq!(with.step_times(), (4.0, 8.0));
        assert_eq!(with.capacity(12.0), 50e6 * 8.0 + 10e6 * 4.0);
        assert_eq!(with.capacity(6.0), 50e6 * 4.0 + 10e6 * 2.0);
        assert_eq!(Parameters::default().capacity(2.0), 100e6);
    }
}
