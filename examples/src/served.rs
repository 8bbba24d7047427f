//! What a server's downloads do while they are sent.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use ebpf_congestion_signals::Watch;

use crate::control::Control;
use crate::measure::Distributions;
use crate::report::SenderReport;
use crate::send::Sending;
use crate::signals::SignalsReport;
use crate::trace::{self, Row};
use crate::upload::{Measured, MeasuredFlow};

/// The download of a peer: there when it has begun.
#[derive(Clone, Debug, Default)]
pub(crate) struct Download {
    sending: Arc<OnceLock<Sending>>,
    /// For how long was sent, when that is over.
    sent_for: Arc<OnceLock<Duration>>,
}

impl Download {
    /// Sends until the peer has enough.
    pub(crate) async fn serve(&self, connection: quinn::Connection) -> anyhow::Result<()> {
        let asked = connection.accept_bi().await;
        let streams = asked.context("no download was asked for")?;
        let sending = self.sending.get_or_init(|| Sending::over(connection));
        let sent_for = sending.serve(streams).await?;
        // It is served once.
        let _ = self.sent_for.set(sent_for);
        Ok(())
    }

    /// Bytes that the peer had, and the time; `None` while it runs, or when there was none.
    pub(crate) fn ended(&self) -> Option<(u64, Duration)> {
        Some((self.sending.get()?.delivered(), *self.sent_for.get()?))
    }

    fn running(&self) -> Option<&Sending> {
        self.sending.get().filter(|_| self.sent_for.get().is_none())
    }
}

/// Samples of all downloads.
pub(crate) struct Samples {
    distributions: Distributions,
    trace: Option<trace::Writer>,
    /// When the first download was seen.
    began: Option<Instant>,
}

impl Samples {
    /// None yet; they will also be written to `trace`.
    pub(crate) fn new(trace: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Self {
            distributions: Distributions::new()?,
            trace: trace.map(trace::Writer::create).transpose()?,
            began: None,
        })
    }

    /// Takes a sample of the peer of this number, if it downloads now.
    pub(crate) fn take(
        &mut self,
        peer: usize,
        download: &Download,
        watch: Option<&Watch>,
    ) -> anyhow::Result<()> {
        let Some(sending) = download.running() else {
            return Ok(());
        };
        self.distributions.sample(sending.connection());
        let elapsed = self.began.get_or_insert_with(Instant::now).elapsed();
        match &mut self.trace {
            Some(trace) => trace.write(&Row::new(elapsed, peer, sending, watch)),
            None => Ok(()),
        }
    }

    /// The report of these downloads as their sender; `None` when there was none.
    pub(crate) fn finish<'a>(
        self,
        downloads: impl IntoIterator<Item = &'a Download>,
        control: &Control,
        signals: &SignalsReport,
    ) -> anyhow::Result<Option<SenderReport>> {
        self.trace.map_or(Ok(()), trace::Writer::finish)?;
        let flows = downloads.into_iter().filter_map(|download| {
            let (delivered, sent_for) = download.ended()?;
            Some(MeasuredFlow {
                delivered,
                sent_for,
                stats: download.sending.get()?.connection().stats(),
                bursts: Vec::new(),
                watch: None,
            })
        });
        let measured = Measured {
            flows: flows.collect(),
            distributions: self.distributions,
            failure: None,
            interrupted: false,
        };
        if measured.flows.is_empty() {
            return Ok(None);
        }
        Ok(Some(SenderReport {
            signals: signals.clone(),
            ..SenderReport::new(&measured, control, None, &[])
        }))
    }
}
