//! A toy of a sender's link: a rate, a queue, a round trip. Deterministic; for the law alone.
//!
//! Senders do what quinn does where it matters to a controller: batches of up to ten datagrams,
//! a token-bucket pacer, a call of `window()` for each datagram. Receivers acknowledge every
//! second datagram. The queue never reorders: what is missing below an acknowledgement is lost.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{MockFlow, MockSource, QueueId, QueueSample};
use quinn_governor::testing::Rtts;
use quinn_governor::{BaseFactory, Factory, Governors};
use quinn_proto::congestion::{Controller, ControllerFactory};

const MTU: u64 = 1200;
const WIRE: u64 = 1242;
/// Owner of a datagram of competing traffic.
const OTHER: usize = usize::MAX;

pub(crate) struct Link {
    pub(crate) mbit: u64,
    pub(crate) queue: u64,
    pub(crate) rtt: Duration,
}

pub(crate) struct Toy {
    pub(crate) link: Link,
    pub(crate) connections: Vec<Connection>,
    pub(crate) governors: Governors,
    pub(crate) now: Duration,
    /// Bytes that competing traffic keeps in the queue at any time.
    pub(crate) other: u64,
    /// Whether the source reports, and how much later.
    pub(crate) signals: bool,
    pub(crate) delay: Duration,
    /// Whether it reports only once in `delay`.
    pub(crate) sampled: bool,
    /// The queue is elsewhere: the source reports an empty one.
    pub(crate) remote: bool,
    source: Arc<MockSource>,
    sockets: Vec<(Arc<Factory>, MockFlow)>,
    start: Instant,
    rtts: Rtts,
    queue: VecDeque<(usize, u64)>,
    other_queued: u64,
    drained: u64,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    order: u64,
}

pub(crate) struct Connection {
    pub(crate) controller: Box<dyn Controller>,
    pub(crate) lost: u64,
    socket: usize,
    acked: u64,
    /// Round trips measured, with their time.
    rtts: Vec<(Duration, Duration)>,
    own: u64,
    dropped: u64,
    in_flight: u64,
    next: u64,
    unacked: BTreeMap<u64, Duration>,
    /// What the queue dropped: known to the sender when something after it arrived.
    missing: BTreeSet<u64>,
    srtt: Duration,
    tokens: f64,
    refilled: Duration,
    /// When something was last sent or acknowledged.
    active: Duration,
    /// At the receiver: numbers not yet acknowledged.
    received: Vec<u64>,
}

/// The first number names the connection, or the socket where something is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Departure,
    Arrival(usize, u64),
    DelayedAck(usize, u64),
    Ack(usize, u64),
    Wake(usize),
    Probe(usize, Duration),
    Report(usize, Report),
}

/// What the source reports of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Report {
    own: u64,
    shared: u64,
    total: u64,
    drained: u64,
    observed: u64,
    drops: u64,
}

impl Toy {
    pub(crate) fn new(link: Link, base: BaseFactory) -> Self {
        let source = Arc::new(MockSource::new());
        let builder = Governors::builder(Arc::clone(&source) as _).base(base);
        #[expect(clippy::disallowed_methods, reason = "the toy's zero")]
        let start = Instant::now();
        Self {
            link,
            connections: Vec::new(),
            governors: builder.build().expect("the default is valid"),
            now: Duration::ZERO,
            other: 0,
            signals: true,
            delay: Duration::ZERO,
            sampled: false,
            remote: false,
            source,
            sockets: Vec::new(),
            start,
            rtts: Rtts::new(start),
            queue: VecDeque::new(),
            other_queued: 0,
            drained: 0,
            events: BinaryHeap::new(),
            order: 0,
        }
    }

    /// A connection on a socket of its own.
    pub(crate) fn add_flow(&mut self, governed: bool) {
        let mock = self.source.add_flow();
        let governor = match governed {
            true => self.governors.watch(mock.watch()),
            false => self.governors.ungoverned(),
        };
        self.sockets.push((governor, mock));
        self.add_connection();
    }

    /// Another connection on the socket that was added last.
    pub(crate) fn add_connection(&mut self) {
        let socket = self.sockets.len() - 1;
        let governor = Arc::clone(&self.sockets[socket].0);
        self.connections.push(Connection {
            controller: governor.build(self.start + self.now, 1200),
            lost: 0,
            socket,
            acked: 0,
            rtts: Vec::new(),
            own: 0,
            dropped: 0,
            in_flight: 0,
            next: 0,
            unacked: BTreeMap::new(),
            missing: BTreeSet::new(),
            srtt: self.link.rtt,
            tokens: 10.0 * MTU as f64,
            refilled: self.now,
            active: self.now,
            received: Vec::new(),
        });
        self.at(Duration::ZERO, Event::Wake(self.connections.len() - 1));
    }

    /// Runs for a while; what share of the link each connection got.
    pub(crate) fn run(&mut self, time: Duration) -> Vec<f64> {
        let end = self.now + time;
        let before: Vec<u64> = self.connections.iter().map(|each| each.acked).collect();
        while self.enqueue_other() {}
        while let Some(&Reverse((at, _, event))) = self.events.peek() {
            if at > end {
                break;
            }
            self.events.pop();
            self.now = at;
            self.handle(event);
        }
        self.now = end;
        let datagrams = time.as_secs_f64() * self.link.mbit as f64 * 1e6 / 8.0 / WIRE as f64;
        let acked = self.connections.iter().zip(before);
        acked
            .map(|(each, before)| (each.acked - before) as f64 / MTU as f64 / datagrams)
            .collect()
    }

    /// A percentile of a connection's round trips since a time, in milliseconds.
    pub(crate) fn rtt(&self, index: usize, since: Duration, percent: usize) -> f64 {
        let all = self.connections[index].rtts.iter();
        let mut rtts: Vec<_> = all.filter(|rtt| rtt.0 >= since).map(|rtt| rtt.1).collect();
        rtts.sort();
        rtts[rtts.len() * percent / 100].as_secs_f64() * 1e3
    }

    /// Datagrams that all connections lost.
    pub(crate) fn lost(&self) -> u64 {
        self.connections.iter().map(|each| each.lost).sum()
    }

    fn at(&mut self, after: Duration, event: Event) {
        self.order += 1;
        let entry = (self.now + after, self.order, event);
        self.events.push(Reverse(entry));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Departure => self.depart(),
            Event::Arrival(index, number) => {
                let received = &mut self.connections[index].received;
                received.push(number);
                if received.len() >= 2 {
                    self.acknowledge(index, number);
                } else {
                    let delayed = Event::DelayedAck(index, number);
                    self.at(Duration::from_millis(25), delayed);
                }
            }
            Event::DelayedAck(index, number) => {
                if self.connections[index].received.contains(&number) {
                    self.acknowledge(index, number);
                }
            }
            Event::Ack(index, upto) => self.on_ack(index, upto),
            Event::Wake(index) => self.send(index),
            Event::Probe(index, since) if self.connections[index].active == since => {
                self.transmit(index, 1);
            }
            Event::Report(socket, report) if self.signals => {
                deliver(&self.sockets[socket].1, report)
            }
            Event::Probe(..) | Event::Report(..) => {}
        }
    }

    fn acknowledge(&mut self, index: usize, upto: u64) {
        self.connections[index].received.clear();
        self.at(self.link.rtt / 2, Event::Ack(index, upto));
    }

    fn backlog(&self) -> u64 {
        self.queue.len() as u64 * WIRE
    }

    fn start_departure(&mut self) {
        let time = Duration::from_nanos(WIRE * 8_000 / self.link.mbit);
        self.at(time, Event::Departure);
    }

    fn depart(&mut self) {
        let head = self.queue.pop_front();
        let (owner, number) = head.expect("something departs");
        if owner == OTHER {
            self.other_queued -= WIRE;
        } else {
            self.connections[owner].own -= WIRE;
            self.at(self.link.rtt / 2, Event::Arrival(owner, number));
        }
        if !self.queue.is_empty() {
            self.start_departure();
        }
        while self.enqueue_other() {}
        self.drained += u64::from(self.queue.is_empty());
        self.tell();
    }

    fn enqueue_other(&mut self) -> bool {
        let enqueued = self.other_queued < self.other && self.enqueue(OTHER, 0);
        self.other_queued += WIRE * u64::from(enqueued);
        enqueued
    }

    fn enqueue(&mut self, owner: usize, number: u64) -> bool {
        if self.backlog() + WIRE > self.link.queue {
            return false;
        }
        self.queue.push_back((owner, number));
        if self.queue.len() == 1 {
            self.start_departure();
        }
        true
    }

    fn tell(&mut self) {
        if !self.signals {
            return;
        }
        for socket in 0..self.sockets.len() {
            let of_socket = || self.connections.iter().filter(|each| each.socket == socket);
            let mut report = Report {
                own: of_socket().map(|each| each.own).sum(),
                shared: self.connections.iter().map(|each| each.own).sum(),
                total: self.backlog(),
                drained: self.drained,
                observed: of_socket().map(|each| each.next).sum(),
                drops: of_socket().map(|each| each.dropped).sum(),
            };
            if self.remote {
                (report.own, report.shared, report.total, report.drops) = (0, 0, 0, 0);
                report.drained = report.observed;
            }
            match self.delay.is_zero() {
                true => deliver(&self.sockets[socket].1, report),
                false => {
                    let mut after = self.delay;
                    if self.sampled {
                        let into = self.now.subsec_nanos() % self.delay.subsec_nanos();
                        after -= Duration::from_nanos(into.into());
                    }
                    self.at(after, Event::Report(socket, report));
                }
            }
        }
    }

    fn on_ack(&mut self, index: usize, upto: u64) {
        let now = self.start + self.now;
        let each = &mut self.connections[index];
        let Some(&sent) = each.unacked.get(&upto) else {
            return;
        };
        let rtt = self.now - sent;
        each.rtts.push((self.now, rtt));
        each.srtt = (each.srtt * 7 + rtt) / 8;
        each.active = self.now;
        let estimator = self.rtts.nearest(each.srtt);
        let later = each.unacked.split_off(&(upto + 1));
        let mut lost = None;
        for (number, sent) in std::mem::replace(&mut each.unacked, later) {
            each.in_flight -= MTU;
            let sent = self.start + sent;
            if each.missing.remove(&number) {
                each.lost += 1;
                lost = Some((sent, lost.map_or(0, |(_, bytes)| bytes) + MTU));
            } else {
                each.acked += MTU;
                each.controller.on_ack(now, sent, MTU, false, estimator);
            }
        }
        each.controller
            .on_end_acks(now, each.in_flight, false, Some(upto));
        if let Some((sent, bytes)) = lost {
            each.controller.on_congestion_event(now, sent, false, bytes);
        }
        if each.in_flight > 0 {
            let pto = each.srtt * 3 + Duration::from_millis(25);
            self.at(pto, Event::Probe(index, self.now));
        }
        self.send(index);
    }

    fn send(&mut self, index: usize) {
        loop {
            let each = &mut self.connections[index];
            let (mut batch, mut wake) = (0, None);
            while batch < 10 {
                let window = each.controller.window();
                if each.in_flight + (batch + 1) * MTU >= window {
                    break;
                }
                wake = each.pace(self.now, window);
                if wake.is_some() {
                    break;
                }
                each.tokens -= MTU as f64;
                batch += 1;
            }
            if batch > 0 {
                self.transmit(index, batch);
            }
            if let Some(after) = wake {
                self.at(after, Event::Wake(index));
            }
            if batch == 0 || wake.is_some() {
                return;
            }
        }
    }

    fn transmit(&mut self, index: usize, count: u64) {
        let each = &mut self.connections[index];
        let numbers = each.next..each.next + count;
        each.next += count;
        let now = self.start + self.now;
        each.controller.on_sent(now, count * MTU, each.next - 1);
        each.in_flight += count * MTU;
        each.active = self.now;
        let pto = each.srtt * 3 + Duration::from_millis(25);
        for number in numbers {
            let enqueued = self.enqueue(index, number);
            let each = &mut self.connections[index];
            each.unacked.insert(number, self.now);
            if enqueued {
                each.own += WIRE;
            } else {
                each.missing.insert(number);
                each.dropped += 1;
            }
        }
        self.at(pto, Event::Probe(index, self.now));
        self.tell();
    }
}

impl Connection {
    /// quinn's pacer: 1.25 windows a round trip, in bursts of 2 ms; how long to wait.
    fn pace(&mut self, now: Duration, window: u64) -> Option<Duration> {
        let srtt = self.srtt.as_secs_f64();
        let mtu = MTU as f64;
        let capacity = (window as f64 * 0.002 / srtt).clamp(10.0 * mtu, 256.0 * mtu);
        self.tokens = self.tokens.min(capacity);
        if self.tokens >= mtu {
            return None;
        }
        let rate = window as f64 * 1.25 / srtt;
        self.tokens += rate * (now - self.refilled).as_secs_f64();
        self.tokens = self.tokens.min(capacity);
        self.refilled = now;
        let missing = Duration::from_secs_f64((capacity - self.tokens) / rate);
        (self.tokens < mtu).then_some(missing)
    }
}

fn deliver(mock: &MockFlow, report: Report) {
    mock.set(|sample| {
        sample.congestion.observed_packets = Some(report.observed);
        sample.congestion.queue_drops = Some(report.drops);
        sample.congestion.queue = QueueId::new(3).map(|id| {
            QueueSample::new(id)
                .with_own(report.own)
                .with_shared(report.shared)
                .with_total(report.total)
                .with_drained(report.drained)
        });
    });
}
