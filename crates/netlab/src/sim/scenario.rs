//! What is simulated.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quinn_proto::TransportConfig;
use quinn_proto::congestion::ControllerFactory;

use super::app::App;
use super::link::LinkConfig;
use super::process::Process;
use super::processor::Stalls;
use super::receiver::ReceiverConfig;
use super::signals::SignalConfig;
use super::tcp::TcpSpec;
use super::time::SimTime;
use super::window::WindowControl;

/// A sender's host, a path, receivers, and what is sent. Same scenario, same outcome, to the byte
/// and on any machine.
///
/// Packets go through `egress`, the queue of the sender's own host and the one that signals tell
/// of; then through `hops`; acknowledgements come back over `back`. What makes the path slow makes
/// the topology: a rate at `egress` is a local bottleneck, one at a hop is a remote one, a slow
/// `receiver` is one there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Scenario {
    /// Everything that is random comes from here.
    pub seed: u64,
    /// How long.
    pub duration: Duration,
    /// The sender's own device and its queue.
    pub egress: LinkConfig,
    /// What follows behind it.
    pub hops: Vec<LinkConfig>,
    /// The way back.
    pub back: LinkConfig,
    /// Every flow's receiving host.
    pub receiver: ReceiverConfig,
    /// Who sets the window of every flow's receiver; `None`: it stays as it is.
    pub window_control: Option<WindowControl>,
    /// The sending host.
    pub host: HostConfig,
    /// How faithful the signals are.
    pub signals: SignalConfig,
    /// QUIC flows.
    pub flows: Vec<FlowSpec>,
    /// TCP-like flows.
    pub competitors: Vec<TcpSpec>,
    /// How often a row of the trace is written; `None`: never.
    pub trace_interval: Option<Duration>,
    /// Whether outcomes hold every single window.
    pub record_steps: bool,
}

impl Scenario {
    /// A path without a bottleneck, of this round trip, half of it on the way back.
    pub fn new(round_trip: Duration) -> Self {
        Self {
            seed: 1,
            duration: Duration::from_secs(8),
            egress: LinkConfig::wire(Duration::ZERO),
            hops: vec![LinkConfig::wire(round_trip / 2)],
            back: LinkConfig::wire(round_trip - round_trip / 2),
            receiver: ReceiverConfig::default(),
            window_control: None,
            host: HostConfig::default(),
            signals: SignalConfig::default(),
            flows: Vec::new(),
            competitors: Vec::new(),
            trace_interval: None,
            record_steps: false,
        }
    }

    /// A bottleneck in the sender's own host.
    pub fn local(bottleneck: LinkConfig, round_trip: Duration) -> Self {
        Self {
            egress: bottleneck,
            ..Self::new(round_trip)
        }
    }

    /// A bottleneck one hop behind the sender's host, whose device is `egress`.
    pub fn remote(egress: LinkConfig, bottleneck: LinkConfig, round_trip: Duration) -> Self {
        let mut scenario = Self::new(round_trip);
        scenario.egress = egress;
        scenario.hops.insert(0, bottleneck);
        scenario
    }

    /// With one more QUIC flow.
    #[must_use]
    pub fn flow(mut self, flow: FlowSpec) -> Self {
        self.flows.push(flow);
        self
    }

    /// With one more TCP-like flow.
    #[must_use]
    pub fn competitor(mut self, competitor: TcpSpec) -> Self {
        self.competitors.push(competitor);
        self
    }

    /// For so long.
    #[must_use]
    pub fn lasting(self, duration: Duration) -> Self {
        Self { duration, ..self }
    }
}

/// The sending host.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct HostConfig {
    /// Bytes that a socket may have in the host (`SO_SNDBUF`), as the kernel accounts them: it
    /// takes a batch while there are fewer, and says EAGAIN from then on until half are gone.
    pub send_buffer: u64,
    /// Datagrams of a batch (UDP GSO) at most.
    pub max_segments: usize,
    /// Timers fire at multiples of this: tokio's wheel turns once a millisecond.
    pub timer_granularity: Duration,
    /// Probability that a firewall of the host drops a batch before the device.
    pub policy_loss: f64,
    /// Whether all processes read one source's counters, as from a broker, and so know of each
    /// other's flows. Else each counts as sharing the queue its own alone.
    pub broker: bool,
    /// When the sending programs do not run because others do; `None`: they always do.
    pub stalls: Option<Stalls>,
    /// When the kernel takes no datagrams.
    pub outage: Option<Outage>,
}

/// A time in which sends fail before the kernel observes them, and what was sent is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When it begins.
    pub at: Duration,
    /// For how long.
    pub lasting: Duration,
    /// Datagrams of so many bytes still pass: the device's MTU, less headers. 0: none passes.
    pub passes: usize,
    /// Nothing arrives either: the device is down.
    pub deaf: bool,
}

impl Outage {
    pub(super) fn is_on(&self, now: SimTime) -> bool {
        let now = now.since_start();
        now >= self.at && now < self.at + self.lasting
    }
}

impl Default for HostConfig {
    /// As quinn finds it on Linux.
    fn default() -> Self {
        Self {
            send_buffer: 212_992,
            max_segments: 10,
            timer_granularity: Duration::from_millis(1),
            policy_loss: 0.0,
            broker: false,
            stalls: None,
            outage: None,
        }
    }
}

/// Changes a transport's configuration.
pub type TransportChange = Arc<dyn Fn(&mut TransportConfig) + Send + Sync>;

/// A QUIC flow from the sender's host to a receiver of its own.
#[derive(Clone)]
#[non_exhaustive]
pub struct FlowSpec {
    /// When it connects.
    pub start: Duration,
    /// Who controls its window.
    pub controller: Control,
    /// What it sends.
    pub app: App,
    /// The receiver sends as much as it can until then, and the sender acknowledgements; what the
    /// sender sends of itself begins then.
    pub downloads_until: Option<Duration>,
    /// Flows of one number share a socket, with its send buffer. Each has its own unless said.
    pub socket: Option<usize>,
    /// Whether the signals distinguish the flows of its socket.
    pub watching: Watching,
    /// Added to the delay of the path, each way.
    pub extra_delay: Duration,
    /// When the host's queue drops one of its datagrams, the next that comes, whatever room it has.
    pub drop_at: Option<Duration>,
    /// Changes quinn's default configuration, at the sender.
    pub transport: Option<TransportChange>,
}

impl FlowSpec {
    /// A flow that sends as much as it can from the start on.
    pub fn new(controller: Control) -> Self {
        Self {
            start: Duration::ZERO,
            controller,
            app: App::Bulk,
            downloads_until: None,
            socket: None,
            watching: Watching::Peer,
            extra_delay: Duration::ZERO,
            drop_at: None,
            transport: None,
        }
    }

    /// Starting at this time.
    #[must_use]
    pub fn starting(self, start: Duration) -> Self {
        Self { start, ..self }
    }

    /// Sending this.
    #[must_use]
    pub fn sending(self, app: App) -> Self {
        Self { app, ..self }
    }

    /// Receiving as much as it can before it sends anything, until this time.
    #[must_use]
    pub fn downloading_until(self, until: Duration) -> Self {
        Self {
            downloads_until: Some(until),
            ..self
        }
    }

    /// On the socket of this number.
    #[must_use]
    pub fn on_socket(self, socket: usize, watching: Watching) -> Self {
        Self {
            socket: Some(socket),
            watching,
            ..self
        }
    }
}

impl fmt::Debug for FlowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowSpec")
            .field("start", &self.start)
            .field("controller", &self.controller)
            .field("app", &self.app)
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// What signals are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watching {
    /// The flow by itself, by its peer's address.
    #[default]
    Peer,
    /// All flows of its socket together.
    Socket,
}

/// Who controls a flow's window.
#[derive(Clone)]
pub enum Control {
    /// A controller that knows nothing of the host.
    Stock(Arc<dyn ControllerFactory + Send + Sync>),
    /// One made by a process that has the host's signals. Flows of one process share it.
    Governed(Process),
}

impl Control {
    /// A controller that knows nothing of the host.
    pub fn stock(factory: impl ControllerFactory + Send + Sync + 'static) -> Self {
        Self::Stock(Arc::new(factory))
    }
}

impl Control {
    /// The same in another process.
    #[must_use]
    pub fn another(&self) -> Self {
        match self {
            Self::Stock(factory) => Self::Stock(Arc::clone(factory)),
            Self::Governed(process) => Self::Governed(process.another()),
        }
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stock(_) => "Stock",
            Self::Governed(_) => "Governed",
        })
    }
}
