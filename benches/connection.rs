//! A controller as a connection drives it, over a flow whose slot this process writes as the probes
//! would: no kernel, no privilege.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{MemoryFlow, MemorySource};
use quinn_governor::{GovernedController, Governors};
use quinn_proto::RttEstimator;
use quinn_proto::congestion::{
    BbrConfig, Controller, ControllerFactory, CubicConfig, NewRenoConfig,
};

pub(crate) const MTU: u16 = 1452;
pub(crate) const DATAGRAM: u64 = MTU as u64;

pub(crate) type Factory = Arc<dyn ControllerFactory + Send + Sync>;

/// quinn's controllers, by the names that benches have for them.
pub(crate) fn bases() -> [(&'static str, Factory); 3] {
    [
        ("cubic", Arc::new(CubicConfig::default())),
        ("new_reno", Arc::new(NewRenoConfig::default())),
        ("bbr", Arc::new(BbrConfig::default())),
    ]
}

/// How a controller is governed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Base,
    /// No window is capped: the queue runs empty between samples.
    Free,
    /// The cap is in force.
    Capped,
}

/// A connection that sends and is acknowledged, one datagram each.
pub(crate) struct Connection {
    pub(crate) controller: Box<dyn Controller>,
    flow: MemoryFlow,
    kind: Kind,
    pub(crate) now: Instant,
    pub(crate) packets: u64,
}

impl Connection {
    pub(crate) fn new(factory: &Factory, kind: Kind, start: Instant, rtt: &RttEstimator) -> Self {
        let source = Arc::new(MemorySource::new(2, 16).expect("memory"));
        let flow = source.add_flow().expect("there are 16");
        flow.set_observed(0);
        flow.set_queue(0, 0, 1);
        let factory = Arc::clone(factory);
        let controller = match kind {
            Kind::Base => factory.build(start, MTU),
            Kind::Free | Kind::Capped => Governors::builder(source)
                .base(factory)
                .build()
                .expect("the standard configuration")
                .watch(flow.watch())
                .build(start, MTU),
        };
        let mut connection = Self {
            controller,
            flow,
            kind,
            now: start,
            packets: 0,
        };
        // Long enough for the cap to be in force, and for a window that no longer jumps.
        for _ in 0..2_000 {
            connection.send();
            connection.acknowledge(rtt);
        }
        connection
    }

    pub(crate) fn step(&mut self) {
        self.now += Duration::from_micros(200);
        self.packets += 1;
    }

    /// What the probes write when a datagram has entered the queue.
    pub(crate) fn write(&self) {
        self.flow.set_observed(self.packets);
        if self.kind == Kind::Capped {
            // A standing queue that changes with each packet.
            let own = 30_000 + self.packets % 2 * 1500;
            self.flow.set_queue(own, own, 1);
        } else {
            self.flow.set_queue(0, 0, self.packets);
        }
    }

    pub(crate) fn send(&mut self) {
        self.step();
        self.write();
        self.controller.on_sent(self.now, DATAGRAM, self.packets);
    }

    pub(crate) fn acknowledge(&mut self, rtt: &RttEstimator) {
        let (now, sent) = (self.now, self.now - Duration::from_millis(20));
        self.controller.on_ack(now, sent, DATAGRAM, false, rtt);
        self.controller
            .on_end_acks(now, 20 * DATAGRAM, false, Some(self.packets));
    }

    /// Whether the controller is in the state that it was made for.
    pub(crate) fn check(&self) {
        if self.kind == Kind::Base {
            return;
        }
        let governed = self.controller.clone_box().into_any().downcast();
        let governed: Box<GovernedController> = governed.expect("a governed one");
        let capped = self.kind == Kind::Capped;
        assert_eq!(governed.is_in_force(), capped);
        let is_less = self.controller.window() < governed.base().window();
        assert_eq!(is_less, capped, "the cap is in force");
    }
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Base, Self::Free, Self::Capped];

    /// The name of a bench of this callback.
    pub(crate) fn name(self, callback: &str, base: &str) -> String {
        match self {
            Self::Base => format!("{callback}/{base}"),
            Self::Free => format!("{callback}/{base}/governed_free"),
            Self::Capped => format!("{callback}/{base}/governed_capped"),
        }
    }
}
