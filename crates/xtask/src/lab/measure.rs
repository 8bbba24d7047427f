//! From what came of a run to its figures.

use netlab::sim::fairness;
use netlab::{QdiscStats, TcpReport};

use super::choices::{BottleneckAt, Disturbance};
use super::figures::{Figure, Figures, Side, Summary};
use super::parameters::{PAYLOAD, Parameters};
use super::run::Outcome;

/// The figures of a run; those that mean something in its scenario.
pub(super) fn figures(
    outcome: &Outcome,
    parameters: &Parameters,
    side: Side,
    idle_ms: f64,
) -> Figures {
    let report = &outcome.report;
    let over_time = &outcome.over_time;
    let mut figures = Figures::from([
        (Figure::GoodputMbps, report.goodput_mbps),
        (Figure::LostPackets, count(report.lost_packets)),
        (Figure::RttP50Ms, count(report.rtt_us.p50) / 1e3),
        (Figure::RttP99Ms, count(report.rtt_us.p99) / 1e3),
        (Figure::WindowP50Kb, count(report.cwnd.p50) / 1e3),
        (Figure::WindowMaxKb, count(report.cwnd.max) / 1e3),
    ]);
    let mut add = |figure, value| figures.insert(figure, value);
    if side.is_governed() {
        let actions = report.governor_actions;
        add(
            Figure::LocalReductions,
            count(actions.local_drop_reductions),
        );
        add(Figure::CappedSeconds, count(actions.capped_ms) / 1e3);
    }
    if let Some(queue) = &outcome.queue {
        let bits = count(queue.sent_bytes) * 8.0;
        let share = bits / parameters.capacity(report.seconds);
        add(Figure::LinkUsePercent, 100.0 * share);
        add(Figure::QueueDrops, count(queue.dropped));
    }
    if let (Some(queue), Some(marks)) = (&outcome.queue, outcome.marks) {
        add(Figure::DropsAndMarks, count(queue.dropped + marks));
    }
    if parameters.is_steady() {
        add(Figure::SteadyGoodputMbps, over_time.steady_goodput(1.0));
    }
    if parameters.bottleneck == BottleneckAt::SameHost || parameters.receive_buffer_kb.is_some() {
        add(Figure::ReceiverDrops, count(outcome.receiver_drops));
    }
    let tcp = outcome.tcp.as_ref().map(|tcp| tcp.goodput / 1e6);
    if tcp.is_some() || outcome.rivals_mbps.is_some() {
        let others = tcp.unwrap_or(0.0) + outcome.rivals_mbps.unwrap_or(0.0);
        let all = report.goodput_mbps + others;
        add(Figure::OthersMbps, others);
        add(Figure::SharePercent, 100.0 * report.goodput_mbps / all);
    }
    let end = report.seconds.min(over_time.end());
    if parameters.flows > 1 || parameters.peers > 1 {
        let begun = parameters.stagger_s * f64::from(parameters.flows - 1);
        add(Figure::Fairness, fairness(&over_time.goodputs(begun, end)));
    }
    if let Some(bursts) = report.bursts_us {
        add(Figure::BurstP50Ms, count(bursts.p50) / 1e3);
        add(Figure::BurstMaxMs, count(bursts.max) / 1e3);
    } else {
        add(Figure::StallMs, over_time.stall() * 1e3);
    }
    if parameters.step_mbps.is_some() {
        let (fall, rise) = parameters.step_times();
        let trips = |trips: f64| fall + trips * idle_ms / 1e3;
        let to = trips(20.0).min(rise);
        if let Some(trip) = over_time.round_trip(trips(10.0), to) {
            add(Figure::RttAfterFallMs, trip);
        }
        let rate = 0.9 * PAYLOAD * parameters.rate_mbps;
        let rise = over_time.time_to_reach(rise, rate);
        add(Figure::RiseSeconds, rise.unwrap_or(f64::INFINITY));
    }
    if let Some(connect) = Summary::of(outcome.connect_ms.iter().copied()) {
        add(Figure::ConnectMs, connect.median);
    }
    if parameters.disturb.is_some() {
        let from = Disturbance::recovered(parameters);
        if let Some(trip) = over_time.round_trip(from, end) {
            add(Figure::RecoveredRttMs, trip);
        }
        add(Figure::RecoveredLost, over_time.lost_between(from, end));
        let goodput = over_time.goodputs(from, end).iter().sum();
        add(Figure::RecoveredGoodputMbps, goodput);
    }
    if let Some(share) = parameters.detach {
        let gone = share * parameters.seconds;
        let later = over_time.goodputs(gone, end).iter().sum();
        add(Figure::LaterGoodputMbps, later);
        let from = if side.is_governed() { gone } else { 0.0 };
        add(Figure::WorstSecondLost, over_time.worst_second(from));
    }
    figures
}

/// The figures of TCP in the place of the flows.
pub(super) fn tcp_figures(
    tcp: &TcpReport,
    queue: Option<&QdiscStats>,
    parameters: &Parameters,
) -> Figures {
    let mut figures = Figures::from([
        (Figure::GoodputMbps, tcp.goodput / 1e6),
        (Figure::LostPackets, count(tcp.retransmits)),
    ]);
    let trips = tcp.intervals.iter().map(|interval| interval.rtt / 1e3);
    if let Some(trips) = Summary::of(trips) {
        figures.insert(Figure::RttP50Ms, trips.median);
    }
    if let Some(queue) = queue {
        let share = count(queue.sent_bytes) * 8.0 / parameters.capacity(tcp.seconds);
        figures.insert(Figure::LinkUsePercent, 100.0 * share);
        figures.insert(Figure::QueueDrops, count(queue.dropped));
    }
    figures
}

#[expect(clippy::cast_precision_loss, reason = "no count comes near 2^53")]
fn count(value: u64) -> f64 {
    value as f64
}
