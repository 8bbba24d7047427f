//! One run: a path with the traffic of a scenario on it, and what came of that.

use std::fs;
use std::path::Path as File;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use examples::download::DownloadReport;
use examples::report::SenderReport;
use examples::serve::ServerReport;
use examples::trace;
use netlab::{
    BusyProcessors, Family, Iperf3, Iperf3Config, Namespace, Path, Process, QdiscStats, TcpReport,
    UdpFlood,
};
use serde::de::DeserializeOwned;

use super::choices::Tree;
use super::endpoints::Ends;
use super::figures::Side;
use super::interrupt::Interrupt;
use super::over_time::OverTime;
use super::parameters::Parameters;
use super::programs::Programs;
use super::topology::{Topology, bucket, drop_by_policy, whole};
use super::tree::{self, SIBLING};

/// How long a program may take to get ready, and to report at its end.
const GRACE: Duration = Duration::from_secs(20);

/// What came of a run.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The flows that are measured.
    pub(super) report: SenderReport,
    pub(super) over_time: OverTime,
    /// How long each peer of a server took to connect.
    pub(super) connect_ms: Vec<f64>,
    /// Goodput of stock QUIC flows beside them, Mbit/s.
    pub(super) rivals_mbps: Option<f64>,
    pub(super) tcp: Option<TcpReport>,
    /// What passed the bottleneck's queue; `None` without one.
    pub(super) queue: Option<QdiscStats>,
    /// Packets that the queues of the sender's device marked; `None` where they are no tree.
    pub(super) marks: Option<u64>,
    /// Datagrams that the receiving socket had no room for.
    pub(super) receiver_drops: u64,
    /// Packets that the relay dropped though it should not: it was a bottleneck itself.
    pub(super) relay_drops: u64,
}

/// What all runs of a scenario have in common.
pub(super) struct Bench<'a> {
    pub(super) programs: &'a Programs,
    pub(super) parameters: &'a Parameters,
    pub(super) interrupt: &'a Interrupt,
    /// For what programs write.
    pub(super) scratch: &'a File,
}

impl Bench<'_> {
    /// The round trip of the path when next to nothing is sent, the median; ms. The least of three
    /// such, because a machine that is busy for a moment makes the path no slower.
    pub(super) fn idle(&self) -> Result<f64> {
        let idle = Parameters {
            flows: 1,
            stagger_s: 0.0,
            peers: 0,
            tcp: 0,
            rivals: 0,
            step_mbps: None,
            next_hop_mbps: None,
            policy_percent: 0.0,
            loss_percent: 0.0,
            receive_buffer_kb: None,
            busy: 0,
            // A pair of packets, which is acknowledged at once.
            burst_kb: Some(2.0),
            pause_ms: 20.0,
            flood_mbps: 0.0,
            download_first_s: 0.0,
            netem: self.parameters.by_netem(),
            detach: None,
            half_open: 0,
            reconnects: 0,
            disturb: None,
            seconds: 1.5,
            ..*self.parameters
        };
        let bench = Bench {
            parameters: &idle,
            ..*self
        };
        let outcome = bench.run(Side::Stock)?;
        let third = outcome.over_time.end() / 3.0;
        let thirds = [0.0, 1.0, 2.0].map(|n| n * third);
        let medians = thirds.map(|from| outcome.over_time.round_trip(from, from + third));
        let least = medians.into_iter().flatten().min_by(f64::total_cmp);
        least.context("the idle path was not measured")
    }

    /// Lays a path, sends over it, and takes all of it away again.
    pub(super) fn run(&self, side: Side) -> Result<Outcome> {
        self.interrupt.check()?;
        let parameters = self.parameters;
        let topology = Topology::set_up(parameters)?;
        if parameters.policy_percent > 0.0 {
            drop_by_policy(topology.sender(), parameters.policy_percent)?;
        }
        if let (Some(tree), Some(path)) = (parameters.tree, topology.path()) {
            tree.shape(path, parameters)?;
        }
        let trace = self.scratch.join("trace");
        let ends = Ends::of(parameters, &topology, side, &trace);
        let server = self.start(ends.server, &self.programs.server, &ends.server_options)?;
        self.wait_for(&server, "listening at")?;
        let _busy = BusyProcessors::start(parameters.busy.into(), 0)?;
        let before = topology.path().map(Path::bottleneck_stats).transpose()?;

        let client = self.start(ends.client, &self.programs.client, &ends.client_options)?;
        self.wait_for(&client, "connected to")?;
        let began = Instant::now();
        let rivals = self.start_rivals(&topology)?;
        let tcp = match topology.path() {
            Some(path) if parameters.tcp > 0 => Some(Iperf3::start(path, &self.tcp_config())?),
            _ => None,
        };
        let _flood = self.flood(&topology)?;
        self.step_rate(&topology, began, &client)?;
        if let Some(disturbance) = parameters.disturb {
            let has_ended = || client.has_ended();
            disturbance.happen(parameters, &topology, began, self.interrupt, has_ended)?;
        }
        self.wait_for_end(&client, began)?;
        let after = topology.path().map(Path::bottleneck_stats).transpose()?;

        let marks = topology.path().filter(|_| parameters.tree.is_some());
        let marks = marks.map(tree::marks).transpose()?;

        let receiver = topology.receiver().udp_counters(Family::V4)?;
        let relay = topology.path().filter(|path| path.router().is_some());
        let relay = relay.map(Path::relay_stats).transpose()?;
        let rivals = rivals.map(|rivals| -> Result<f64> {
            self.wait_for_end(&rivals, began)?;
            Ok(report::<SenderReport>(&rivals)?.goodput_mbps)
        });
        let mut connect_ms = Vec::new();
        let report = if parameters.peers > 0 {
            self.wait_for_end(&server, began)?;
            let received: DownloadReport = report(&client)?;
            connect_ms = received.connect_ms;
            let served: ServerReport = report(&server)?;
            served.downloads.context("the server sent nothing")?
        } else {
            report(&client)?
        };
        Ok(Outcome {
            report,
            over_time: OverTime::new(trace::read(&trace)?),
            connect_ms,
            rivals_mbps: rivals.transpose()?,
            tcp: tcp.map(|tcp| self.finish_tcp(tcp)).transpose()?,
            // A queue that counted less than before is another one: the first was replaced.
            queue: after
                .zip(before)
                .filter(|(after, before)| after.sent_bytes >= before.sent_bytes)
                .map(|(after, before)| after.since(&before)),
            marks,
            receiver_drops: receiver.receive_buffer_errors,
            relay_drops: relay.map_or(0, |relay| {
                relay.forward.unintended_drops() + relay.backward.unintended_drops()
            }),
        })
    }

    /// TCP alone in the place of the flows.
    pub(super) fn run_tcp(&self, congestion: &str) -> Result<(TcpReport, Option<QdiscStats>)> {
        self.interrupt.check()?;
        let topology = Topology::set_up(self.parameters)?;
        let path = topology
            .path()
            .context("a single host has no path for TCP")?;
        if let Some(tree) = self.parameters.tree {
            tree.shape(path, self.parameters)?;
        }
        let _busy = BusyProcessors::start(self.parameters.busy.into(), 0)?;
        let config = Iperf3Config {
            congestion: congestion.to_owned(),
            connections: u8::try_from(self.parameters.flows)?,
            ..self.tcp_config()
        };
        let tcp = self.finish_tcp(Iperf3::start(path, &config)?)?;
        Ok((tcp, Some(path.bottleneck_stats()?)))
    }

    fn start(&self, namespace: &Namespace, program: &str, options: &str) -> Result<Process> {
        self.interrupt.check()?;
        Ok(Process::start(namespace, program, options)?)
    }

    fn start_rivals(&self, topology: &Topology) -> Result<Option<Process>> {
        if self.parameters.rivals == 0 {
            return Ok(None);
        }
        let options = Ends::rivals(self.parameters, topology);
        let rivals = self.start(topology.sender(), &self.programs.client, &options)?;
        Ok(Some(rivals))
    }

    fn flood(&self, topology: &Topology) -> Result<Option<UdpFlood>> {
        let Some(path) = topology.path().filter(|_| self.parameters.flood_mbps > 0.0) else {
            return Ok(None);
        };
        let time = match self.parameters.download_first_s {
            0.0 => self.parameters.seconds,
            first => first,
        };
        let rate = whole(self.parameters.flood_mbps * 1e6);
        let time = Duration::from_secs_f64((time - 0.5).max(0.0));
        let priority = match self.parameters.tree {
            Some(Tree::HtbSibling) => SIBLING,
            _ => 0,
        };
        Ok(Some(UdpFlood::start(path, rate, time, priority)?))
    }

    fn tcp_config(&self) -> Iperf3Config {
        Iperf3Config {
            // It knows whole seconds alone.
            duration: Duration::from_secs_f64(self.parameters.seconds.round()),
            connections: self.parameters.tcp,
            ..Iperf3Config::default()
        }
    }

    fn finish_tcp(&self, tcp: Iperf3) -> Result<TcpReport> {
        // It ends with the others, or at its own limit.
        self.interrupt.check()?;
        Ok(tcp.finish()?)
    }

    /// Changes the rate at its times, if it is to be changed.
    fn step_rate(&self, topology: &Topology, began: Instant, client: &Process) -> Result<()> {
        let (Some(step), Some(path)) = (self.parameters.step_mbps, topology.path()) else {
            return Ok(());
        };
        let (fall, rise) = self.parameters.step_times();
        for (time, rate) in [(fall, step), (rise, self.parameters.rate_mbps)] {
            let due = began + Duration::from_secs_f64(time);
            self.interrupt.wait(due, || Ok(client.has_ended()))?;
            path.change_bottleneck(bucket(self.parameters, rate))?;
        }
        Ok(())
    }

    fn wait_for(&self, process: &Process, text: &str) -> Result<()> {
        let said = self.interrupt.wait(Instant::now() + GRACE, || {
            ensure!(!process.has_ended(), "{}", failure(process));
            Ok(process.output()?.contains(text))
        })?;
        ensure!(
            said,
            "`{}` did not get ready: {}",
            process.command(),
            process.complaint()?
        );
        Ok(())
    }

    fn wait_for_end(&self, process: &Process, began: Instant) -> Result<()> {
        let deadline = began + self.parameters.duration() + GRACE;
        if !self.interrupt.wait(deadline, || Ok(process.has_ended()))? {
            bail!("`{}` does not end", process.command());
        }
        Ok(())
    }
}

/// What a program reported, if it ended well.
fn report<Report: DeserializeOwned>(process: &Process) -> Result<Report> {
    let succeeded = process.status()?.is_some_and(|status| status.success());
    ensure!(succeeded, "{}", failure(process));
    let output = process.output()?;
    let last = output.lines().last().unwrap_or_default();
    serde_json::from_str(last)
        .with_context(|| format!("the last line of `{}` is no report", process.command()))
}

fn failure(process: &Process) -> String {
    let said = process.complaint().unwrap_or_default();
    format!("`{}` failed: {}", process.command(), said.trim())
}

/// The load of this machine: processes that ran or wanted to, the mean of the last minute.
pub(super) fn load_average() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg").context("cannot read /proc/loadavg")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first
        .parse()
        .with_context(|| format!("/proc/loadavg begins with {first:?}"))
}
