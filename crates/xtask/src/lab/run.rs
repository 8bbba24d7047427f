//! One run: a path with the traffic of a scenario on it, and what came of that.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path as File;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use examples::report::SenderReport;
use examples::serve::ServerReport;
use examples::trace;
use netlab::{
    Bottleneck, BusyProcessors, Family, Impairment, Iperf3, Iperf3Config, Namespace, Path,
    PathConfig, Process, QdiscStats, RelayConfig, TcpReport, TokenBucket,
};

use serde::de::DeserializeOwned;

use super::figures::Side;
use super::interrupt::Interrupt;
use super::over_time::OverTime;
use super::parameters::{Parameters, Place};
use super::programs::Programs;

const PORT: u16 = 4433;

/// How long a program may take to get ready, and to report at its end.
const GRACE: Duration = Duration::from_secs(20);

/// What came of a run.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The flows that are measured.
    pub(super) report: SenderReport,
    pub(super) over_time: OverTime,
    /// Goodput of stock QUIC flows beside them, Mbit/s.
    pub(super) rivals_mbps: Option<f64>,
    pub(super) tcp: Option<TcpReport>,
    /// What passed the bottleneck's queue; `None` without one.
    pub(super) queue: Option<QdiscStats>,
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

/// Where the ends of the connections are.
enum Ground {
    Path(Box<Path>),
    Host(Namespace),
}

/// The two programs of a run.
struct Ends<'a> {
    server: &'a Namespace,
    server_options: String,
    client: &'a Namespace,
    client_options: String,
}

impl Ground {
    fn lay(parameters: &Parameters) -> Result<Self> {
        let bucket = bucket(parameters, parameters.rate_mbps);
        let bottleneck = match parameters.bottleneck {
            Place::SameHost => return Ok(Self::Host(Namespace::new()?)),
            Place::Local => Bottleneck::Local(bucket),
            Place::Remote => Bottleneck::Remote(bucket),
        };
        let way = |loss| Impairment {
            delay: millis(parameters.delay_ms / 2.0),
            jitter: millis(parameters.jitter_ms / 2.0),
            loss,
        };
        let path = Path::new(&PathConfig {
            bottleneck,
            relay: Some(RelayConfig {
                forward: way(parameters.loss_percent / 100.0),
                backward: way(0.0),
                ..RelayConfig::symmetric(Duration::ZERO)
            }),
            ..PathConfig::default()
        })?;
        Ok(Self::Path(Box::new(path)))
    }

    fn sender(&self) -> &Namespace {
        match self {
            Self::Path(path) => path.sender(),
            Self::Host(host) => host,
        }
    }

    fn receiver(&self) -> &Namespace {
        match self {
            Self::Path(path) => path.receiver(),
            Self::Host(host) => host,
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Host(_) => None,
        }
    }

    /// The addresses of sender and receiver.
    fn addresses(&self) -> (IpAddr, IpAddr) {
        match self {
            Self::Path(path) => {
                let ends = path.addresses(Family::V4);
                (ends.sender, ends.receiver)
            }
            Self::Host(_) => (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()),
        }
    }
}

impl Bench<'_> {
    /// The round trip of the path when next to nothing is sent, the median; ms.
    pub(super) fn idle(&self) -> Result<f64> {
        let idle = Parameters {
            flows: 1,
            stagger_s: 0.0,
            peers: 0,
            tcp: 0,
            rivals: 0,
            step_mbps: None,
            policy_percent: 0.0,
            loss_percent: 0.0,
            receive_buffer_kb: None,
            busy: 0,
            // A pair of packets, which is acknowledged at once.
            burst_kb: Some(2.0),
            pause_ms: 20.0,
            detach: None,
            seconds: 1.5,
            ..*self.parameters
        };
        let bench = Bench {
            parameters: &idle,
            ..*self
        };
        let outcome = bench.run(Side::Stock)?;
        Ok(outcome.report.rtt_us.p50 as f64 / 1e3)
    }

    /// Lays a path, sends over it, and takes all of it away again.
    pub(super) fn run(&self, side: Side) -> Result<Outcome> {
        self.interrupt.check()?;
        let parameters = self.parameters;
        let ground = Ground::lay(parameters)?;
        if parameters.policy_percent > 0.0 {
            drop_by_policy(ground.sender(), parameters.policy_percent)?;
        }
        let trace = self.scratch.join("trace");
        let ends = self.ends(&ground, side, &trace);
        let server = self.start(ends.server, &self.programs.server, &ends.server_options)?;
        self.wait_for(&server, "listening at")?;
        let _busy = BusyProcessors::start(parameters.busy.into(), 0)?;
        let before = ground.path().map(Path::bottleneck_stats).transpose()?;

        let client = self.start(ends.client, &self.programs.client, &ends.client_options)?;
        self.wait_for(&client, "connected to")?;
        let began = Instant::now();
        let rivals = self.start_rivals(&ground)?;
        let tcp = match ground.path() {
            Some(path) if parameters.tcp > 0 => Some(Iperf3::start(path, &self.tcp_config())?),
            _ => None,
        };
        self.step_rate(&ground, began, &client)?;
        self.wait_for_end(&client, began)?;
        let after = ground.path().map(Path::bottleneck_stats).transpose()?;

        let receiver = ground.receiver().udp_counters(Family::V4)?;
        let relay = ground.path().map(Path::relay_stats).transpose()?;
        let rivals = rivals.map(|rivals| -> Result<f64> {
            self.wait_for_end(&rivals, began)?;
            Ok(report::<SenderReport>(&rivals)?.goodput_mbps)
        });
        let report = if parameters.peers > 0 {
            self.wait_for_end(&server, began)?;
            let served: ServerReport = report(&server)?;
            served.downloads.context("the server sent nothing")?
        } else {
            report(&client)?
        };
        Ok(Outcome {
            report,
            over_time: OverTime::new(trace::read(&trace)?),
            rivals_mbps: rivals.transpose()?,
            tcp: tcp.map(|tcp| self.finish_tcp(tcp)).transpose()?,
            queue: after
                .zip(before)
                .map(|(after, before)| after.since(&before)),
            receiver_drops: receiver.receive_buffer_errors,
            relay_drops: relay.map_or(0, |relay| {
                relay.forward.unintended_drops() + relay.backward.unintended_drops()
            }),
        })
    }

    fn start(&self, namespace: &Namespace, program: &str, options: &str) -> Result<Process> {
        self.interrupt.check()?;
        Ok(Process::start(namespace, program, options)?)
    }

    /// Who serves and who connects, and how. The one that sends is measured: it stands before the
    /// bottleneck, is governed or not, and writes the trace.
    fn ends<'b>(&self, ground: &'b Ground, side: Side, trace: &File) -> Ends<'b> {
        let parameters = self.parameters;
        let (sender_address, receiver_address) = ground.addresses();
        let base = base_name(parameters);
        let measured = format!(
            "--source ebpf --governor {} --base {base} --json --trace {}",
            switch(side),
            trace.display()
        );
        if parameters.peers > 0 {
            let address = SocketAddr::new(sender_address, PORT);
            let (peers, seconds) = (parameters.peers, parameters.seconds);
            return Ends {
                server: ground.sender(),
                server_options: format!("--listen {address} --flows {peers} {measured}"),
                client: ground.receiver(),
                client_options: format!(
                    "--connect {address} --seconds {seconds} --flows {peers} --download \
                     --source none --json"
                ),
            };
        }
        let address = SocketAddr::new(receiver_address, PORT);
        Ends {
            server: ground.receiver(),
            server_options: format!("--listen {address} {}", self.receiving(side)),
            client: ground.sender(),
            client_options: format!("--connect {address} {measured} {}", self.sending()),
        }
    }

    /// A receiving server's options.
    fn receiving(&self, side: Side) -> String {
        let parameters = self.parameters;
        let mut options = if parameters.bottleneck == Place::SameHost {
            // There the receiving side can do something about it.
            format!("--source ebpf --governor {}", switch(side))
        } else {
            "--source none".to_owned()
        };
        if let Some(buffer) = parameters.receive_buffer_kb {
            options += &format!(" --receive-buffer {}", bytes(buffer));
        }
        options
    }

    /// A sending client's options.
    fn sending(&self) -> String {
        let parameters = self.parameters;
        let mut options = format!(
            "--seconds {} --flows {}",
            parameters.seconds, parameters.flows
        );
        if parameters.stagger_s > 0.0 {
            options += &format!(" --stagger {}", parameters.stagger_s);
        }
        if let Some(burst) = parameters.burst_kb {
            let pause = parameters.pause_ms / 1e3;
            options += &format!(" --burst {} --pause {pause}", bytes(burst));
        }
        if let Some(share) = parameters.detach {
            options += &format!(" --detach-after {}", share * parameters.seconds);
        }
        options
    }

    fn start_rivals(&self, ground: &Ground) -> Result<Option<Process>> {
        let Parameters {
            rivals, seconds, ..
        } = *self.parameters;
        if rivals == 0 {
            return Ok(None);
        }
        let address = SocketAddr::new(ground.addresses().1, PORT);
        let base = base_name(self.parameters);
        let options = format!(
            "--connect {address} --seconds {seconds} --flows {rivals} --base {base} \
             --governor off --source none --json"
        );
        let rivals = self.start(ground.sender(), &self.programs.client, &options)?;
        Ok(Some(rivals))
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
    fn step_rate(&self, ground: &Ground, began: Instant, client: &Process) -> Result<()> {
        let (Some(step), Some(path)) = (self.parameters.step_mbps, ground.path()) else {
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

/// Lets nftables drop a share of the datagrams that leave a namespace.
fn drop_by_policy(namespace: &Namespace, percent: f64) -> Result<()> {
    // In ten-thousandths; what the filter drops it drops as it was sent, batches whole.
    let of_ten_thousand = (percent * 100.0).round();
    let rules = format!(
        "add table inet lab; \
         add chain inet lab leaving {{ type filter hook output priority 0; }}; \
         add rule inet lab leaving meta l4proto udp numgen random mod 10000 < {of_ten_thousand} drop"
    );
    let output = namespace.command("nft").arg(rules).output();
    let output = output.context("cannot start nft: install nftables")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft refused its rules: {said}");
    Ok(())
}

fn bucket(parameters: &Parameters, rate_mbps: f64) -> TokenBucket {
    TokenBucket {
        rate: whole(rate_mbps * 1e6),
        burst: bytes(parameters.bucket_kb),
        limit: bytes(parameters.queue_kb),
    }
}

fn switch(side: Side) -> &'static str {
    match side {
        Side::Stock => "off",
        Side::Governed => "on",
    }
}

fn base_name(parameters: &Parameters) -> String {
    format!("{:?}", parameters.base).to_lowercase()
}

fn millis(millis: f64) -> Duration {
    Duration::from_secs_f64(millis / 1e3)
}

fn bytes(kilobytes: f64) -> u32 {
    u32::try_from(whole(kilobytes * 1e3)).unwrap_or(u32::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "parameters are positive and far below 2^53, which was checked"
)]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// The load of this machine: processes that ran or wanted to, the mean of the last minute.
pub(super) fn load_average() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg").context("cannot read /proc/loadavg")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first
        .parse()
        .with_context(|| format!("/proc/loadavg begins with {first:?}"))
}
