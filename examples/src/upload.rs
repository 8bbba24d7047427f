//! Uploads for a time over a number of connections, measured.

use std::fs::File;
use std::io::BufWriter;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use ebpf_congestion_signals::{Recorder, Watch};
use quinn::{ClientConfig, ConnectionStats, Endpoint};
use quinn_governor::DecisionLog;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::args::Load;
use crate::baseline::Gate;
use crate::certificate::{Transfer, Trust};
use crate::connect;
use crate::control::Control;
use crate::endpoint;
use crate::interrupt;
use crate::invented::Invention;
use crate::lines::{Now, Progress};
use crate::measure::Distributions;
use crate::receive::Receiving;
use crate::send::Sending;
use crate::signals::Observation;
use crate::source::Source;
use crate::trace::{self, Row};

/// How often round trips and windows are sampled.
pub(crate) const SAMPLE_INTERVAL: Duration = Duration::from_millis(10);

/// How long to wait at the end until the peer knows that a connection is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections to a server, ready to upload.
pub struct Uploads {
    flows: Vec<Flow>,
    load: Load,
}

/// A connection: from a socket of its own, as separate programs would have, or all from one.
struct Flow {
    upload: Sending,
    endpoint: Endpoint,
    /// The socket as the source watches it; `None` without a source, and where another flow has
    /// the same socket.
    watch: Option<Watch>,
    invention: Option<Invention>,
    gate: Option<Gate>,
}

/// What was measured.
#[derive(Debug)]
pub struct Measured {
    /// The flows, in the order in which they connected.
    pub flows: Vec<MeasuredFlow>,
    /// Round trips and windows.
    pub distributions: Distributions,
    /// Why it ended early, if it failed.
    pub failure: Option<anyhow::Error>,
    /// Whether the user asked for an end.
    pub interrupted: bool,
}

/// A flow, in the end.
#[derive(Clone, Debug)]
pub struct MeasuredFlow {
    /// Bytes that the receiver had.
    pub delivered: u64,
    /// For how long it sent.
    pub sent_for: Duration,
    /// quinn's counters.
    pub stats: ConnectionStats,
    /// How long each burst took to be acknowledged; empty if it sent all the time.
    pub bursts: Vec<Duration>,
    /// The flow as the source watches it.
    pub watch: Option<Watch>,
}

impl Uploads {
    /// Connects as often as the load says.
    pub async fn connect(
        server: SocketAddr,
        trust: &Trust,
        load: Load,
        control: &Control,
    ) -> anyhow::Result<Self> {
        let transfer = match load.download_first {
            Some(_) => Transfer::DownloadThenUpload,
            None => Transfer::Upload,
        };
        let client = ClientConfig::new(Arc::new(trust.client(transfer)?));
        connect::half_open(server, &client, load.half_open).await?;
        let mut flows: Vec<Flow> = Vec::new();
        let mut log = load.qlog.as_deref().map(qlog).transpose()?;
        for _ in 0..load.flows {
            let shared = flows.first().filter(|_| load.one_socket);
            let (endpoint, watch, gate) = match shared {
                Some(first) => (first.endpoint.clone(), None, None),
                None => {
                    let socket = endpoint::bind_for(server)?;
                    load.baseline.prepare(&socket)?;
                    let watch = control.watch(&socket, None);
                    let gate = load.baseline.gate(&socket)?;
                    (control.endpoint(None, socket)?, watch, gate)
                }
            };
            let log = log.take();
            let mut config = client.clone();
            let mut transport = control.transport(log.as_ref());
            if let Some(controller) = load.baseline.controller() {
                transport.congestion_controller_factory(controller);
            }
            config.transport_config(Arc::new(transport));
            let (upload, _) = connect::connect(&endpoint, config, server, &load).await?;
            flows.push(Flow {
                gate,
                ..Flow::new(endpoint, watch, upload, control)
            });
        }
        Ok(Self { flows, load })
    }

    /// The connection of a flow, in the order in which they connected.
    pub fn connection(&self, flow: usize) -> &quinn::Connection {
        self.flows[flow].upload.connection()
    }

    /// Uploads until the time is over, a flow fails or the user asks for an end, and shows how it
    /// goes on.
    pub async fn run(
        mut self,
        control: &Control,
        mut observation: Option<&mut Observation>,
        progress: &mut dyn Progress,
    ) -> anyhow::Result<Measured> {
        let mut distributions = Distributions::new()?;
        let trace = self.load.trace.as_deref();
        let mut trace = trace.map(trace::Writer::create).transpose()?;
        let mut recorder = self.recorder(control)?;
        let (stop, stopped) = watch::channel(false);
        let mut sending = JoinSet::new();
        for (index, flow) in self.flows.iter().enumerate() {
            let (upload, stopped) = (flow.upload.clone(), stopped.clone());
            let bursts = self.load.bursts;
            let wait = self.load.stagger.unwrap_or_default() * u32::try_from(index)?;
            let download = self.load.download_first;
            sending.spawn(async move {
                sleep(wait).await;
                if let Some(time) = download {
                    let downloaded = Receiving::default()
                        .fetch_until(upload.connection(), sleep(time))
                        .await;
                    if let Err(error) = downloaded {
                        return (index, Err(error));
                    }
                }
                (index, upload.send(stopped, bursts).await)
            });
        }
        let mut sent_for = vec![None; self.flows.len()];
        let mut failure = None;
        let mut note = |ended: Result<(usize, anyhow::Result<Duration>), _>| match ended {
            Ok((index, Ok(time))) => sent_for[index] = Some(time),
            Ok((index, Err(error))) => {
                let error = error.context(format!("flow {} failed", index + 1));
                failure.get_or_insert(error);
            }
            Err(panicked) => {
                failure.get_or_insert(anyhow::Error::from(panicked));
            }
        };

        let began = Instant::now();
        let interrupted = interrupt::requested();
        let detach = after(self.load.detach_after);
        let rebind = after(self.load.rebind_after);
        let mut detached = false;
        let mut rebound = false;
        let mut was_interrupted = false;
        let mut sample = interval(SAMPLE_INTERVAL);
        sample.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut second = interval(Duration::from_secs(1));
        second.tick().await;
        let over = sleep(self.load.seconds);
        tokio::pin!(over, interrupted, detach, rebind);
        loop {
            tokio::select! {
                // So that the last second is shown.
                biased;
                _ = sample.tick() => {
                    self.sample(&mut distributions);
                    progress.sample(&self.now(began.elapsed()));
                    if let Some(trace) = &mut trace {
                        self.trace(began.elapsed(), trace)?;
                    }
                    if let Some(recorder) = &mut recorder {
                        recorder.record().context("cannot write the recording")?;
                    }
                    self.invent(began.elapsed());
                    for flow in &mut self.flows {
                        if let Some(gate) = &mut flow.gate {
                            gate.follow(began.elapsed(), flow.upload.delivered())?;
                        }
                    }
                }
                () = &mut detach, if !detached => {
                    detached = true;
                    control.source().detach();
                    crate::say!("probes detached");
                }
                () = &mut rebind, if !rebound => {
                    rebound = true;
                    for flow in &mut self.flows {
                        flow.rebind(control)?;
                    }
                    crate::say!("rebound to new sockets");
                }
                _ = second.tick() => {
                    let signals = observation.as_mut().map(|observed| observed.interval());
                    progress.second(&Now {
                        signals,
                        ..self.now(began.elapsed())
                    });
                }
                () = &mut over => break,
                asked = &mut interrupted => {
                    asked?;
                    was_interrupted = true;
                    crate::say!("interrupted: what was measured so far");
                    break;
                }
                // Before its time: it failed.
                Some(ended) = sending.join_next() => {
                    note(ended);
                    break;
                }
            }
        }
        let elapsed = began.elapsed();
        stop.send_replace(true);
        while let Some(ended) = sending.join_next().await {
            note(ended);
        }
        let mut flows = Vec::new();
        for (flow, sent_for) in self.flows.into_iter().zip(sent_for) {
            flows.push(MeasuredFlow {
                delivered: flow.upload.delivered(),
                sent_for: sent_for.unwrap_or(elapsed),
                stats: flow.upload.connection().stats(),
                bursts: flow.upload.bursts(),
                watch: flow.watch,
            });
            // Elapsed or not, there is nothing more to do for it.
            let _ = timeout(CLOSE_TIMEOUT, flow.endpoint.wait_idle()).await;
        }
        trace.map_or(Ok(()), trace::Writer::finish)?;
        if let Some(recorder) = recorder {
            recorder.finish().context("cannot write the recording")?;
        }
        Ok(Measured {
            flows,
            distributions,
            failure,
            interrupted: was_interrupted,
        })
    }

    fn recorder(&self, control: &Control) -> anyhow::Result<Option<Recorder<BufWriter<File>>>> {
        let Some(file) = &self.load.record else {
            return Ok(None);
        };
        let source = control.source().signals();
        let source = source.context("there are no signals to record: --record needs a source")?;
        let failed = || format!("cannot write a recording to {}", file.display());
        let out = File::create(file).with_context(failed)?;
        let mut recorder = Recorder::new(source, BufWriter::new(out)).with_context(failed)?;
        for flow in &self.flows {
            if let Some(watch) = &flow.watch {
                recorder.add(watch.clone());
            }
        }
        Ok(Some(recorder))
    }

    fn sample(&self, distributions: &mut Distributions) {
        for flow in &self.flows {
            distributions.sample(flow.upload.connection());
        }
    }

    fn trace(&self, elapsed: Duration, trace: &mut trace::Writer) -> anyhow::Result<()> {
        for (index, flow) in self.flows.iter().enumerate() {
            trace.write(&Row::new(elapsed, index, &flow.upload, flow.watch.as_ref()))?;
        }
        Ok(())
    }

    fn invent(&mut self, elapsed: Duration) {
        for flow in &mut self.flows {
            if let Some(invention) = &mut flow.invention {
                invention.tell(elapsed);
            }
        }
    }

    fn now(&self, elapsed: Duration) -> Now {
        let paths = self
            .flows
            .iter()
            .map(|flow| flow.upload.connection().stats().path);
        let none = (Duration::ZERO, 0, 0);
        let (round_trips, windows, lost) = paths.fold(none, |(trips, windows, lost), path| {
            (
                trips + path.rtt,
                windows + path.cwnd,
                lost + path.lost_packets,
            )
        });
        let count = u32::from(self.load.flows);
        Now {
            elapsed,
            delivered: self.flows.iter().map(|flow| flow.upload.delivered()).sum(),
            signals: None,
            round_trip: round_trips / count,
            window: windows / u64::from(count),
            lost,
        }
    }
}

/// Waits this long; for ever, without a time.
async fn after(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}

/// A qlog in this file, from now on.
fn qlog(file: &Path) -> anyhow::Result<DecisionLog> {
    let out = File::create(file);
    let out = out.with_context(|| format!("cannot write a qlog to {}", file.display()))?;
    Ok(DecisionLog::new(Instant::now(), BufWriter::new(out)))
}

impl Flow {
    fn new(endpoint: Endpoint, watch: Option<Watch>, upload: Sending, control: &Control) -> Self {
        let invention = match (control.source(), &watch) {
            (Source::Mock(mock), Some(watch)) => Invention::new(mock, watch),
            _ => None,
        };
        Self {
            upload,
            endpoint,
            watch,
            invention,
            gate: None,
        }
    }

    /// Goes on from a new socket, as after a change of the network.
    fn rebind(&mut self, control: &Control) -> anyhow::Result<()> {
        let server = self.upload.connection().remote_address();
        let socket = endpoint::bind_for(server)?;
        if self.watch.is_some() {
            self.watch = control.watch(&socket, None);
        }
        self.endpoint
            .rebind(socket)
            .context("cannot go on from another socket")
    }
}
