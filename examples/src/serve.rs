//! Serves any number of peers, each controlled and watched as a flow of its own: receives what they
//! upload, sends what they download.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use ebpf_congestion_signals::Watch;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, VarInt};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::args::{Base, Switch};
use crate::certificate::Transfer;
use crate::control::Control;
use crate::endpoint;
use crate::interrupt;
use crate::program::Session;
use crate::receive::Receiving;
use crate::report::{GovernorActions, SenderReport};
use crate::send::Sending;
use crate::served::{Download, Samples};
use crate::signals::{FlowTotals, SignalsReport};
use crate::units::{bytes, counted, megabits_per_second, rounded};
use crate::upload::SAMPLE_INTERVAL;

/// How long to wait at the end until peers know that their connections are closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// When a server ends by itself; never, by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct End {
    /// After this time.
    pub time: Option<Duration>,
    /// After this many uploads and downloads.
    pub uploads: Option<usize>,
}

/// A server that has its socket.
pub struct Server {
    endpoint: Endpoint,
    /// The endpoint's socket again, by which its peers are watched.
    socket: UdpSocket,
    /// Peers have to prove their address before they are accepted.
    retry: bool,
    began: Instant,
    peers: Vec<Peer>,
}

/// A peer and its upload or download, which may still go on.
struct Peer {
    address: SocketAddr,
    upload: Receiving,
    download: Download,
    /// Since the server began.
    accepted: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Watched, if there is a source.
    Running(Option<Watch>),
    /// With what the source reported, if there was one. The watch is dropped: its slot is free.
    Ended(Option<Box<FlowTotals>>),
}

impl Server {
    /// On this socket, with this certificate.
    pub fn new(
        control: &Control,
        tls: QuicServerConfig,
        socket: UdpSocket,
        retry: bool,
    ) -> anyhow::Result<Self> {
        let config = control.server_config(endpoint::server_config(tls));
        let again = socket.try_clone().context("cannot clone the socket")?;
        Ok(Self {
            endpoint: control.endpoint(Some(config), socket)?,
            socket: again,
            retry,
            began: Instant::now(),
            peers: Vec::new(),
        })
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
        let mut accepting = JoinSet::new();
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
                    if self.retry && !incoming.remote_address_validated() {
                        // It may only fail for an address that is validated.
                        let _ = incoming.retry();
                        continue;
                    }
                    accepting.spawn(async move {
                        let address = incoming.remote_address();
                        (address, incoming.await)
                    });
                }
                Some(accepted) = accepting.join_next() => {
                    let (address, connection) = accepted?;
                    let connection = match connection {
                        Ok(connection) => connection,
                        Err(error) => {
                            tracing::info!("{address} did not connect: {error}");
                            continue;
                        }
                    };
                    let index = self.peers.len();
                    let peer = self.admit(&connection, &session.control);
                    let (upload, download) = (peer.upload.clone(), peer.download.clone());
                    self.peers.push(peer);
                    let window = session.control.governors().receive(&connection);
                    serving.spawn(async move {
                        let _window = window;
                        (index, serve(connection, upload, download).await)
                    });
                }
                _ = sample.tick() => {
                    for (index, peer) in self.peers.iter().enumerate() {
                        if let State::Running(watch) = &peer.state {
                            samples.take(index, &peer.download, watch.as_ref())?;
                        }
                    }
                }
                Some(served) = serving.join_next() => {
                    let (index, served) = served?;
                    self.end(index, session);
                    match served {
                        Ok(()) => {
                            ended += 1;
                            crate::say!("{}", self.peers[index]);
                        }
                        Err(error) => {
                            crate::say!("{}: {error:#}", self.peers[index]);
                        }
                    }
                }
                () = &mut over => break,
                asked = &mut interrupted => {
                    asked?;
                    crate::say!("interrupted: what was received so far");
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
        self.report(session, samples)
    }

    fn admit(&self, connection: &Connection, control: &Control) -> Peer {
        let address = connection.remote_address();
        Peer {
            address,
            upload: Receiving::default(),
            download: Download::default(),
            accepted: self.began.elapsed(),
            state: State::Running(control.watch(&self.socket, Some(address))),
        }
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

    fn report(&self, session: &Session, samples: Samples) -> anyhow::Result<ServerReport> {
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
            receive_reductions: session.control.report().receive_reductions,
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

/// Receives or sends as a client wants.
async fn serve(
    connection: Connection,
    upload: Receiving,
    download: Download,
) -> anyhow::Result<()> {
    match Transfer::of(&connection) {
        Transfer::Upload => upload.receive(&connection).await,
        Transfer::Download => download.serve(connection).await,
        Transfer::DownloadThenUpload => {
            let asked = connection.accept_bi().await;
            let streams = asked.context("no download was asked for")?;
            let sending = Sending::over(connection.clone());
            sending.send_until_stopped(streams).await?;
            upload.receive(&connection).await
        }
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
    /// What the source reported of the peers and the host.
    pub signals: SignalsReport,
    /// What the governor did.
    pub governor_actions: GovernorActions,
    /// Times that the window of what is received was reduced, because the socket's buffer
    /// overflowed.
    pub receive_reductions: u64,
    /// What the source reported of each peer.
    #[serde(skip)]
    pub totals: Vec<FlowTotals>,
}

impl fmt::Display for ServerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(downloads) = &self.downloads {
            return write!(f, "{}:\n{downloads}", counted(downloads.flows, "download"));
        }
        write!(
            f,
            "{}, {} in {:.2} s: {:.1} Mbit/s",
            counted(self.flows, "upload"),
            bytes(self.received_bytes),
            self.seconds,
            self.goodput_mbps
        )
    }
}
