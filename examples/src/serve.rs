//! Serves any number of peers, each controlled and watched as a flow of its own: receives what they
//! upload, sends what they download.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::Watch;
use quinn::{Endpoint, Incoming, ServerConfig, VarInt};
use quinn_governor::{Governor, ReceiveGovernor};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::args::{Base, Switch};
use crate::certificate::Transfer;
use crate::control::Control;
use crate::interrupt;
use crate::program::Session;
use crate::receive::Receiving;
use crate::report::{GovernorActions, SenderReport};
use crate::served::{Download, Samples};
use crate::signals::{FlowTotals, SignalsReport};
use crate::units::{bytes, megabits_per_second, rounded};
use crate::upload::SAMPLE_INTERVAL;

/// How long to wait at the end for peers to hear that their connections are closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// When a server ends by itself; never, by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct End {
    /// After this time.
    pub time: Option<Duration>,
    /// After this many uploads and downloads.
    pub uploads: Option<usize>,
}

/// A server's socket and how it accepts.
pub struct Server {
    endpoint: Endpoint,
    config: ServerConfig,
    /// The endpoint's socket again, by which its peers are watched.
    socket: UdpSocket,
    began: Instant,
    peers: Vec<Peer>,
}

/// A peer and its upload or download, which may still go on.
struct Peer {
    address: SocketAddr,
    upload: Receiving,
    download: Download,
    governor: Option<Arc<Governor>>,
    /// Since the server began.
    accepted: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Watched, if there is a source.
    Running(Option<Watch>),
    /// With what the source told, if there was one. The watch is given back: its slot is free.
    Ended(Option<Box<FlowTotals>>),
}

impl Server {
    /// Over an endpoint made with this configuration on this socket (a clone of it).
    pub fn new(endpoint: Endpoint, config: ServerConfig, socket: UdpSocket) -> Self {
        Self {
            endpoint,
            config,
            socket,
            began: Instant::now(),
            peers: Vec::new(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Serves until `end` or until the user asks for an end; prints a line a peer. What downloads
    /// do over time is written to `trace`.
    pub async fn run(
        mut self,
        session: &Session,
        end: End,
        trace: Option<&Path>,
    ) -> anyhow::Result<ServerReport> {
        let mut samples = Samples::new(trace)?;
        let mut sample = interval(SAMPLE_INTERVAL);
        sample.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let receiving = session.control.receiving(&self.socket)?;
        let looking = receiving
            .clone()
            .map(|receiving| tokio::spawn(receiving.run()));
        let mut serving = JoinSet::new();
        let over = async {
            match end.time {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let interrupted = interrupt::requested();
        tokio::pin!(over, interrupted);
        let mut ended = 0;
        while end.uploads.is_none_or(|uploads| ended < uploads) {
            tokio::select! {
                Some(incoming) = self.endpoint.accept() => {
                    let index = self.peers.len();
                    let (config, peer) = self.admit(&incoming, &session.control);
                    let (upload, download) = (peer.upload.clone(), peer.download.clone());
                    self.peers.push(peer);
                    let receiving = receiving.clone();
                    serving.spawn(async move {
                        (index, serve(incoming, config, receiving, upload, download).await)
                    });
                }
                _ = sample.tick() => {
                    for (index, peer) in self.peers.iter().enumerate() {
                        if let State::Running(watch) = &peer.state {
                            let governor = peer.governor.as_deref();
                            samples.take(index, &peer.download, watch.as_ref(), governor)?;
                        }
                    }
                }
                Some(served) = serving.join_next() => {
                    let (index, served) = served?;
                    self.end(index, session);
                    match served {
                        Ok(()) => {
                            ended += 1;
                            println!("{}", self.peers[index]);
                        }
                        Err(error) => {
                            println!("{}: {error:#}", self.peers[index]);
                        }
                    }
                }
                () = &mut over => break,
                asked = &mut interrupted => {
                    asked?;
                    println!("interrupted: what was received so far");
                    break;
                }
            }
        }
        for index in 0..self.peers.len() {
            self.end(index, session);
        }
        self.endpoint.close(VarInt::from_u32(0), b"the server ends");
        // Elapsed or not, there is nothing more to do.
        let _ = timeout(CLOSE_TIMEOUT, self.endpoint.wait_idle()).await;
        if let Some(looking) = looking {
            looking.abort();
        }
        let reductions = receiving.map_or(0, |receiving| receiving.reductions());
        self.report(session, samples, reductions)
    }

    /// The configuration that makes a connection a flow of its own.
    fn admit(&self, incoming: &Incoming, control: &Control) -> (Arc<ServerConfig>, Peer) {
        let address = incoming.remote_address();
        let controlled = control.peer(&self.socket, address).unwrap_or_else(|error| {
            tracing::warn!("{address} is not watched and runs as base: {error:#}");
            control.unwatched()
        });
        let mut config = self.config.clone();
        config.transport_config(Arc::new(controlled.transport()));
        let peer = Peer {
            address,
            upload: Receiving::default(),
            download: Download::default(),
            governor: controlled.governor().cloned(),
            accepted: self.began.elapsed(),
            state: State::Running(controlled.watch().cloned()),
        };
        (Arc::new(config), peer)
    }

    /// Reads a flow for the last time.
    fn end(&mut self, index: usize, session: &Session) {
        let peer = &mut self.peers[index];
        if let State::Running(watch) = &peer.state {
            let totals = watch
                .as_ref()
                .zip(session.observation.as_ref())
                .map(|(watch, observation)| observation.flow(peer.address.to_string(), watch))
                .map(Box::new);
            peer.state = State::Ended(totals);
        }
    }

    fn report(
        &self,
        session: &Session,
        samples: Samples,
        receive_reductions: u64,
    ) -> anyhow::Result<ServerReport> {
        let first = self.peers.iter().map(|peer| peer.accepted).min();
        let last = self.peers.iter().map(Peer::last_byte).max();
        let time = last
            .zip(first)
            .map_or(Duration::ZERO, |(last, first)| last.saturating_sub(first));
        let received_bytes = self.peers.iter().map(|peer| peer.upload.bytes()).sum();
        let totals = self.totals();
        let signals = session.observation.as_ref();
        let signals = signals.map(|observation| observation.report(&totals));
        let signals = signals.unwrap_or_default();
        let downloads = self.peers.iter().map(|peer| &peer.download);
        Ok(ServerReport {
            source: session.control.source().name().to_owned(),
            base: session.control.base(),
            governor: session.control.governor(),
            seconds: rounded(time.as_secs_f64()),
            flows: self.peers.len(),
            received_bytes,
            goodput_mbps: rounded(megabits_per_second(received_bytes, time)),
            per_flow_goodput_mbps: self.peers.iter().map(|peer| rounded(peer.rate())).collect(),
            downloads: samples.finish(downloads, &session.control, &signals)?,
            signals,
            governor_actions: session.control.report().into(),
            receive_reductions,
            totals,
        })
    }

    fn totals(&self) -> Vec<FlowTotals> {
        let totals = self.peers.iter().filter_map(|peer| match &peer.state {
            State::Ended(totals) => totals.as_deref().cloned(),
            State::Running(_) => None,
        });
        totals.collect()
    }
}

/// Accepts a connection, and receives or sends as its client wants.
async fn serve(
    incoming: Incoming,
    config: Arc<ServerConfig>,
    receiving: Option<ReceiveGovernor>,
    upload: Receiving,
    download: Download,
) -> anyhow::Result<()> {
    let connection = incoming.accept_with(config)?.await?;
    let _window = receiving.map(|receiving| receiving.govern(connection.clone()));
    match Transfer::of(&connection) {
        Transfer::Upload => upload.receive(&connection).await,
        Transfer::Download => download.serve(connection).await,
    }
}

impl Peer {
    fn last_byte(&self) -> Duration {
        self.accepted + self.upload.elapsed()
    }

    fn rate(&self) -> f64 {
        megabits_per_second(self.upload.bytes(), self.upload.elapsed())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((delivered, time)) = self.download.ended() {
            return write!(
                f,
                "{}: downloaded {} in {:.2} s, {:.1} Mbit/s",
                self.address,
                bytes(delivered),
                time.as_secs_f64(),
                megabits_per_second(delivered, time)
            );
        }
        write!(
            f,
            "{}: {} in {:.2} s, {:.1} Mbit/s",
            self.address,
            bytes(self.upload.bytes()),
            self.upload.elapsed().as_secs_f64(),
            self.rate()
        )
    }
}

/// A server's report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerReport {
    /// Where signals came from: `ebpf`, `mock` or `none`.
    pub source: String,
    /// The controller of what the server sends, alone or under the governor.
    pub base: Base,
    /// Whether what the server sends is governed.
    pub governor: Switch,
    /// From the first connection to the last byte.
    pub seconds: f64,
    /// Connections.
    pub flows: usize,
    /// Bytes of their streams.
    pub received_bytes: u64,
    /// These by the time.
    pub goodput_mbps: f64,
    /// Each upload's bytes by its own time, in the order of connecting.
    pub per_flow_goodput_mbps: Vec<f64>,
    /// What was downloaded, as its sender knows it; null when nothing was.
    pub downloads: Option<SenderReport>,
    /// What the source told of the peers and the host.
    pub signals: SignalsReport,
    /// What the governor did.
    pub governor_actions: GovernorActions,
    /// Times that the window of what is received was reduced, because the socket's buffer
    /// overflowed.
    pub receive_reductions: u64,
    /// What the source told of each peer.
    #[serde(skip)]
    pub totals: Vec<FlowTotals>,
}

impl fmt::Display for ServerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(downloads) = &self.downloads {
            return write!(f, "{} downloads:\n{downloads}", downloads.flows);
        }
        write!(
            f,
            "{} uploads, {} in {:.2} s: {:.1} Mbit/s",
            self.flows,
            bytes(self.received_bytes),
            self.seconds,
            self.goodput_mbps
        )
    }
}
