//! Writes a recording.

use std::io::{self, Write};
use std::sync::Arc;

use super::line::{FORMAT, FlowLine, Header, HostLine, Line, VERSION};
use crate::sample::KernelTime;
use crate::source::{SignalSource, Watch};

/// Writes samples of a source to a file, one at each call, for analysis or for a
/// [`ReplaySource`](super::ReplaySource) to replay.
///
/// Writing makes system calls: do it in a separate task, not in a controller's callbacks. Pass a
/// [`BufWriter`](std::io::BufWriter).
#[derive(Debug)]
pub struct Recorder<W> {
    source: Arc<dyn SignalSource>,
    flows: Vec<Watch>,
    out: W,
    /// The source's time at the first line.
    start: Option<KernelTime>,
}

impl<W: Write> Recorder<W> {
    /// Begins a recording of the host; flows are added to it.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written to.
    pub fn new(source: Arc<dyn SignalSource>, mut out: W) -> io::Result<Self> {
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
        };
        write_line(&mut out, &header)?;
        Ok(Self {
            source,
            flows: Vec::new(),
            out,
            start: None,
        })
    }

    /// Records this flow too, from the next call of [`record`](Self::record) on. A replay hands
    /// flows out in this order.
    pub fn add(&mut self, flow: Watch) {
        self.flows.push(flow);
    }

    /// Writes a sample of the host and of every flow.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn record(&mut self) -> io::Result<()> {
        let host = self.source.host();
        let start = *self.start.get_or_insert(host.taken);
        let since = host.taken.since(start);
        let t = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        write_line(&mut self.out, &Line::Host(HostLine::new(t, &host)))?;
        for (number, flow) in (0..).zip(&self.flows) {
            let line = FlowLine::new(t, number, &flow.sample());
            write_line(&mut self.out, &Line::Flow(line))?;
        }
        Ok(())
    }

    /// Flushes and returns the writer.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

fn write_line(out: &mut impl Write, line: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}
