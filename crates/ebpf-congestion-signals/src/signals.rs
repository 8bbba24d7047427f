//! One interval of the host's signals, as a few plain numbers.

use std::time::Duration;

use crate::sample::{HostSample, PressurePeaks, PressureSample, SendCounters, SoftirqSample};

/// What happened on the host in an interval. `None`: the source does not know it, or there was
/// nothing to average.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CongestionSignals {
    /// Payload bytes that UDP and TCP sockets handed to the kernel.
    pub send_bytes: Option<u64>,
    /// IP packets dropped, in either direction and for any reason; segments of a batch counted.
    pub drops: Option<u64>,
    /// Send buffer occupancy as a share of its limit, 0.0 to 1.0; average over all sends.
    pub avg_wmem_pressure: Option<f64>,
    /// The largest such share of any sender in the interval, 0.0 to 1.0; in the last 0.9 s of a
    /// longer interval.
    pub peak_wmem_pressure: Option<f64>,
    /// Receive buffer occupancy as a share of its limit, 0.0 to 1.0, at the end of a receive;
    /// average over all receives.
    pub avg_rmem_pressure: Option<f64>,
    /// Time in network softirqs, summed over CPUs, nanoseconds; in all softirqs where the source
    /// does not distinguish them (`SocketSource`). Also `None` if devices were polled outside of
    /// softirqs ([`SoftirqSample::polls_elsewhere`]).
    pub softirq_ns: Option<u64>,
    /// That time as a share of the interval: 1.0 is one CPU's whole time.
    pub softirq_share: Option<f64>,
    /// Mean time from the raise of a network softirq to the entry of its handler, nanoseconds.
    pub softirq_wait_ns: Option<u64>,
    /// Number of kernel events that these figures were counted from: sends, dropped skbs and
    /// softirq runs, as far as they are known.
    pub event_count: u64,
}

impl CongestionSignals {
    /// The difference between two samples of the same source.
    pub fn between(earlier: &HostSample, later: &HostSample) -> Self {
        // By how much a counter grew that both know.
        let since = |count: fn(&HostSample) -> Option<u64>| {
            Some(count(later)?.saturating_sub(count(earlier)?))
        };
        let average = |pressure: fn(&HostSample) -> Option<PressureSample>| {
            let average = pressure(later)?.average_since(&pressure(earlier)?);
            average.map(|share| share.min(1.0))
        };
        let peak_from = earlier
            .taken
            .max(later.taken.before(PressurePeaks::LONGEST));
        let peak = later
            .pressure
            .and_then(|pressure| pressure.peaks.between(peak_from, later.taken));
        let softirq = earlier.softirq.zip(later.softirq);
        let is_all = |(earlier, later): &(SoftirqSample, SoftirqSample)| {
            earlier.polls_elsewhere == later.polls_elsewhere
        };
        let time = softirq.filter(is_all);
        let wall = later.taken.since(earlier.taken);
        let events = [
            since(|sample| Some(sends(sample)?.calls)),
            since(|sample| Some(sample.drops?.total().skbs)),
            since(|sample| Some(sample.softirq?.runs)),
        ];
        Self {
            send_bytes: since(|sample| Some(sends(sample)?.bytes)),
            drops: since(|sample| Some(sample.drops?.total().packets)),
            avg_wmem_pressure: average(|sample| sample.pressure),
            peak_wmem_pressure: peak.map(|share| share.min(1.0)),
            avg_rmem_pressure: average(|sample| sample.receive_pressure),
            softirq_ns: time.map(|(earlier, later)| nanos(later.time_since(&earlier))),
            softirq_share: time.map(|(earlier, later)| later.share_since(&earlier, wall)),
            softirq_wait_ns: softirq
                .and_then(|(earlier, later)| later.mean_wait_since(&earlier))
                .map(nanos),
            event_count: events.into_iter().flatten().sum(),
        }
    }
}

/// Of UDP and TCP together; `None` where neither is known.
fn sends(sample: &HostSample) -> Option<SendCounters> {
    let known = [sample.udp_send, sample.tcp_send];
    let mut known = known.into_iter().flatten();
    let first = known.next()?;
    Some(known.fold(first, |sum, one| SendCounters {
        bytes: sum.bytes + one.bytes,
        calls: sum.calls + one.calls,
        estimated: sum.estimated + one.estimated,
    }))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!((signals.send_bytes, signals.event_count), (Some(4000), 4));
        assert_eq!(signals.avg_wmem_pressure, Some(0.5));
        assert_eq!((signals.drops, signals.softirq_ns), (None, None));
    }

    #[test]
    fn time_in_softirqs_is_absent_where_devices_were_polled_elsewhere() {
        let sample = |millis, polls_elsewhere| HostSample {
            softirq: Some(SoftirqSample {
                net_rx: Duration::from_millis(millis),
                polls_elsewhere,
                ..SoftirqSample::default()
            }),
            ..HostSample::default()
        };
        let time = |later| CongestionSignals::between(&sample(1, 7), &later).softirq_ns;
        assert_eq!(time(sample(3, 7)), Some(2_000_000));
        assert_eq!(time(sample(3, 8)), None);
    }

    #[test]
    fn an_idle_interval_has_no_pressure() {
        let sample = host(1000, 10, 1.0);
        let idle = CongestionSignals::between(&sample, &sample);
        assert_eq!((idle.send_bytes, idle.avg_wmem_pressure), (Some(0), None));
    }
}
