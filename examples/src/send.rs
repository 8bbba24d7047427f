//! The sending half of a transfer: the client's of an upload, the server's of a download.
//!
//! What counts as delivered is what the receiver says that it has: not what was written into a
//! buffer, nor what left the host. A sender writes until its time is over and then resets the
//! stream, so that nothing more is sent; the receiver answers with its last total. So the total
//! is what arrived of all that was sent within the time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use quinn::{
    ClientConfig, Connection, Endpoint, ReadExactError, RecvStream, SendStream, VarInt, WriteError,
};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::args::Bursts;
use crate::certificate::SERVER_NAME;

/// How long a server may take to answer before it counts as not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the receiver's last total may take.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);

/// What is sent, a write at a time.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The code of a stream's reset: the time is over.
const TIME_IS_OVER: VarInt = VarInt::from_u32(0);

/// A transfer in progress, as its sender knows it.
#[derive(Clone, Debug)]
pub struct Sending {
    connection: Connection,
    /// Bytes that the receiver reported last.
    delivered: Arc<AtomicU64>,
    /// How long each burst took to be acknowledged.
    bursts: Arc<Mutex<Vec<Duration>>>,
}

impl Sending {
    /// Connects to a server.
    pub async fn connect(
        endpoint: &Endpoint,
        config: ClientConfig,
        server: SocketAddr,
    ) -> anyhow::Result<Self> {
        let connecting = endpoint
            .connect_with(config, server, SERVER_NAME)
            .with_context(|| format!("cannot connect to {server}"))?;
        let connection = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.with_context(|| format!("{server} did not accept"))?,
            Err(_) => bail!(
                "{server} did not answer within {} s: start `cargo run --release --example server` \
                 there, and let UDP through to its port",
                CONNECT_TIMEOUT.as_secs()
            ),
        };
        Ok(Self::over(connection))
    }

    /// Over a connection that is there.
    pub fn over(connection: Connection) -> Self {
        Self {
            connection,
            delivered: Arc::default(),
            bursts: Arc::default(),
        }
    }

    /// The connection that carries it.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Bytes that the receiver had at its last report.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// How long each burst took from its beginning until all of it was acknowledged.
    pub fn bursts(&self) -> Vec<Duration> {
        let bursts = self.bursts.lock();
        bursts.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends until `stop` becomes true, all the time or in bursts; the time that it sent.
    /// [`Sending::delivered`] is final when this returns.
    pub async fn send(
        &self,
        mut stop: watch::Receiver<bool>,
        bursts: Option<Bursts>,
    ) -> anyhow::Result<Duration> {
        let (mut data, totals) = self.connection.open_bi().await?;
        let began = Instant::now();
        let follow = self.follow(totals);
        tokio::pin!(follow);
        tokio::select! {
            // An error says that the other end was dropped, which stops it too.
            _ = stop.wait_for(|stop| *stop) => {}
            Err(error) = async {
                match bursts {
                    Some(bursts) => {
                        // Until something is sent, the receiver knows of no transfer.
                        data.write_all(&ZEROS[..1]).await?;
                        self.write_bursts(bursts).await
                    }
                    None => write_always(&mut data).await,
                }
            } => return Err(error).context("the upload broke off"),
            ended = &mut follow => {
                ended.context("the upload broke off")?;
                bail!("the server ended the upload before its time");
            }
        }
        let sent_for = began.elapsed();
        data.reset(TIME_IS_OVER)?;
        match timeout(TOTAL_TIMEOUT, follow).await {
            Ok(followed) => followed.context("the server did not report what it received")?,
            Err(_) => bail!(
                "the server did not report what it received within {} s",
                TOTAL_TIMEOUT.as_secs()
            ),
        }
        self.connection.close(VarInt::from_u32(0), b"done");
        Ok(sent_for)
    }

    /// Sends into the stream by which the peer asked for it until it wants no more, and closes the
    /// connection; the time that it sent. [`Sending::delivered`] is final when this returns.
    pub async fn serve(&self, streams: (SendStream, RecvStream)) -> anyhow::Result<Duration> {
        let sent_for = self.send_until_stopped(streams).await?;
        self.connection.close(VarInt::from_u32(0), b"done");
        Ok(sent_for)
    }

    /// As [`serve`](Self::serve), and the connection stays.
    pub async fn send_until_stopped(
        &self,
        (mut data, totals): (SendStream, RecvStream),
    ) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let follow = self.follow(totals);
        tokio::pin!(follow);
        let followed = tokio::select! {
            // The peer's last total comes with its request to stop, which a sender that waits for
            // flow control credit may not notice.
            followed = &mut follow => followed,
            Err(error) = write_always(&mut data) => match error.downcast_ref() {
                Some(WriteError::Stopped(_)) => follow.await,
                _ => return Err(error).context("the download broke off"),
            }
        };
        followed.context("the client did not report what it received")?;
        Ok(began.elapsed())
    }

    /// Writes bursts, each into a stream of its own, until that fails.
    async fn write_bursts(&self, bursts: Bursts) -> anyhow::Result<()> {
        loop {
            let began = Instant::now();
            let mut burst = self.connection.open_uni().await?;
            let mut left = usize::try_from(bursts.bytes)?;
            while left > 0 {
                let next = left.min(ZEROS.len());
                burst.write_all(&ZEROS[..next]).await?;
                left -= next;
            }
            burst.finish()?;
            // Ends when all of it has been acknowledged.
            burst.stopped().await?;
            self.note_burst(began.elapsed());
            tokio::time::sleep(bursts.pause).await;
        }
    }

    fn note_burst(&self, time: Duration) {
        let mut bursts = self.bursts.lock().unwrap_or_else(PoisonError::into_inner);
        bursts.push(time);
    }

    /// Takes note of the receiver's totals until the last.
    async fn follow(&self, mut totals: RecvStream) -> anyhow::Result<()> {
        loop {
            let mut total = [0; 8];
            match totals.read_exact(&mut total).await {
                Ok(()) => {
                    let total = u64::from_be_bytes(total);
                    self.delivered.store(total, Ordering::Relaxed);
                }
                Err(ReadExactError::FinishedEarly(0)) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Writes as much as the stream takes, until that fails.
async fn write_always(data: &mut SendStream) -> anyhow::Result<()> {
    loop {
        data.write_all(&ZEROS).await?;
    }
}
