//! The receiving half of a transfer: counts what arrives and reports it to the sender.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use quinn::{Connection, ReadError, RecvStream, SendStream, VarInt};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// How often to report to the sender. One small packet each: next to nothing beside
/// acknowledgements.
const REPORT_INTERVAL: Duration = Duration::from_millis(20);

/// The code with which a receiver ends a stream: the time is over.
const TIME_IS_OVER: VarInt = VarInt::from_u32(0);

/// A transfer as its receiver counted it.
#[derive(Clone, Debug, Default)]
pub struct Receiving {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    /// From the beginning of the transfer to the last byte.
    micros: AtomicU64,
}

impl Receiving {
    /// Bytes of the stream that arrived, each counted once.
    pub fn bytes(&self) -> u64 {
        self.counts.bytes.load(Ordering::Relaxed)
    }

    /// Time from the beginning of the transfer to the last byte.
    pub fn elapsed(&self) -> Duration {
        Duration::from_micros(self.counts.micros.load(Ordering::Relaxed))
    }

    /// Receives the one upload of `connection` until its sender ends it, then waits for it to
    /// close the connection.
    ///
    /// On the way back it tells the running total as eight bytes, most significant first, fifty
    /// times a second and at the end.
    pub async fn receive(&self, connection: &Connection) -> anyhow::Result<()> {
        let (mut totals, mut data) = connection.accept_bi().await.context("no upload began")?;
        let began = Instant::now();
        let counted = tokio::select! {
            counted = self.count(began, &mut data, &mut totals) => counted,
            Err(error) = self.count_bursts(began, connection) => Err(error),
        };
        counted.context("the upload broke off")?;
        self.tell(&mut totals).await?;
        totals.finish()?;
        connection.closed().await;
        Ok(())
    }

    /// Downloads over `connection` until `stop` becomes true, then waits for the sender to close
    /// the connection. It tells totals as [`Receiving::receive`] does.
    pub async fn fetch(
        &self,
        connection: &Connection,
        mut stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        // An error says that the other end was dropped, which stops it too.
        let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
        self.fetch_until(connection, stopped).await?;
        connection.closed().await;
        Ok(())
    }

    /// As [`fetch`](Self::fetch), until `stop` is ready, and the connection stays.
    pub async fn fetch_until(
        &self,
        connection: &Connection,
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let (mut totals, mut data) = connection.open_bi().await?;
        tokio::select! {
            () = stop => {}
            counted = self.count(Instant::now(), &mut data, &mut totals) => {
                counted.context("the download broke off")?;
                bail!("the server ended the download before its time");
            }
        }
        data.stop(TIME_IS_OVER)?;
        self.tell(&mut totals).await?;
        totals.finish()?;
        Ok(())
    }

    async fn count(
        &self,
        began: Instant,
        data: &mut RecvStream,
        totals: &mut SendStream,
    ) -> anyhow::Result<()> {
        let mut report = tokio::time::interval(REPORT_INTERVAL);
        report.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                _ = report.tick() => self.tell(totals).await?,
                // Out of order too: what waits behind a gap has also arrived.
                chunk = data.read_chunk(usize::MAX, false) => match chunk {
                    Ok(Some(chunk)) => self.add(chunk.bytes.len(), began.elapsed()),
                    Ok(None) | Err(ReadError::Reset(_)) => return Ok(()),
                    Err(error) => return Err(error.into()),
                },
            }
        }
    }

    /// Counts what comes in streams of its own, one after the other; goes on until it fails.
    async fn count_bursts(&self, began: Instant, connection: &Connection) -> anyhow::Result<()> {
        loop {
            let mut burst = connection.accept_uni().await?;
            while let Some(chunk) = burst.read_chunk(usize::MAX, false).await? {
                self.add(chunk.bytes.len(), began.elapsed());
            }
        }
    }

    fn add(&self, bytes: usize, elapsed: Duration) {
        self.counts.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let micros = crate::units::micros(elapsed);
        self.counts.micros.store(micros, Ordering::Relaxed);
    }

    async fn tell(&self, totals: &mut SendStream) -> anyhow::Result<()> {
        let total = self.bytes().to_be_bytes();
        Ok(totals.write_all(&total).await?)
    }
}
