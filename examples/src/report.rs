//! What a sender reports in the end: one JSON object, or the same as text.

use std::fmt;
use std::time::Duration;

use quinn_governor::GovernorReport;
use serde::{Deserialize, Serialize};

use crate::args::{Base, Switch};
use crate::control::Control;
use crate::measure::{RoundTrips, Windows};
use crate::signals::{FlowTotals, Observation, SignalsReport};
use crate::units::{bytes, counted, megabits_per_second, micros, rounded, short_time};
use crate::upload::Measured;

/// A sender's report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SenderReport {
    /// Where signals came from: `ebpf`, `mock` or `none`.
    pub source: String,
    /// The controller that worked alone, or under the governor.
    pub base: Base,
    /// Whether flows were governed: asked for, and there were signals to govern by.
    pub governor: Switch,
    /// For how long was sent.
    pub seconds: f64,
    /// Connections.
    pub flows: usize,
    /// Bytes that the receiver had when it learned that the time was over.
    pub acked_bytes: u64,
    /// These by the time.
    pub goodput_mbps: f64,
    /// QUIC packets sent, retransmissions included.
    pub sent_packets: u64,
    /// Packets that loss recovery gave up.
    pub lost_packets: u64,
    /// Their bytes.
    pub lost_bytes: u64,
    /// Congestion events as quinn counts them.
    pub congestion_events: u64,
    /// Round trips, in microseconds.
    pub rtt_us: RoundTrips,
    /// Congestion windows, in bytes.
    pub cwnd: Windows,
    /// Goodput of each flow, in the order in which they connected.
    pub per_flow_goodput_mbps: Vec<f64>,
    /// How long bursts took to be acknowledged; null for a sender that sent all the time.
    pub bursts_us: Option<BurstTimes>,
    /// What the source reported.
    pub signals: SignalsReport,
    /// What the governor did.
    pub governor_actions: GovernorActions,
    /// Times that it found the signals untrue and let the base decide alone.
    pub stale_periods: u64,
}

/// Times from the beginning of a burst until all of it was acknowledged, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BurstTimes {
    /// Bursts that were acknowledged within the time.
    pub count: usize,
    /// The median.
    pub p50: u64,
    /// The longest.
    pub max: u64,
}

impl BurstTimes {
    /// Of all bursts; `None` when there was none.
    fn of(bursts: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut times: Vec<u64> = bursts.into_iter().map(micros).collect();
        times.sort_unstable();
        Some(Self {
            count: times.len(),
            p50: *times.get(times.len() / 2)?,
            max: *times.last()?,
        })
    }
}

/// What the governor did, all flows together; all zero without one.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct GovernorActions {
    /// Reductions because this host's queue had dropped a packet.
    pub local_drop_reductions: u64,
    /// Slow starts ended because this host's queue had filled.
    pub slow_start_exits: u64,
    /// Time that the window was held under the base controller's.
    pub capped_ms: u64,
}

impl From<GovernorReport> for GovernorActions {
    fn from(report: GovernorReport) -> Self {
        Self {
            local_drop_reductions: report.local_drop_reductions,
            slow_start_exits: report.slow_start_exits,
            capped_ms: micros(report.capped) / 1000,
        }
    }
}

impl SenderReport {
    /// The report of a measurement. `others` are watched flows beside the senders' own: those of
    /// a receiver in the same process.
    pub fn new(
        measured: &Measured,
        control: &Control,
        observation: Option<&Observation>,
        others: &[FlowTotals],
    ) -> Self {
        let flows = &measured.flows;
        let time = flows.iter().map(|flow| flow.sent_for).max();
        let time = time.unwrap_or(Duration::ZERO);
        let acked_bytes = flows.iter().map(|flow| flow.delivered).sum();
        let sum = |count: fn(&quinn::PathStats) -> u64| {
            flows.iter().map(|flow| count(&flow.stats.path)).sum()
        };
        let goodputs = flows
            .iter()
            .map(|flow| rounded(megabits_per_second(flow.delivered, flow.sent_for)));
        let signals = observation.map(|observation| {
            let mut totals = sender_totals(measured, observation);
            totals.extend(others.iter().cloned().map(FlowTotals::drops_only));
            observation.report(&totals)
        });
        Self {
            source: control.source().name().to_owned(),
            base: control.base(),
            governor: control.governor(),
            seconds: rounded(time.as_secs_f64()),
            flows: flows.len(),
            acked_bytes,
            goodput_mbps: rounded(megabits_per_second(acked_bytes, time)),
            sent_packets: sum(|path| path.sent_packets),
            lost_packets: sum(|path| path.lost_packets),
            lost_bytes: sum(|path| path.lost_bytes),
            congestion_events: sum(|path| path.congestion_events),
            rtt_us: measured.distributions.round_trips(),
            cwnd: measured.distributions.windows(),
            per_flow_goodput_mbps: goodputs.collect(),
            bursts_us: BurstTimes::of(flows.iter().flat_map(|flow| flow.bursts.iter().copied())),
            signals: signals.unwrap_or_default(),
            governor_actions: control.report().into(),
            stale_periods: control.report().stale_periods,
        }
    }
}

/// What the source reported of each sending flow.
pub fn sender_totals(measured: &Measured, observation: &Observation) -> Vec<FlowTotals> {
    let watches = measured.flows.iter().zip(1..);
    watches
        .filter_map(|(flow, number)| {
            let watch = flow.watch.as_ref()?;
            Some(observation.flow(format!("sender {number}"), watch))
        })
        .collect()
}

impl fmt::Display for SenderReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let governed = match self.governor {
            Switch::On => "governed",
            Switch::Off => "not governed",
        };
        let base = format!("{:?}", self.base);
        let mut line = |name: &str, what: String| writeln!(f, "  {name:<11} {what}");
        line(
            "control",
            format!("{base}, {governed}, signals: {}", self.source),
        )?;
        line(
            "delivered",
            format!(
                "{} in {:.2} s: {:.1} Mbit/s",
                bytes(self.acked_bytes),
                self.seconds,
                self.goodput_mbps
            ),
        )?;
        if self.flows > 1 {
            let goodputs = self.per_flow_goodput_mbps.iter();
            let goodputs: Vec<_> = goodputs.map(|rate| format!("{rate:.1}")).collect();
            line("by flow", format!("{} Mbit/s", goodputs.join(", ")))?;
        }
        line(
            "packets",
            format!(
                "{} sent, {} lost, {}",
                self.sent_packets,
                self.lost_packets,
                counted(self.congestion_events, "congestion event")
            ),
        )?;
        if let Some(bursts) = self.bursts_us {
            let times = [bursts.p50, bursts.max].map(short_time);
            let [p50, max] = times;
            line("bursts", format!("{}, p50 {p50}, max {max}", bursts.count))?;
        }
        let trips = self.rtt_us;
        line(
            "round trip",
            format!(
                "{}p50 {}, p99 {}",
                // See `RoundTrips`: 0 is none.
                match trips.min {
                    0 => String::new(),
                    least => format!("min {}, ", short_time(least)),
                },
                short_time(trips.p50),
                short_time(trips.p99)
            ),
        )?;
        line(
            "window",
            format!("p50 {}, max {}", bytes(self.cwnd.p50), bytes(self.cwnd.max)),
        )?;
        let actions = self.governor_actions;
        if self.governor == Switch::On {
            line(
                "governor",
                format!(
                    "{} for local drops, {} ended, window capped for {} ms, signals stale {}",
                    counted(actions.local_drop_reductions, "reduction"),
                    counted(actions.slow_start_exits, "slow start"),
                    actions.capped_ms,
                    counted(self.stale_periods, "time")
                ),
            )?;
        }
        if let (Some(drops), Some(events), Some(lost)) = (
            self.signals.drop_packets,
            self.signals.events,
            self.signals.events_lost,
        ) {
            line(
                "signals",
                format!(
                    "{} of these flows dropped here; {} of the host, {lost} more not recorded",
                    counted(drops, "packet"),
                    counted(events, "event")
                ),
            )?;
        }
        Ok(())
    }
}

/// Prints a report as one line of JSON, the last of a program's output.
pub fn print_json(report: &impl Serialize) -> anyhow::Result<()> {
    crate::say!("{}", serde_json::to_string(report)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_have_a_median_and_a_maximum() {
        let times = [30, 10, 20].map(Duration::from_millis);
        let told = BurstTimes::of(times);
        let expected = BurstTimes {
            count: 3,
            p50: 20_000,
            max: 30_000,
        };
        assert_eq!(told, Some(expected));
        assert_eq!(BurstTimes::of([]), None);
    }
}
