//! What happened over time, to be plotted.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

/// Rows at a fixed interval, one for each flow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// In the order of time; those of one time in the order of the flows, QUIC first.
    pub rows: Vec<TraceRow>,
}

/// A flow at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TraceRow {
    /// Seconds since the start of the simulation.
    pub time: f64,
    /// Index of the flow; competitors follow the QUIC flows.
    pub flow: usize,
    /// The congestion window, bytes.
    pub window: u64,
    /// The base controller's window, where there is one below; else the same.
    pub base_window: u64,
    /// Bytes in flight.
    pub in_flight: u64,
    /// The last round trip, milliseconds.
    pub rtt: f64,
    /// Bytes of this flow in the queue of the sender's host, on the wire.
    pub own_backlog: u64,
    /// Bytes of all flows there.
    pub backlog: u64,
    /// Bytes in the queues of all hops behind.
    pub remote_backlog: u64,
    /// Datagrams of this flow that queues have dropped so far.
    pub drops: u64,
    /// Payload that has arrived so far, bytes.
    pub received: u64,
}

impl Trace {
    /// The rows of one flow.
    pub fn of_flow(&self, flow: usize) -> impl Iterator<Item = &TraceRow> {
        self.rows.iter().filter(move |row| row.flow == flow)
    }

    /// Bits per second that a flow received between two times, as near as the rows tell.
    pub fn goodput(&self, flow: usize, from: Duration, to: Duration) -> f64 {
        let at = |time: Duration| {
            self.of_flow(flow)
                .take_while(|row| row.time <= time.as_secs_f64() + 1e-9)
                .last()
                .map_or((0.0, 0), |row| (row.time, row.received))
        };
        let ((began, before), (ended, after)) = (at(from), at(to));
        if ended > began {
            (after - before) as f64 * 8.0 / (ended - began)
        } else {
            0.0
        }
    }

    /// Writes one line for each row, after one of names.
    pub fn write_csv(&self, mut out: impl Write) -> io::Result<()> {
        writeln!(
            out,
            "time,flow,window,base_window,in_flight,rtt_ms,own_backlog,backlog,remote_backlog,\
             drops,received"
        )?;
        for row in &self.rows {
            writeln!(
                out,
                "{:.6},{},{},{},{},{:.3},{},{},{},{},{}",
                row.time,
                row.flow,
                row.window,
                row.base_window,
                row.in_flight,
                row.rtt,
                row.own_backlog,
                row.backlog,
                row.remote_backlog,
                row.drops,
                row.received
            )?;
        }
        Ok(())
    }

    /// Writes a JSON object a line for each row.
    pub fn write_json_lines(&self, mut out: impl Write) -> io::Result<()> {
        for row in &self.rows {
            serde_json::to_writer(&mut out, row)?;
            writeln!(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Trace {
        let rows = (0..=10).map(|tenth| TraceRow {
            time: f64::from(tenth) / 10.0,
            received: 1_000 * u64::try_from(tenth).unwrap(),
            ..TraceRow::default()
        });
        Trace {
            rows: rows.collect(),
        }
    }

    #[test]
    fn goodput_is_what_arrived_between_two_times() {
        let (from, to) = (Duration::from_millis(200), Duration::from_millis(700));
        let goodput = trace().goodput(0, from, to);
        assert!((79_999.0..80_001.0).contains(&goodput), "{goodput}");
        assert_eq!(trace().goodput(1, from, to), 0.0);
    }

    #[test]
    fn rows_are_written_one_a_line() {
        let (mut csv, mut json) = (Vec::new(), Vec::new());
        trace().write_csv(&mut csv).unwrap();
        trace().write_json_lines(&mut json).unwrap();
        let csv = String::from_utf8(csv).unwrap();
        assert_eq!(csv.lines().count(), 12);
        let columns = |line: &str| line.split(',').count();
        assert!(csv.lines().all(|line| columns(line) == 11));
        assert!(
            String::from_utf8(json)
                .unwrap()
                .lines()
                .all(|line| line.starts_with("{\"time\":"))
        );
    }
}
