//! Clients of the server that connect, change their address, and disconnect.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use quinn::{ClientConfig, Endpoint, VarInt};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Mean lifetime of a peer.
const LIFE: Duration = Duration::from_secs(15);

/// Interval between new peers, as long as fewer than the maximum are connected: 125 a second.
const ARRIVAL: Duration = Duration::from_millis(8);

/// Longest wait for a connection, a download, and for the end of a connection. The link is full and
/// loses a few per cent: a handshake may have to be sent five times, which takes 15 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// Counts of events.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    connected: AtomicU64,
    rebound: AtomicU64,
    vanished: AtomicU64,
    failed: AtomicU64,
    /// The probes are detached: connections are stock from now on.
    detached: AtomicBool,
    /// The first failure.
    failure: Mutex<Option<String>>,
    /// The cycle is ending: errors of connections no longer count as failures.
    ending: AtomicBool,
}

impl Tally {
    pub(crate) fn connected(&self) {
        self.connected.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn rebound(&self) {
        self.rebound.fetch_add(1, Ordering::Relaxed);
    }

    /// The probes are detached.
    pub(crate) fn detached(&self) {
        self.detached.store(true, Ordering::Relaxed);
    }

    /// The cycle ends.
    pub(crate) fn ends(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    pub(crate) fn fail(&self, error: &anyhow::Error) {
        if self.ending.load(Ordering::Relaxed) {
            return;
        }
        self.failed.fetch_add(1, Ordering::Relaxed);
        let when = if self.detached.load(Ordering::Relaxed) {
            "after the probes were detached"
        } else {
            "governed"
        };
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert_with(|| format!("{when}: {error:#}"));
    }

    /// Connections, rebinds, peers that vanished, failures.
    pub(crate) fn counts(&self) -> [u64; 4] {
        [&self.connected, &self.rebound, &self.vanished, &self.failed]
            .map(|count| count.load(Ordering::Relaxed))
    }

    pub(crate) fn failure(&self) -> Option<String> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone()
    }
}

/// A random time from zero to twice the mean.
pub(crate) fn random_time(mean: Duration) -> Duration {
    mean.mul_f64(2.0 * fastrand::f64())
}

/// Keeps up to `most` peers connected, until it is dropped.
pub(crate) async fn come_and_go(
    config: ClientConfig,
    server: SocketAddr,
    most: usize,
    tally: Arc<Tally>,
) {
    let room = Arc::new(Semaphore::new(most));
    let mut arrivals = interval(ARRIVAL);
    arrivals.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        arrivals.tick().await;
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let (config, tally) = (config.clone(), Arc::clone(&tally));
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = live(config, server, &tally).await {
                tally.fail(&error);
            }
        });
    }
}

/// One peer.
async fn live(config: ClientConfig, server: SocketAddr, tally: &Tally) -> Result<()> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let mut endpoint = Endpoint::client(any)?;
    endpoint.set_default_client_config(config);
    let connecting = endpoint.connect(server, "localhost")?;
    let connection = timeout(PATIENCE, connecting)
        .await
        .context("connecting")??;
    tally.connected();
    let download = timeout(PATIENCE, connection.accept_uni()).await;
    let mut download = download.context("waiting for the download")??;
    while timeout(PATIENCE, download.read_chunk(usize::MAX, true))
        .await
        .context("downloading")??
        .is_some()
    {}
    let life = random_time(LIFE);
    sleep(life / 2).await;
    match fastrand::usize(..20) {
        // The peer's address changes, as behind a NAT.
        0..4 => {
            endpoint.rebind(UdpSocket::bind(any)?)?;
            tally.rebound();
            sleep(life / 2).await;
        }
        // The peer vanishes: from a loopback address nothing reaches the server.
        4 => {
            endpoint.rebind(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?)?;
            tally.vanished.fetch_add(1, Ordering::Relaxed);
        }
        _ => sleep(life / 2).await,
    }
    connection.close(VarInt::from_u32(0), b"");
    let _ = timeout(PATIENCE, endpoint.wait_idle()).await;
    Ok(())
}
