//! Runs each hot callback and each read so many times, for `cargo xtask instructions` to count their
//! instructions under valgrind: over the reader of mapped slots, whose memory this process writes.
//! Needs no privilege. Without valgrind it measures nothing.
//!
//! Each case is one call of [`counted_calls`], in the order of the names that are printed.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{MemoryFlow, MemorySource, MockSource, SignalSource};
use quinn_governor::testing::rtt_estimator;
use quinn_governor::{GovernedController, Governors};
use quinn_proto::RttEstimator;
use quinn_proto::congestion::{
    BbrConfig, Controller, ControllerFactory, CubicConfig, NewRenoConfig,
};

const MTU: u16 = 1452;
const DATAGRAM: u64 = MTU as u64;

/// Calls of each case. xtask divides by it.
const CALLS: u64 = 1000;

type Factory = Arc<dyn ControllerFactory + Send + Sync>;

/// What xtask counts the instructions of, by this name.
#[inline(never)]
// SAFETY: no other function of the program has this name.
#[unsafe(no_mangle)]
fn counted_calls(call: &mut dyn FnMut()) {
    for _ in 0..CALLS {
        call();
    }
}

fn case(name: &str, mut call: impl FnMut()) {
    println!("case {name}");
    counted_calls(&mut call);
}

/// How a controller is governed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Base,
    /// Nothing is held back: the queue runs empty between looks.
    Free,
    /// The cap is in force.
    Capped,
}

/// A connection that sends and is acknowledged, one datagram each.
struct Connection {
    controller: Box<dyn Controller>,
    flow: MemoryFlow,
    kind: Kind,
    now: Instant,
    packets: u64,
}

impl Connection {
    fn new(factory: &Factory, kind: Kind, start: Instant, rtt: &RttEstimator) -> Self {
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

    fn step(&mut self) {
        self.now += Duration::from_micros(200);
        self.packets += 1;
    }

    /// What the probes write when a datagram has entered the queue.
    fn write(&self) {
        self.flow.set_observed(self.packets);
        if self.kind == Kind::Capped {
            // It stands, and moves.
            let own = 30_000 + self.packets % 2 * 1500;
            self.flow.set_queue(own, own, 1);
        } else {
            self.flow.set_queue(0, 0, self.packets);
        }
    }

    fn send(&mut self) {
        self.step();
        self.write();
        self.controller.on_sent(self.now, DATAGRAM, self.packets);
    }

    fn acknowledge(&mut self, rtt: &RttEstimator) {
        let (now, sent) = (self.now, self.now - Duration::from_millis(20));
        self.controller.on_ack(now, sent, DATAGRAM, false, rtt);
        self.controller
            .on_end_acks(now, 20 * DATAGRAM, false, Some(self.packets));
    }
}

fn callbacks(base: &str, factory: &Factory, start: Instant, rtt: &RttEstimator) {
    for (kind, governed) in [
        (Kind::Base, base),
        (Kind::Free, "governed_free"),
        (Kind::Capped, "governed_capped"),
    ] {
        let name = |callback: &str| match kind {
            Kind::Base => format!("governor/{callback}/{base}"),
            _ => format!("governor/{callback}/{base}/{governed}"),
        };
        let connection = || Connection::new(factory, kind, start, rtt);
        let mut on = connection();
        case(&name("window"), || {
            black_box(on.controller.window());
        });
        case(&name("on_sent"), || {
            on.step();
            on.controller.on_sent(on.now, DATAGRAM, on.packets);
        });
        let mut on = connection();
        let sent = on.now - Duration::from_millis(20);
        on.controller.on_ack(on.now, sent, DATAGRAM, false, rtt);
        case(&name("on_ack"), || {
            on.controller.on_ack(on.now, sent, DATAGRAM, false, rtt);
        });
        let mut on = connection();
        case(&name("on_end_acks"), || {
            on.step();
            let (now, packets) = (on.now, on.packets);
            on.controller
                .on_end_acks(now, 20 * DATAGRAM, false, Some(packets));
        });
        let mut on = connection();
        case(&name("on_congestion_event"), || {
            on.step();
            let sent = on.now - Duration::from_micros(100);
            on.controller
                .on_congestion_event(on.now, sent, false, DATAGRAM);
        });
        let mut on = connection();
        if kind != Kind::Base {
            let governed = on.controller.clone_box().into_any().downcast();
            let governed: Box<GovernedController> = governed.expect("a governed one");
            assert_eq!(governed.is_in_force(), kind == Kind::Capped);
            let is_less = on.controller.window() < governed.base().window();
            assert_eq!(is_less, kind == Kind::Capped, "the cap is in force");
        }
        case(&name("batch"), || {
            for _ in 0..10 {
                black_box(on.controller.window());
            }
            on.step();
            on.write();
            on.controller.on_sent(on.now, 10 * DATAGRAM, on.packets);
            for _ in 0..10 {
                on.controller.on_ack(on.now, sent, DATAGRAM, false, rtt);
            }
            let (now, packets) = (on.now, on.packets);
            on.controller
                .on_end_acks(now, 20 * DATAGRAM, false, Some(packets));
        });
    }
}

fn reads() {
    for cpus in [2, 64, 256] {
        let source = MemorySource::new(cpus, 16).expect("memory");
        case(&format!("read/host/{cpus}"), || {
            black_box(source.host());
        });
    }
    let source = MemorySource::new(2, 16).expect("memory");
    let flow = source.add_flow().expect("there are 16");
    let watch = flow.watch();
    case("read/mapped/no_queue", || {
        black_box(watch.congestion());
    });
    flow.set_queue(30_000, 60_000, 1);
    case("read/mapped", || {
        black_box(watch.congestion());
    });
    case("read/flow", || {
        black_box(watch.sample());
    });
    let mock = MockSource::new().add_flow().watch();
    case("read/mock", || {
        black_box(mock.congestion());
    });
}

fn main() {
    println!("calls {CALLS}");
    case("nothing", || {
        black_box(());
    });
    reads();
    let start = Instant::now();
    let rtt = rtt_estimator(start, Duration::from_millis(20));
    let bases: [(&str, Factory); 3] = [
        ("cubic", Arc::new(CubicConfig::default())),
        ("new_reno", Arc::new(NewRenoConfig::default())),
        ("bbr", Arc::new(BbrConfig::default())),
    ];
    for (name, factory) in bases {
        callbacks(name, &factory, start, &rtt);
    }
}
