//! The line that is printed for an interval.

use std::fmt::Display;

use ebpf_congestion_signals::{CongestionSignals, HostSample};

/// What the probes reported of an interval; `None` where they cannot, or where none is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Interval {
    events: Option<u64>,
    send_bytes: Option<u64>,
    drops: Option<u64>,
    wmem: Option<f64>,
    softirq_ns: Option<u64>,
}

impl Interval {
    /// What happened between two samples of one source.
    pub(crate) fn between(earlier: &HostSample, later: &HostSample) -> Self {
        let signals = CongestionSignals::between(earlier, later);
        let any = [signals.send_bytes, signals.drops]
            .iter()
            .any(Option::is_some);
        Self {
            events: (any || later.softirq.is_some()).then_some(signals.event_count),
            send_bytes: signals.send_bytes,
            drops: signals.drops,
            wmem: signals.avg_wmem_pressure,
            softirq_ns: signals.softirq_ns,
        }
    }

    /// The line; so many seconds have passed.
    pub(crate) fn line(&self, seconds: u64) -> String {
        let wmem = self.wmem.map(|share| format!("{:.1}", 100.0 * share));
        format!(
            "[{seconds:>3}s] Events: {:>6} | Send: {:>8} MB | Drops: {:>4} | Wmem: {:>4}% | \
             Softirq: {:>6} µs",
            or_dash(self.events),
            or_dash(self.send_bytes.map(|bytes| (bytes + 500_000) / 1_000_000)),
            or_dash(self.drops),
            or_dash(wmem),
            or_dash(self.softirq_ns.map(|ns| (ns + 500) / 1000)),
        )
    }
}

/// The line below: the overhead so far.
pub(crate) fn overhead_line(median: Option<f64>, target: f64) -> String {
    let median = median.map(|percent| format!("{percent:.2}%"));
    format!(
        "  → CPU overhead: {} (target: <{target:.1}%)",
        or_dash(median)
    )
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use ebpf_congestion_signals::{DropTable, PressureSample, SendCounters, SoftirqSample};

    use super::*;

    #[test]
    fn a_line_has_its_columns() {
        let interval = Interval {
            events: Some(1234),
            send_bytes: Some(45_300_000),
            drops: Some(0),
            wmem: Some(0.321),
            softirq_ns: Some(1_234_499),
        };
        assert_eq!(
            interval.line(1),
            "[  1s] Events:   1234 | Send:       45 MB | Drops:    0 | Wmem: 32.1% | Softirq:   1234 µs"
        );
    }

    #[test]
    fn what_is_absent_is_a_dash_and_never_zero() {
        assert_eq!(
            Interval::default().line(42),
            "[ 42s] Events:      - | Send:        - MB | Drops:    - | Wmem:    -% | Softirq:      - µs"
        );
    }

    #[test]
    fn a_source_with_drops_alone_has_only_drops_and_events() {
        let mut later = HostSample::default();
        later.drops = Some(DropTable::default());
        let interval = Interval::between(&later, &later);
        assert_eq!((interval.drops, interval.events), (Some(0), Some(0)));
        assert_eq!((interval.send_bytes, interval.softirq_ns), (None, None));
        assert_eq!(interval.wmem, None);
    }

    #[test]
    fn occupancy_is_absent_where_nothing_was_sent() {
        let mut idle = HostSample::default();
        idle.udp_send = Some(SendCounters::default());
        idle.softirq = Some(SoftirqSample::default());
        idle.pressure = Some(PressureSample {
            sum: 3.0,
            samples: 10,
            ..PressureSample::default()
        });
        assert_eq!(Interval::between(&idle, &idle).wmem, None);
        let mut busy = idle;
        busy.pressure = Some(PressureSample {
            sum: 4.0,
            samples: 12,
            ..PressureSample::default()
        });
        assert_eq!(Interval::between(&idle, &busy).wmem, Some(0.5));
    }

    #[test]
    fn overhead_is_shown_with_its_target() {
        assert_eq!(
            overhead_line(Some(0.818), 2.0),
            "  → CPU overhead: 0.82% (target: <2.0%)"
        );
        assert_eq!(
            overhead_line(None, 0.5),
            "  → CPU overhead: - (target: <0.5%)"
        );
    }
}
