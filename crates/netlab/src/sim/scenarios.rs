//! Scenarios with names, each for a controller to be tried in.
//!
//! Unless said otherwise: 50 Mbit/s, a queue of 150 kB in the sender's own host, 20 ms round trip,
//! 8 s. The bottleneck is of either [`Kind`]: a sender is to be good at both. The way back has half
//! a millisecond of jitter. That is little, but no path has none, and it matters: quinn's BBR takes
//! the spacing of single acknowledgements for the bandwidth, and only where that is perfectly even
//! is it right.

use std::time::Duration;

use super::app::App;
use super::link::{Discipline, LinkConfig};
use super::loss::Loss;
use super::processor::Stalls;
use super::receiver::ReceiverConfig;
use super::scenario::{Control, FlowSpec, Outage, Scenario, Watching};
use super::signals::{EndManner, SignalConfig, SignalEnd};
use super::tcp::TcpSpec;
use super::tcp_window::TcpLaw;

/// Bits per second.
pub const RATE: u64 = 50_000_000;

/// Bytes.
pub const QUEUE: u64 = 150_000;

/// Without a queue.
pub const ROUND_TRIP: Duration = Duration::from_millis(20);

/// Bytes that a token bucket lets pass at once: a full batch fits.
const BURST: u64 = 20_000;

/// Bytes on the wire of a full datagram.
const DATAGRAM: u64 = 1_494;

const BACK_JITTER: Duration = Duration::from_micros(500);

/// The sender's own device where the bottleneck is elsewhere: ten times as fast as any of these.
const FAST_DEVICE: u64 = 10_000_000_000;
const FAST_DEVICE_QUEUE: u64 = 1_500_000;

/// What makes a bottleneck slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A token bucket with a burst of 20 kB, as the lab with real queues has it. Batches pass
    /// whole, arrive at once, and are acknowledged at once.
    #[default]
    Bucket,
    /// A device that sends datagrams one after the other: they arrive as evenly, and every second
    /// is acknowledged.
    Device,
}

/// A bottleneck as the scenarios have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bottleneck {
    /// What it is.
    pub kind: Kind,
    /// Bits per second.
    pub rate: u64,
    /// Bytes that may wait.
    pub queue: u64,
    /// Without a queue.
    pub round_trip: Duration,
}

impl Default for Bottleneck {
    fn default() -> Self {
        Self {
            kind: Kind::Bucket,
            rate: RATE,
            queue: QUEUE,
            round_trip: ROUND_TRIP,
        }
    }
}

impl From<Kind> for Bottleneck {
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }
}

impl Bottleneck {
    /// 300 Mbit/s, 300 kB, 10 ms.
    pub fn fast(kind: Kind) -> Self {
        Self {
            kind,
            rate: 300_000_000,
            queue: 300_000,
            round_trip: Duration::from_millis(10),
        }
    }

    /// With a queue of so many bytes.
    #[must_use]
    pub fn holding(self, queue: u64) -> Self {
        Self { queue, ..self }
    }

    /// A token bucket whose queue holds so many bandwidth-delay products, three datagrams at
    /// least.
    pub fn of_products(rate: u64, round_trip: Duration, products: f64) -> Self {
        let product = rate as f64 / 8.0 * round_trip.as_secs_f64();
        Self {
            kind: Kind::Bucket,
            rate,
            queue: super::number::whole(product * products).max(3 * DATAGRAM),
            round_trip,
        }
    }

    fn link(&self) -> LinkConfig {
        match self.kind {
            // Batches larger than the burst are split, so that none is larger than the queue.
            Kind::Bucket => LinkConfig::token_bucket(self.rate, BURST.min(self.queue), self.queue),
            Kind::Device => LinkConfig::device(self.rate, self.queue),
        }
    }

    /// In the sender's own host, without flows yet.
    pub fn local(&self) -> Scenario {
        with_jitter(Scenario::local(self.link(), self.round_trip))
    }

    /// One hop on, without flows yet. The sender's own device is faster and its queue empty but
    /// for moments.
    pub fn remote(&self) -> Scenario {
        let device = LinkConfig::device(FAST_DEVICE, FAST_DEVICE_QUEUE);
        with_jitter(Scenario::remote(device, self.link(), self.round_trip))
    }
}

fn with_jitter(mut scenario: Scenario) -> Scenario {
    scenario.back.jitter = BACK_JITTER;
    scenario
}

/// The path of a scenario, empty but for a pair of datagrams now and then: its round trips are
/// those of the idle path.
pub fn idle(scenario: &Scenario, control: Control) -> Scenario {
    let mut idle = scenario.clone();
    idle.competitors.clear();
    idle.flows = vec![FlowSpec::new(control).sending(App::OnOff {
        // Two, so that the receiver does not delay its acknowledgement.
        burst: 2_000,
        every: Duration::from_millis(100),
    })];
    idle
}

/// One flow, the bottleneck in its own host. Scenarios `short-queue` and `deep-queue` are this
/// with a queue of 20 kB and of 2 MB, which is more than the send buffer.
pub fn local_queue(bottleneck: Bottleneck, control: Control) -> Scenario {
    bottleneck.local().flow(FlowSpec::new(control))
}

/// The same, and the queue marks what has waited for more than a millisecond.
pub fn marking_queue(bottleneck: Bottleneck, control: Control) -> Scenario {
    let mut scenario = local_queue(bottleneck, control);
    scenario.egress.discipline = Discipline::Marks {
        after: Duration::from_millis(1),
    };
    scenario
}

/// When the observed flow joins those that are already there.
pub const ARRIVAL: Duration = Duration::from_secs(1);

/// Beside TCP flows on the same queue; 20 s.
pub fn beside_tcp(kind: Kind, control: Control, competitors: &[TcpSpec]) -> Scenario {
    let mut scenario = beside(kind, control, &[]);
    scenario.competitors = competitors.to_vec();
    scenario
}

/// Beside flows of other controllers, each with a socket of its own; 20 s. The flow that is looked
/// at is the first.
pub fn beside(kind: Kind, control: Control, others: &[Control]) -> Scenario {
    let ours = FlowSpec::new(control).starting(ARRIVAL);
    let scenario = Bottleneck::from(kind).local().flow(ours);
    others
        .iter()
        .cloned()
        .map(FlowSpec::new)
        .fold(scenario, Scenario::flow)
        .lasting(Duration::from_secs(20))
}

/// Four flows with a socket each that start half a second after one another; 20 s.
pub fn four_flows(kind: Kind, control: &Control) -> Scenario {
    let scenario = Bottleneck::from(kind).local();
    (0..4)
        .map(|index| FlowSpec::new(control.clone()).starting(Duration::from_millis(500) * index))
        .fold(scenario, Scenario::flow)
        .lasting(Duration::from_secs(20))
}

/// Fifty flows to as many peers on one socket, that start within a second; 20 s.
pub fn fifty_peers(kind: Kind, control: &Control, watching: Watching) -> Scenario {
    let scenario = Bottleneck::from(kind).local();
    (0..50)
        .map(|index| {
            FlowSpec::new(control.clone())
                .starting(Duration::from_millis(20) * index)
                .on_socket(0, watching)
        })
        .fold(scenario, Scenario::flow)
        .lasting(Duration::from_secs(20))
}

/// When the rate of [`rate_step`] falls to a fifth, and when it rises again.
pub const RATE_STEPS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(10)];

/// 50, then 10, then 50 Mbit/s; 15 s.
pub fn rate_step(kind: Kind, control: Control) -> Scenario {
    let mut scenario = local_queue(kind.into(), control).lasting(Duration::from_secs(15));
    scenario.egress.rate_changes = vec![(RATE_STEPS[0], RATE / 5), (RATE_STEPS[1], RATE)];
    scenario
}

/// The bottleneck one hop on.
pub fn remote_queue(control: Control) -> Scenario {
    let mut scenario = Bottleneck::default().remote().flow(FlowSpec::new(control));
    scenario.record_steps = true;
    scenario
}

/// No bottleneck but a receiver that takes 290 µs for each datagram, 40 Mbit/s, with 100 kB of
/// buffer; its window is quinn's default for a stream.
pub fn slow_receiver(control: Control) -> Scenario {
    let device = LinkConfig::device(FAST_DEVICE, FAST_DEVICE_QUEUE);
    let mut scenario = with_jitter(Scenario::local(device, ROUND_TRIP));
    scenario.receiver = ReceiverConfig::slow(100_000, Duration::from_micros(290));
    scenario.receiver.window = 1_250_000;
    scenario.flow(FlowSpec::new(control))
}

/// When the receiver of [`receiver_recovers`] begins to read faster.
pub const RECEIVER_RECOVERS: Duration = Duration::from_secs(3);

/// What it takes from then on, bits per second of datagrams of 1,452 bytes.
pub const RECOVERED_RATE: u64 = 100_000_000;

/// The receiver of [`slow_receiver`], which after 3 of 33 s takes 116 µs for each datagram.
pub fn receiver_recovers(control: Control) -> Scenario {
    let mut scenario = slow_receiver(control).lasting(Duration::from_secs(33));
    scenario.receiver.later = Some((RECEIVER_RECOVERS, Duration::from_micros(116)));
    scenario
}

/// With loss on the path, behind all queues.
pub fn random_loss(mut scenario: Scenario, rate: f64) -> Scenario {
    if let Some(last) = scenario.hops.last_mut() {
        last.loss = Loss::Random(rate);
    }
    scenario
}

/// With a rule of the host that drops this share of the batches that leave it.
pub fn policy_drops(mut scenario: Scenario, rate: f64) -> Scenario {
    scenario.host.policy_loss = rate;
    scenario
}

/// When the signals of [`source_dies`] end.
pub const SOURCE_DIES: Duration = Duration::from_secs(5);

/// On a host whose processors others want too; 10 s.
pub fn busy_host(bottleneck: Bottleneck, control: Control) -> Scenario {
    let mut scenario = local_queue(bottleneck, control).lasting(Duration::from_secs(10));
    scenario.host.stalls = Some(Stalls::BUSY_HOST);
    scenario
}

/// The signals end after 5 of 10 s.
pub fn source_dies(kind: Kind, control: Control, manner: EndManner) -> Scenario {
    let mut scenario = local_queue(kind.into(), control).lasting(2 * SOURCE_DIES);
    scenario.signals.end = Some(SignalEnd {
        at: SOURCE_DIES,
        manner,
    });
    scenario
}

/// The signals are wrong in this way all the time; 10 s.
pub fn bad_signals(kind: Kind, control: Control, signals: SignalConfig) -> Scenario {
    let mut scenario = local_queue(kind.into(), control).lasting(Duration::from_secs(10));
    scenario.signals = signals;
    scenario
}

/// When the outage of [`outage`] begins.
pub const OUTAGE: Duration = Duration::from_secs(4);

/// The kernel takes nothing, or only small datagrams, for a while in the middle of 12 s.
pub fn outage(kind: Kind, control: Control, outage: Outage) -> Scenario {
    let mut scenario = local_queue(kind.into(), control).lasting(Duration::from_secs(12));
    scenario.host.outage = Some(outage);
    scenario
}

/// When the upload of [`ack_flood`] begins.
pub const UPLOAD: Duration = Duration::from_secs(6);

/// A client downloads while others flood its uplink, which drops many of its acknowledgements; then
/// they stop and it sends 100 kB; 8 s.
pub fn ack_flood(kind: Kind, control: Control) -> Scenario {
    let client = FlowSpec::new(control)
        .downloading_until(UPLOAD)
        .sending(App::Transfer(100_000));
    let mut scenario = Bottleneck::from(kind).local().flow(client);
    // An acknowledgement takes no less room there than a full packet.
    scenario.egress.packets = 100;
    for _ in 0..3 {
        let mut flood = TcpSpec::plain(TcpLaw::NewReno).starting(Duration::from_millis(500));
        flood.end = Some(UPLOAD - Duration::from_millis(200));
        scenario = scenario.competitor(flood);
    }
    scenario
}

/// Responses of this size with pauses of 100 ms between them, beside a TCP flow; 20 s.
pub fn responses(kind: Kind, control: Control, competitor: TcpSpec) -> Scenario {
    let app = App::Responses {
        bytes: 200_000,
        pause: Duration::from_millis(100),
    };
    Bottleneck::from(kind)
        .local()
        .flow(FlowSpec::new(control).starting(ARRIVAL).sending(app))
        .competitor(competitor)
        .lasting(Duration::from_secs(20))
}

/// A transfer on a fresh connection that begins at `start`, beside a TCP flow.
pub fn transfer_beside_tcp(
    kind: Kind,
    control: Control,
    competitor: TcpSpec,
    bytes: u64,
    start: Duration,
) -> Scenario {
    let flow = FlowSpec::new(control)
        .starting(start)
        .sending(App::Transfer(bytes));
    Bottleneck::from(kind)
        .local()
        .flow(flow)
        .competitor(competitor)
        .lasting(start + Duration::from_secs(5))
}

/// A sibling class of the same root holds 1 MB all the time.
pub fn sibling(kind: Kind, control: Control) -> Scenario {
    let mut scenario = local_queue(kind.into(), control);
    scenario.signals.sibling = 1_000_000;
    scenario.signals.kind = "htb";
    scenario
}

/// How long the host is the bottleneck in [`moves_on`].
pub const MOVES_ON: Duration = Duration::from_secs(30);

/// The host is the bottleneck for 30 of 36 s; then it is the next hop, of so many bits per second
/// and bytes of queue.
pub fn moves_on(kind: Kind, control: Control, rate: u64, queue: u64) -> Scenario {
    let mut scenario = local_queue(kind.into(), control).lasting(Duration::from_secs(36));
    scenario.egress.rate_changes = vec![(MOVES_ON, FAST_DEVICE)];
    scenario.hops.insert(0, LinkConfig::device(rate, queue));
    scenario
}

/// Bursts of this size, one each 200 ms; 10 s.
pub fn app_limited(kind: Kind, control: Control, burst: u64) -> Scenario {
    let every = Duration::from_millis(200);
    Bottleneck::from(kind)
        .local()
        .flow(FlowSpec::new(control).sending(App::OnOff { burst, every }))
        .lasting(Duration::from_secs(10))
}

/// The cells of the grid: rates, round trips in milliseconds, queues in bandwidth-delay products.
pub const GRID: ([u64; 4], [u64; 3], [f64; 3]) = (
    [10_000_000, 50_000_000, 100_000_000, 1_000_000_000],
    [5, 50, 200],
    [0.2, 1.0, 5.0],
);

/// All bottlenecks of the [`GRID`].
pub fn grid() -> Vec<Bottleneck> {
    let (rates, round_trips, products) = GRID;
    let mut cells = Vec::new();
    for rate in rates {
        for round_trip in round_trips.map(Duration::from_millis) {
            for product in products {
                cells.push(Bottleneck::of_products(rate, round_trip, product));
            }
        }
    }
    cells
}
