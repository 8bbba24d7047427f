//! One interval of the host's signals, as a few plain numbers.

use std::time::Duration;

use crate::sample::{HostSample, PressurePeaks, PressureSample};

/// What happened on the host in an interval. A signal that the source does not know is zero
/// here; [`SignalSource::host`](crate::SignalSource::host) distinguishes absent from zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CongestionSignals {
    /// Payload bytes that UDP and TCP sockets handed to the kernel.
    pub send_bytes: u64,
    /// IP packets dropped, in either direction and for any reason; segments of a batch counted.
    pub drops: u64,
    /// Average over all sends of the sender's buffer occupancy as a share of its limit, 0.0 to
    /// 1.0; 0.0 when nothing was sent.
    pub avg_wmem_pressure: f64,
    /// The largest such share in the interval, of any sender, 0.0 to 1.0. An interval of over
    /// 0.9 s is looked back on no further than that.
    pub peak_wmem_pressure: f64,
    /// The average over all receives of the receiver's buffer occupancy as a share of its limit,
    /// when the receive had ended, 0.0 to 1.0; 0.0 when nothing was received.
    pub avg_rmem_pressure: f64,
    /// Time in network softirqs, summed over CPUs, nanoseconds; in all softirqs where the source does
    /// not separate the network's (`SocketSource`).
    pub softirq_ns: u64,
    /// That time as a share of the interval: 1.0 is one CPU's whole time.
    pub softirq_share: f64,
    /// Mean time from the raise of a network softirq to the entry of its handler, nanoseconds; 0
    /// when none was raised.
    pub softirq_wait_ns: u64,
    /// What the kernel did that these numbers were counted from: sends, dropped socket buffers
    /// and softirq runs.
    pub event_count: u64,
}

impl CongestionSignals {
    /// What happened between two samples of one source.
    pub fn between(earlier: &HostSample, later: &HostSample) -> Self {
        let sends = |sample: &HostSample| {
            let (udp, tcp) = (
                sample.udp_send.unwrap_or_default(),
                sample.tcp_send.unwrap_or_default(),
            );
            (udp.bytes + tcp.bytes, udp.calls + tcp.calls)
        };
        let drops = |sample: &HostSample| sample.drops.unwrap_or_default().total();
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let softirq = |sample: &HostSample| sample.softirq.unwrap_or_default();
        let softirq_ns = |sample: &HostSample| {
            let softirq = softirq(sample);
            nanos(softirq.net_rx + softirq.net_tx)
        };
        let softirq_wait = softirq(later).mean_wait_since(&softirq(earlier));
        let wall = later.taken.since(earlier.taken);
        let average = |pressure: fn(&HostSample) -> Option<PressureSample>| {
            let (before, after) = (pressure(earlier), pressure(later));
            let average = after
                .unwrap_or_default()
                .average_since(&before.unwrap_or_default());
            average.unwrap_or(0.0).min(1.0)
        };
        let peak_from = earlier
            .taken
            .max(later.taken.before(PressurePeaks::LONGEST));
        let peak = later
            .pressure
            .and_then(|pressure| pressure.peaks.between(peak_from, later.taken));
        let since = |count: fn(&HostSample) -> u64| count(later).saturating_sub(count(earlier));
        let (bytes_before, calls_before) = sends(earlier);
        let (bytes_after, calls_after) = sends(later);
        Self {
            send_bytes: bytes_after.saturating_sub(bytes_before),
            drops: drops(later).packets.saturating_sub(drops(earlier).packets),
            avg_wmem_pressure: average(|sample| sample.pressure),
            peak_wmem_pressure: peak.unwrap_or(0.0).min(1.0),
            avg_rmem_pressure: average(|sample| sample.receive_pressure),
            softirq_ns: softirq_ns(later).saturating_sub(softirq_ns(earlier)),
            softirq_share: softirq(later).share_since(&softirq(earlier), wall),
            softirq_wait_ns: softirq_wait.map_or(0, nanos),
            event_count: calls_after.saturating_sub(calls_before)
                + since(|sample| sample.drops.unwrap_or_default().total().skbs)
                + since(|sample| sample.softirq.unwrap_or_default().runs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::SendCounters;

    fn host(bytes: u64, calls: u64, pressure: f64) -> HostSample {
        HostSample {
            udp_send: Some(SendCounters {
                bytes,
                calls,
                ..SendCounters::default()
            }),
            pressure: Some(PressureSample {
                sum: pressure,
                samples: calls,
                ..PressureSample::default()
            }),
            ..HostSample::default()
        }
    }

    #[test]
    fn an_interval_is_the_difference_of_its_ends() {
        let signals = CongestionSignals::between(&host(1000, 10, 1.0), &host(5000, 14, 3.0));
        assert_eq!((signals.send_bytes, signals.event_count), (4000, 4));
        assert_eq!(signals.avg_wmem_pressure, 0.5);
    }

    #[test]
    fn an_idle_interval_has_no_pressure() {
        let sample = host(1000, 10, 1.0);
        assert_eq!(
            CongestionSignals::between(&sample, &sample),
            CongestionSignals::default()
        );
    }
}
