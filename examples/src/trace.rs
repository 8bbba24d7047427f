//! A trace: what each connection did over time, to be plotted.
//!
//! A file of text. Every line is one JSON object, a [`Row`]; every 10 ms there is one for each
//! connection. The fields of [`Row`] are those of the object, with their units.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use ebpf_congestion_signals::Watch;
use quinn_governor::GovernedController;
use serde::{Deserialize, Serialize};

use crate::send::Sending;
use crate::units::micros;

/// A connection at a time. Totals count from the connection's beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Seconds since the program began to send.
    pub t: f64,
    /// Which connection: its place in the order of connecting, from 0.
    pub flow: u16,
    /// Congestion window in bytes.
    pub window: u64,
    /// Round trip in microseconds, as loss recovery estimates it: smoothed.
    pub rtt_us: u64,
    /// Bytes of UDP payload given to the socket, in total.
    pub sent_bytes: u64,
    /// Bytes of the stream that the receiver had at its last report, in total.
    pub delivered_bytes: u64,
    /// Packets that loss recovery gave up, in total.
    pub lost_packets: u64,
    /// Packets of the connection that a full queue of this host dropped, in total; null without
    /// signals.
    pub queue_drops: Option<u64>,
    /// Bytes of the connection in this host's queue; null without signals or a queue.
    pub own_backlog: Option<u64>,
    /// Bytes of everybody in that queue; null likewise.
    pub backlog: Option<u64>,
    /// Time that the governor held the windows of the flow's connections under the base
    /// controller's, in milliseconds, in total; 0 without a governor.
    pub capped_ms: u64,
    /// Whether the governor was in force: the window was, or could be, less than the base
    /// controller's.
    pub in_force: bool,
}

impl Row {
    /// Of a transfer now: the connection's counters, and what the source and the governor tell of
    /// its flow; `watch` is of a connection that is not governed.
    pub fn new(elapsed: Duration, flow: usize, sending: &Sending, watch: Option<&Watch>) -> Self {
        let stats = sending.connection().stats();
        let controller = GovernedController::of(sending.connection());
        // A governed connection knows better which flow it is by now.
        let governed = controller
            .as_ref()
            .and_then(|controller| controller.watch());
        let signals = governed.or(watch).map(Watch::congestion);
        let queue = signals.and_then(|signals| signals.queue);
        Self {
            t: micros(elapsed) as f64 / 1e6,
            flow: u16::try_from(flow).unwrap_or(u16::MAX),
            window: stats.path.cwnd,
            rtt_us: micros(stats.path.rtt),
            sent_bytes: stats.udp_tx.bytes,
            delivered_bytes: sending.delivered(),
            lost_packets: stats.path.lost_packets,
            queue_drops: signals.and_then(|signals| signals.queue_drops),
            own_backlog: queue.and_then(|queue| queue.own),
            backlog: queue.and_then(|queue| queue.total),
            capped_ms: controller.as_ref().map_or(0, |controller| {
                micros(controller.flow_report().capped) / 1000
            }),
            in_force: controller.is_some_and(|controller| controller.is_in_force()),
        }
    }
}

/// A trace that is being written.
#[derive(Debug)]
pub struct Writer {
    file: PathBuf,
    out: BufWriter<File>,
}

impl Writer {
    /// Begins a trace in this file; what stood there is gone.
    pub fn create(file: &Path) -> anyhow::Result<Self> {
        let out = File::create(file)
            .with_context(|| format!("cannot write a trace to {}", file.display()))?;
        Ok(Self {
            file: file.to_owned(),
            out: BufWriter::new(out),
        })
    }

    /// Adds a row.
    pub fn write(&mut self, row: &Row) -> anyhow::Result<()> {
        let written = serde_json::to_writer(&mut self.out, row)
            .map_err(anyhow::Error::from)
            .and_then(|()| Ok(self.out.write_all(b"\n")?));
        written.with_context(|| self.failed())
    }

    /// Ends the trace: all of it is in the file when this returns.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.out.flush().with_context(|| self.failed())
    }

    fn failed(&self) -> String {
        format!("cannot write the trace to {}", self.file.display())
    }
}

/// Reads a trace.
pub fn read(file: &Path) -> anyhow::Result<Vec<Row>> {
    let opened = File::open(file);
    let opened = opened.with_context(|| format!("cannot read the trace {}", file.display()))?;
    parse(BufReader::new(opened)).with_context(|| format!("in the trace {}", file.display()))
}

fn parse(text: impl BufRead) -> anyhow::Result<Vec<Row>> {
    let rows = text.lines().zip(1..).map(|(line, number)| {
        serde_json::from_str(&line?).with_context(|| format!("line {number} is no row of a trace"))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let rows = [
            Row {
                t: 0.01,
                window: 12_000,
                backlog: Some(3_000),
                ..Row::default()
            },
            Row {
                t: 0.02,
                flow: 1,
                rtt_us: 20_500,
                ..Row::default()
            },
        ];
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("trace");
        let mut writer = Writer::create(&file).unwrap();
        for row in &rows {
            writer.write(row).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(read(&file).unwrap(), rows);
    }

    #[test]
    fn a_line_that_is_no_row_is_named() {
        let good = serde_json::to_string(&Row::default()).unwrap();
        let error = parse(format!("{good}\n{{\"t\":1}}\n").as_bytes()).unwrap_err();
        assert!(format!("{error:#}").contains("line 2"), "{error:#}");
        assert!(format!("{error:#}").contains("flow"), "{error:#}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read(Path::new("/no/such/trace")).unwrap_err();
        assert!(error.to_string().contains("/no/such/trace"));
    }
}
