//! Drives controllers with any sequence of what connections, a link and a source may do, and checks
//! what must hold whatever they do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::MockSource;

use super::connection::Connection;
use super::flow::Flow;
use super::rtt::environment;
use super::{BaseChoice, Op};
use crate::Governors;

/// Connections that are driven at a time, at most.
const CONNECTIONS: usize = 4;

/// Drives controllers over `base` through `ops`. Panics when something that must hold does not:
///
/// - no window is ever above its base's, or below two datagrams unless its base's is;
/// - behind the cap base does not grow, except that in slow start it may until its window is four
///   times the cap (quinn's BBR is bounded by its own model instead);
/// - a loss that the law has reduced for does not reduce again when it is reported;
/// - once the source is dead, each window becomes its base's, and base does step by step what it
///   does without the law, but for the time in which it was not let grow.
pub fn drive(base: BaseChoice, ops: &[Op]) {
    let mut world = World::new(base);
    for op in ops {
        world.apply(op);
        for connection in &mut world.connections {
            connection.check_window();
        }
    }
    world.die();
}

struct World {
    base: BaseChoice,
    now: Instant,
    source: Arc<MockSource>,
    governors: Governors,
    flows: Vec<Flow>,
    connections: Vec<Connection>,
    /// Whose turn it is.
    current: usize,
}

impl World {
    fn new(base: BaseChoice) -> Self {
        let source = Arc::new(MockSource::new());
        let governors = Governors::builder(Arc::clone(&source) as _)
            .base(base.factory())
            .build()
            .expect("the default configuration is valid");
        let (now, _) = environment();
        let mut world = Self {
            base,
            now: *now,
            source,
            governors,
            flows: Vec::new(),
            connections: Vec::new(),
            current: 0,
        };
        let flow = world.add_flow();
        world.open(flow);
        world
    }

    fn add_flow(&mut self) -> usize {
        let flow = Flow::new(&self.source, &self.governors);
        self.flows.push(flow);
        self.flows.len() - 1
    }

    /// Another connection uses this flow.
    fn open(&mut self, flow: usize) {
        let connection = Connection::new(self.base, flow, &self.flows[flow], self.now);
        self.connections.push(connection);
        self.current = self.connections.len() - 1;
    }

    fn apply(&mut self, op: &Op) {
        let connections = self.connections.len();
        let connection = &mut self.connections[self.current];
        let number = connection.flow;
        let flow = &mut self.flows[number];
        match *op {
            Op::Turn(connection) => self.current = usize::from(connection) % connections,
            Op::Open => {
                if connections < CONNECTIONS {
                    self.open(number);
                }
            }
            Op::Close => {
                if connections > 1 {
                    self.connections.swap_remove(self.current);
                    self.current = 0;
                }
            }
            Op::Wait(tenths) => self.now += Duration::from_micros(u64::from(tenths) * 100),
            Op::Send(datagrams) => connection.send(self.now, flow, u64::from(datagrams)),
            Op::SendAck => connection.send_ack(self.now, flow),
            Op::Ack {
                datagrams,
                app_limited,
            } => connection.ack(self.now, flow, usize::from(datagrams), app_limited),
            Op::Lose {
                datagrams,
                persistent,
            } => connection.lose(self.now, flow, usize::from(datagrams), persistent),
            Op::Mark => connection.mark(self.now, flow),
            Op::Mtu(mtu) => connection.set_mtu(mtu.max(1200)),
            Op::Migrate => connection.migrate(),
            Op::Observe => connection.observe(flow),
            Op::Rebind => {
                let (queue, others) = (flow.link.queue, flow.link.others);
                let to = self.add_flow();
                let flow = &mut self.flows[to];
                (flow.link.queue, flow.link.others) = (queue, others);
                flow.tell();
                self.connections[self.current].move_to(self.now, to, flow);
            }
            Op::Refuse {
                datagrams,
                reported,
            } => {
                flow.to_refuse = u64::from(datagrams);
                flow.reported = reported;
            }
            _ => flow.apply(op),
        }
    }

    /// The source dies; what then happens must be what happens without the law.
    fn die(&mut self) {
        for flow in &mut self.flows {
            (flow.deaf, flow.live) = (false, false);
            flow.tell();
        }
        // A cap that is being released may already be above a base that has yet to grow: base
        // decides alone once it has been over it for the longest time that a release takes.
        let (mut rounds, mut free) = (0, 0);
        while free < 24 {
            let rtts = self.connections.iter().map(|connection| connection.srtt);
            let longest = rtts.max().unwrap_or_default();
            self.now += longest.max(Duration::from_millis(20));
            let mut all_free = true;
            for connection in &mut self.connections {
                let flow = &mut self.flows[connection.flow];
                connection.ack(self.now, flow, usize::MAX, false);
                all_free &= connection.window() == connection.base_window();
                connection.send(self.now, flow, 1000);
            }
            free = if all_free { free + 1 } else { 0 };
            rounds += 1;
            assert!(rounds < 200, "the cap is never released");
        }
        for connection in &mut self.connections {
            let flow = &mut self.flows[connection.flow];
            connection.ack(self.now, flow, usize::MAX, false);
            connection.compare_with_base(self.now);
        }
        let controllers = self.governors.report().controllers;
        assert!(controllers >= self.connections.len() as u64);
    }
}
