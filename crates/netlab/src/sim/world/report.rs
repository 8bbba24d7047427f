//! The report of a simulation.

use std::time::Duration;

use super::{Event, World};
use crate::sim::link::Link;
use crate::sim::outcome::{FlowOutcome, Latencies, Outcome, TcpOutcome};
use crate::sim::quic::QuicFlow;
use crate::sim::trace::TraceRow;

impl World<'_> {
    pub(super) fn trace(&mut self) {
        let Some(interval) = self.scenario.trace_interval else {
            return;
        };
        let back = self.links.len() - 1;
        let remote_backlog = self.links[1..back].iter().map(Link::backlog).sum();
        let common = TraceRow {
            time: self.now.since_start().as_secs_f64(),
            backlog: self.links[0].backlog(),
            remote_backlog,
            ..TraceRow::default()
        };
        for (index, flow) in self.flows.iter().enumerate() {
            let record = flow.record.lock();
            let base = flow.base_record.lock().window;
            self.trace.rows.push(TraceRow {
                flow: index,
                window: record.window,
                base_window: if base > 0 { base } else { record.window },
                in_flight: record.in_flight,
                rtt: record.rtt.as_secs_f64() * 1e3,
                own_backlog: self.signals.own(flow.watch),
                drops: flow.counts.local_drops + flow.counts.remote_drops,
                received: flow.received,
                ..common
            });
        }
        for (index, tcp) in self.tcps.iter().enumerate() {
            self.trace.rows.push(TraceRow {
                flow: self.flows.len() + index,
                window: tcp.window_bytes(),
                base_window: tcp.window_bytes(),
                in_flight: tcp.in_flight_bytes(),
                rtt: tcp.srtt().as_secs_f64() * 1e3,
                own_backlog: tcp.queued(),
                drops: tcp.stats.dropped_packets,
                received: tcp.stats.received_bytes,
                ..common
            });
        }
        self.schedule(self.now + interval, Event::Trace);
    }

    pub(super) fn finish(self) -> Outcome {
        let duration = self.scenario.duration;
        let rate = |bytes: u64, start: Duration| {
            let active = duration.saturating_sub(start).as_secs_f64();
            if active > 0.0 {
                bytes as f64 * 8.0 / active
            } else {
                0.0
            }
        };
        let flows = self.flows.into_iter();
        let flows = flows.map(|flow| report(flow, rate));
        let competitors = self.tcps.iter().map(|tcp| TcpOutcome {
            start: tcp.spec.start,
            goodput: rate(tcp.stats.received_bytes, tcp.spec.start),
            stats: tcp.stats,
        });
        Outcome {
            duration,
            flows: flows.collect(),
            competitors: competitors.collect(),
            links: self.links[..self.links.len() - 1]
                .iter()
                .map(Link::stats)
                .collect(),
            trace: self.trace,
            events: self.processed,
        }
    }
}

/// What a flow did; `rate` makes bits per second of bytes and the time they began at.
fn report(flow: QuicFlow, rate: impl Fn(u64, Duration) -> f64) -> FlowOutcome {
    // Asks for the window, so before the record is locked.
    let path = flow.sender.map(|end| end.connection.stats().path);
    let path = path.unwrap_or_default();
    let record = flow.record.lock();
    let base = Some(flow.base_record.lock()).filter(|base| base.window > 0);
    let base = base.as_ref();
    FlowOutcome {
        start: flow.spec.start,
        received_bytes: flow.received,
        goodput: rate(flow.received, flow.spec.start),
        sent_packets: path.sent_packets,
        lost_packets: path.lost_packets,
        local_drops: flow.counts.local_drops,
        remote_drops: flow.counts.remote_drops,
        path_losses: flow.counts.path_losses,
        policy_drops: flow.counts.policy_drops,
        refused: flow.counts.refused,
        receive_drops: flow.receiving_socket.dropped,
        rtt: Latencies::of(&record.rtts),
        congestion_events: record.congestion_events,
        blocked_sends: flow.counts.blocked_sends,
        peak_window: record.peak_window,
        last_window: record.window,
        base_peak_window: base.map(|base| base.peak_window),
        base_last_window: base.map(|base| base.window),
        base_congestion_events: base.map(|base| base.congestion_events),
        completions: flow.completions,
        digest: record.digest.value(),
        steps: record.steps.clone().unwrap_or_default(),
        error: flow.error,
    }
}
