//! What there is when a simulation begins.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ebpf_congestion_signals::Watch;
use parking_lot::Mutex;

use super::{Event, Socket, World};
use crate::sim::events::EventQueue;
use crate::sim::link::Link;
use crate::sim::observe::{BaseRecords, Record, SharedFactory};
use crate::sim::process::{Process, ProcessContext};
use crate::sim::processor::Processor;
use crate::sim::quic::{self, QuicFlow};
use crate::sim::random::Random;
use crate::sim::scenario::{Control, Scenario, Watching};
use crate::sim::signals::SignalFeed;
use crate::sim::tcp::Tcp;
use crate::sim::time::{Clock, SimTime};
use crate::sim::trace::Trace;

impl<'a> World<'a> {
    pub(in crate::sim) fn new(scenario: &'a Scenario) -> Self {
        let seed = scenario.seed;
        let clock = Clock::new();
        let configs = std::iter::once(&scenario.egress)
            .chain(&scenario.hops)
            .chain(std::iter::once(&scenario.back));
        let links: Vec<Link> = configs
            .enumerate()
            .map(|(index, config)| Link::new(config, seed, index))
            .collect();
        let signals = SignalFeed::new(scenario.signals, seed, links[0].limit());
        let mut world = Self {
            scenario,
            clock,
            now: SimTime::ZERO,
            events: EventQueue::new(),
            processed: 0,
            links,
            signals,
            sockets: Vec::new(),
            flows: Vec::new(),
            tcps: Vec::new(),
            bases: BaseRecords {
                clock,
                next: Arc::default(),
            },
            policy: Random::new(seed, "policy", 0),
            processor: Processor::new(scenario.host.stalls, seed),
            random: Random::new(seed, "endpoints", 0),
            woken: VecDeque::new(),
            trace: Trace::default(),
            outcomes: Vec::new(),
            buffer: Vec::new(),
        };
        world.add_flows();
        world.add_competitors();
        for index in 0..world.links.len() {
            for (time, rate) in world.links[index].rate_changes().to_vec() {
                world.schedule(SimTime::from(time), Event::RateChange(index, rate));
            }
        }
        if scenario.trace_interval.is_some() {
            world.schedule(SimTime::ZERO, Event::Trace);
        }
        world
    }

    fn add_flows(&mut self) {
        let mut processes = Processes::default();
        // By the scenario's numbers: our socket, and how the flow that made it is controlled.
        let mut sockets: HashMap<usize, (usize, Controlled)> = HashMap::new();
        for (index, spec) in self.scenario.flows.iter().enumerate() {
            let shared = spec.socket.and_then(|number| sockets.get(&number).cloned());
            let socket = match &shared {
                Some((socket, _)) => *socket,
                None => self.add_socket(),
            };
            let controlled = match shared {
                Some((_, controlled)) if spec.watching == Watching::Socket => controlled,
                _ => self.control(&spec.controller, &mut processes),
            };
            if let Some(number) = spec.socket {
                let made = || (socket, controlled.clone());
                sockets.entry(number).or_insert_with(made);
            }
            let steps = self.scenario.record_steps;
            let record = || Arc::new(Mutex::new(Record::new(steps)));
            let flow = QuicFlow::new(
                spec,
                controlled.factory,
                (record(), record()),
                (socket, controlled.watch),
                Self::receiver(
                    self.scenario.receiver,
                    self.scenario.window_control.as_ref(),
                ),
                &mut self.random,
            );
            self.flows.push(flow);
            self.schedule(SimTime::from(spec.start), Event::Start(index));
            if self.scenario.window_control.is_some() {
                self.schedule(SimTime::from(spec.start), Event::Window(index));
            }
        }
    }

    fn add_socket(&mut self) -> usize {
        self.sockets.push(Socket {
            endpoint: quic::endpoint(None, &mut self.random),
            occupied: 0,
            waiting: VecDeque::new(),
        });
        self.sockets.len() - 1
    }

    fn control(&mut self, control: &Control, processes: &mut Processes) -> Controlled {
        match control {
            Control::Stock(factory) => Controlled {
                watch: self.signals.watch(None),
                factory: Arc::clone(factory),
            },
            Control::Governed(process) => {
                let context = ProcessContext {
                    source: Arc::clone(self.signals.source()),
                    bases: self.bases.clone(),
                };
                let index = processes.index(process, &context);
                let group = if self.scenario.host.broker { 0 } else { index };
                let watch = self.signals.watch(Some(group));
                let handle = self.signals.mock(watch).watch();
                Controlled {
                    watch,
                    factory: (processes.running[index].controllers)(handle),
                }
            }
        }
    }

    fn add_competitors(&mut self) {
        for (index, spec) in self.scenario.competitors.iter().enumerate() {
            assert!(
                spec.hop <= self.scenario.hops.len(),
                "there is no hop {}",
                spec.hop
            );
            self.tcps.push(Tcp::new(*spec, index));
            self.schedule(SimTime::from(spec.start), Event::StartTcp(index));
        }
    }
}

/// How a flow is controlled.
#[derive(Clone)]
struct Controlled {
    /// Index of its signals.
    watch: usize,
    factory: SharedFactory,
}

/// The processes that run, each once.
#[derive(Default)]
struct Processes {
    running: Vec<Running>,
}

struct Running {
    process: Process,
    controllers: Box<dyn FnMut(Watch) -> SharedFactory>,
}

impl Processes {
    /// The index of a process, which is started if it does not run yet.
    fn index(&mut self, process: &Process, context: &ProcessContext) -> usize {
        let mut running = self.running.iter();
        running
            .position(|running| running.process.is(process))
            .unwrap_or_else(|| {
                self.running.push(Running {
                    process: process.clone(),
                    controllers: process.start(context),
                });
                self.running.len() - 1
            })
    }
}
