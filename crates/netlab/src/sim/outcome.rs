//! What came of it.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::app::Completion;
use super::link::LinkStats;
use super::observe::Step;
use super::tcp::TcpStats;
use super::trace::Trace;

/// What came of a scenario.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// How long it was simulated.
    pub duration: Duration,
    /// QUIC flows, in the order of the scenario.
    pub flows: Vec<FlowOutcome>,
    /// TCP-like flows, in the order of the scenario.
    pub competitors: Vec<TcpOutcome>,
    /// The queue of the sender's host, then the hops.
    pub links: Vec<LinkStats>,
    /// What happened over time.
    pub trace: Trace,
    /// Events processed, as a measure of the work.
    pub events: u64,
}

/// What a QUIC flow did.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FlowOutcome {
    /// When it started.
    pub start: Duration,
    /// Bytes of streams that arrived, each once.
    pub received_bytes: u64,
    /// The same in bits per second, from its start to the end.
    pub goodput: f64,
    /// Datagrams that the sender sent.
    pub sent_packets: u64,
    /// Datagrams that it found lost.
    pub lost_packets: u64,
    /// Datagrams that the queue of its own host dropped.
    pub local_drops: u64,
    /// Datagrams that queues behind it dropped.
    pub remote_drops: u64,
    /// Datagrams lost between queues.
    pub path_losses: u64,
    /// Datagrams that a rule of the host dropped.
    pub policy_drops: u64,
    /// Datagrams that the kernel did not take.
    pub refused: u64,
    /// Datagrams that found no room in the receiving socket.
    pub receive_drops: u64,
    /// Round trips as the sender measured them, one for each acknowledgement.
    pub rtt: Latencies,
    /// Congestion events that the connection reported to the controller.
    pub congestion_events: u64,
    /// Times that the socket took no more.
    pub blocked_sends: u64,
    /// The largest window, bytes.
    pub peak_window: u64,
    /// The window at the end, bytes.
    pub last_window: u64,
    /// The largest window of the base controller, where one was
    /// [observed](super::ProcessContext::observed_base).
    pub base_peak_window: Option<u64>,
    /// The base controller's window at the end.
    pub base_last_window: Option<u64>,
    /// Congestion events that the base controller got.
    pub base_congestion_events: Option<u64>,
    /// Bursts and transfers that arrived whole.
    pub completions: Vec<Completion>,
    /// A digest of every call of the controller and every window it gave: equal for flows that
    /// took the same course, step by step.
    pub digest: u64,
    /// Every window, if [asked for](super::Scenario::record_steps).
    pub steps: Vec<Step>,
    /// Why the connection ended before its time.
    pub error: Option<String>,
}

/// What a TCP-like flow did.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct TcpOutcome {
    /// When it started.
    pub start: Duration,
    /// Payload that arrived, in bits per second, from its start to the end.
    pub goodput: f64,
    /// Counters.
    pub stats: TcpStats,
}

/// Quantiles of measured times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latencies {
    /// The least.
    pub min: Duration,
    /// Half are below.
    pub p50: Duration,
    /// Nine of ten are below.
    pub p90: Duration,
    /// 99 of a hundred are below.
    pub p99: Duration,
    /// The greatest.
    pub max: Duration,
    /// How many were measured.
    pub samples: u64,
}

impl Latencies {
    /// Of a histogram of microseconds.
    pub(super) fn of(micros: &Histogram<u64>) -> Self {
        if micros.is_empty() {
            return Self::default();
        }
        let at = |quantile| Duration::from_micros(micros.value_at_quantile(quantile));
        Self {
            min: Duration::from_micros(micros.min()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: Duration::from_micros(micros.max()),
            samples: micros.len(),
        }
    }
}

impl Outcome {
    /// Bits per second that all flows received together.
    pub fn total_goodput(&self) -> f64 {
        let quic = self.flows.iter().map(|flow| flow.goodput);
        let tcp = self.competitors.iter().map(|flow| flow.goodput);
        quic.chain(tcp).sum()
    }

    /// Datagrams of QUIC flows that were found lost.
    pub fn lost_packets(&self) -> u64 {
        self.flows.iter().map(|flow| flow.lost_packets).sum()
    }

    /// Jain's index of fairness between the QUIC flows: 1 when all received the same.
    pub fn fairness(&self) -> f64 {
        let goodputs: Vec<f64> = self.flows.iter().map(|flow| flow.goodput).collect();
        fairness(&goodputs)
    }
}

/// Jain's index of fairness: 1 when all are the same, one in their number when one has it all.
pub fn fairness(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    if squares > 0.0 {
        sum * sum / (shares.len() as f64 * squares)
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fairness_is_one_for_equal_shares() {
        assert_eq!(fairness(&[2.0, 2.0, 2.0]), 1.0);
        assert_eq!(fairness(&[4.0, 0.0, 0.0, 0.0]), 0.25);
    }
}
