//! A line a second while an upload runs.

use std::time::Duration;

use ebpf_congestion_signals::CongestionSignals;

use crate::units::{bytes, megabits_per_second, micros, short_time};

/// Prints lines of one table as time goes on.
#[derive(Debug, Default)]
pub struct Lines {
    begun: bool,
    last: Duration,
    delivered: u64,
}

/// The figures of a line.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Since the upload began.
    pub elapsed: Duration,
    /// Bytes that the receiver has, of all flows.
    pub delivered: u64,
    /// The host's signals since the last line; `None` without a source.
    pub signals: Option<CongestionSignals>,
    /// Round trip of the flows, their mean.
    pub round_trip: Duration,
    /// Congestion window of the flows, their mean.
    pub window: u64,
    /// Packets that loss recovery gave up, of all flows.
    pub lost: u64,
}

/// What is shown while an upload runs.
pub trait Progress {
    /// Called every 10 ms, without signals.
    fn sample(&mut self, _now: &Now) {}
    /// Called every second.
    fn second(&mut self, now: &Now);
}

impl Progress for Lines {
    /// Prints the next line, after the heading if it is the first.
    fn second(&mut self, now: &Now) {
        if !self.begun {
            self.begun = true;
            crate::say!("Goodput, round trip and window of the flows; signals of the whole host:");
            let heading = ["time", "goodput", "round trip", "window"].map(str::to_owned);
            let signals = ["events", "sent", "drops", "send buffer", "softirq"].map(str::to_owned);
            crate::say!("{}", layout(&heading, &signals));
        }
        crate::say!("{}", self.line(now));
    }
}

impl Lines {
    fn line(&mut self, now: &Now) -> String {
        let delivered = now.delivered.saturating_sub(self.delivered);
        let time = now.elapsed.saturating_sub(self.last);
        self.delivered = now.delivered;
        self.last = now.elapsed;
        let quinn = [
            format!("{:.0} s", now.elapsed.as_secs_f64()),
            format!("{:.1} Mbit/s", megabits_per_second(delivered, time)),
            short_time(micros(now.round_trip)),
            bytes(now.window),
        ];
        let kernel = now.signals.map_or_else(
            || ["-"; 5].map(str::to_owned),
            |signals| {
                let known = [
                    Some(signals.event_count.to_string()),
                    signals.send_bytes.map(bytes),
                    signals.drops.map(|drops| drops.to_string()),
                    signals
                        .avg_wmem_pressure
                        .map(|share| format!("{:.1} %", 100.0 * share)),
                    signals.softirq_ns.map(|ns| format!("{} µs", ns / 1000)),
                ];
                known.map(|signal| signal.unwrap_or_else(|| "-".to_owned()))
            },
        );
        layout(&quinn, &kernel)
    }
}

fn layout(quinn: &[String; 4], kernel: &[String; 5]) -> String {
    let [time, goodput, round_trip, window] = quinn;
    let [events, sent, drops, buffer, softirq] = kernel;
    format!(
        "{time:>6}  {goodput:>14}  {round_trip:>10}  {window:>9}  |  {events:>8}  {sent:>9}  \
         {drops:>6}  {buffer:>11}  {softirq:>11}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_the_second_and_not_the_sum() {
        let mut lines = Lines::default();
        let mut now = Now {
            elapsed: Duration::from_secs(1),
            delivered: 1_000_000,
            signals: None,
            round_trip: Duration::from_millis(20),
            window: 30_000,
            lost: 0,
        };
        assert!(lines.line(&now).contains("8.0 Mbit/s"));
        now.elapsed = Duration::from_secs(2);
        now.delivered += 2_000_000;
        let line = lines.line(&now);
        assert!(line.contains("16.0 Mbit/s"), "{line}");
        assert!(line.ends_with('-'), "{line}");
    }
}
