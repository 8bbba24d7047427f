//! Everything together, and the loop that drives it.

use std::collections::VecDeque;
use std::sync::Arc;

use quinn_proto::Endpoint;

use super::app::App;
use super::events::EventQueue;
use super::link::{self, Link};
use super::observe::BaseRecords;
use super::outcome::Outcome;
use super::packet::{Batch, Owner};
use super::processor::Processor;
use super::quic::{self, QuicFlow};
use super::random::Random;
use super::scenario::Scenario;
use super::signals::SignalFeed;
use super::tcp::Tcp;
use super::time::{Clock, SimTime};
use super::trace::Trace;

mod ends;
mod network;
mod report;
mod setup;
mod windows;

/// Datagrams after which quinn's driver lets others run (`MAX_TRANSMIT_DATAGRAMS`).
const TURN: u32 = 20;

/// Something that runs when it was woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actor {
    Sender(usize),
    Receiver(usize),
    Tcp(usize),
}

/// Where a packet arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Destination {
    Link(usize),
    Receiver,
    Sender,
}

#[derive(Debug)]
enum Event {
    Start(usize),
    Burst(usize),
    StartTcp(usize),
    Timer(Actor),
    /// A program that has something to do gets its processor back.
    Resume(Actor),
    LinkReady(usize),
    RateChange(usize, u64),
    Arrive(Destination, Batch),
    Read(usize),
    Window(usize),
    Trace,
}

/// Whether it is a sending program that has to do something.
fn is_for_sender(event: &Event) -> bool {
    match event {
        Event::Start(_) | Event::Burst(_) | Event::Timer(Actor::Sender(_)) => true,
        Event::Arrive(Destination::Sender, packet) => matches!(packet.owner, Owner::Quic(_)),
        _ => false,
    }
}

/// A UDP socket of the sending host.
struct Socket {
    endpoint: Endpoint,
    /// What the kernel charges to it.
    occupied: u64,
    waiting: VecDeque<usize>,
}

struct World<'a> {
    scenario: &'a Scenario,
    clock: Clock,
    now: SimTime,
    events: EventQueue<Event>,
    processed: u64,
    /// The egress, the hops, and last the way back.
    links: Vec<Link>,
    signals: SignalFeed,
    sockets: Vec<Socket>,
    flows: Vec<QuicFlow>,
    tcps: Vec<Tcp>,
    bases: BaseRecords,
    policy: Random,
    processor: Processor,
    random: Random,
    woken: VecDeque<Actor>,
    trace: Trace,
    outcomes: Vec<link::Outcome>,
    buffer: Vec<u8>,
}

impl Scenario {
    /// Runs it.
    ///
    /// # Panics
    ///
    /// When a competitor enters at a hop that there is not.
    pub fn run(&self) -> Outcome {
        World::new(self).run()
    }
}

impl World<'_> {
    fn run(mut self) -> Outcome {
        let end = SimTime::from(self.scenario.duration);
        while let Some(time) = self.events.next_time().filter(|time| *time <= end) {
            self.now = time;
            while self.events.next_time() == Some(time) {
                if let Some((_, event)) = self.events.pop() {
                    self.processed += 1;
                    self.handle(event);
                }
            }
            while let Some(actor) = self.woken.pop_front() {
                self.run_actor(actor);
            }
        }
        self.finish()
    }

    fn schedule(&mut self, at: SimTime, event: Event) {
        self.events.push(at, event);
    }

    fn wake(&mut self, actor: Actor) {
        if !self.woken.contains(&actor) {
            self.woken.push_back(actor);
        }
    }

    fn handle(&mut self, event: Event) {
        if is_for_sender(&event)
            && let Some(then) = self.processor.away_until(self.now)
        {
            self.defer(then, event);
            return;
        }
        match event {
            Event::Start(flow) => self.start(flow),
            Event::Burst(flow) => {
                if let Some(next) = self.flows[flow].begin_burst(self.now) {
                    self.schedule(next, Event::Burst(flow));
                }
                self.wake(Actor::Sender(flow));
            }
            Event::StartTcp(tcp) => {
                self.tcps[tcp].start();
                self.wake(Actor::Tcp(tcp));
            }
            Event::Timer(actor) => self.on_timer(actor),
            Event::Resume(actor) => self.wake(actor),
            Event::LinkReady(link) => {
                if self.links[link].woken(self.now) {
                    self.pump(link);
                }
            }
            Event::RateChange(link, rate) => {
                self.links[link].set_rate(self.now, rate);
                self.pump(link);
            }
            Event::Arrive(destination, packet) => self.arrive(destination, packet),
            Event::Read(flow) => {
                let (packet, next) = self.flows[flow].receiving_socket.read();
                if let Some(next) = next {
                    self.schedule(next, Event::Read(flow));
                }
                if let Some(packet) = packet {
                    self.deliver(Actor::Receiver(flow), packet);
                }
            }
            Event::Window(flow) => self.set_window(flow),
            Event::Trace => self.trace(),
        }
    }

    /// A program learns of an event when it runs again.
    fn defer(&mut self, then: SimTime, event: Event) {
        if let Event::Timer(Actor::Sender(flow)) = event {
            let end = self.flows[flow].sender.as_mut();
            let Some(end) = end.filter(|end| end.timer == Some(self.now)) else {
                return;
            };
            end.timer = Some(then);
        }
        self.schedule(then, event);
    }

    fn start(&mut self, index: usize) {
        let flow = &mut self.flows[index];
        *self.bases.next.lock() = Some(Arc::clone(&flow.base_record));
        let endpoint = &mut self.sockets[flow.socket].endpoint;
        flow.connect(self.clock, self.now, index, endpoint, &mut self.random);
        *self.bases.next.lock() = None;
        match self.flows[index].spec.downloads_until {
            Some(until) => {
                self.schedule(SimTime::from(until), Event::Burst(index));
                self.wake(Actor::Sender(index));
            }
            None => self.handle(Event::Burst(index)),
        }
    }

    fn on_timer(&mut self, actor: Actor) {
        let now = self.clock.instant(self.now);
        let end = match actor {
            Actor::Sender(flow) => {
                self.signals.sync(self.now, self.flows[flow].watch);
                self.flows[flow].sender.as_mut()
            }
            Actor::Receiver(flow) => self.flows[flow].receiver.as_mut(),
            Actor::Tcp(tcp) => {
                if let Some(ack) = self.tcps[tcp].on_timer(self.now) {
                    self.enter(self.links.len() - 1, ack);
                }
                self.wake(actor);
                return;
            }
        };
        let Some(end) = end.filter(|end| end.timer == Some(self.now)) else {
            return;
        };
        end.timer = None;
        if end.connection.poll_timeout().is_some_and(|at| at <= now) {
            end.connection.handle_timeout(now);
        }
        self.wake(actor);
    }

    fn run_actor(&mut self, actor: Actor) {
        if matches!(actor, Actor::Sender(_))
            && let Some(then) = self.processor.away_until(self.now)
        {
            self.schedule(then, Event::Resume(actor));
            return;
        }
        match actor {
            Actor::Sender(flow) => {
                self.flows[flow].run_sender();
                self.transmit(flow);
                let QuicFlow { sender, socket, .. } = &mut self.flows[flow];
                let Some(end) = sender else { return };
                if ends::exchange(end, &mut self.sockets[*socket].endpoint) {
                    self.transmit(flow);
                }
            }
            Actor::Receiver(flow) => {
                let before = self.flows[flow].completions.len();
                self.flows[flow].run_receiver(self.now);
                if let App::Responses { pause, .. } = self.flows[flow].spec.app
                    && self.flows[flow].completions.len() > before
                {
                    self.schedule(self.now + pause, Event::Burst(flow));
                }
                self.answer(flow);
                let QuicFlow {
                    receiver,
                    receiving_endpoint,
                    ..
                } = &mut self.flows[flow];
                let Some(end) = receiver else { return };
                if ends::exchange(end, receiving_endpoint) {
                    self.answer(flow);
                }
            }
            Actor::Tcp(tcp) => {
                while let Some(batch) = self.tcps[tcp].poll(self.now) {
                    self.enter(self.tcps[tcp].spec.hop, batch);
                }
                if let Some(at) = self.tcps[tcp].poll_timer() {
                    self.schedule(at, Event::Timer(actor));
                }
                return;
            }
        }
        let end = match actor {
            Actor::Sender(flow) => self.flows[flow].sender.as_mut(),
            Actor::Receiver(flow) => self.flows[flow].receiver.as_mut(),
            Actor::Tcp(_) => None,
        };
        let granularity = self.scenario.host.timer_granularity;
        let timer = end.and_then(|end| quic::next_timer(end, self.clock, self.now, granularity));
        if let Some(at) = timer {
            self.schedule(at, Event::Timer(actor));
        }
    }
}
