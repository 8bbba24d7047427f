//! Runs each hot callback and each read so many times, for `cargo xtask instructions` to count their
//! instructions under valgrind: over the reader of mapped slots, whose memory this process writes.
//! Needs no privilege. Without valgrind it measures nothing.
//!
//! Each case is one call of [`counted_calls`], in the order of the names that are printed.

use std::hint::black_box;
use std::time::{Duration, Instant};

use connection::{Connection, DATAGRAM, Factory, Kind, bases};
use ebpf_congestion_signals::{CongestionReader, MemorySource, MockSource, SignalSource};
use quinn_governor::testing::rtt_estimator;
use quinn_proto::RttEstimator;

mod connection;

/// Calls of each case. xtask divides by it.
const CALLS: u64 = 1000;

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

fn callbacks(base: &str, factory: &Factory, start: Instant, rtt: &RttEstimator) {
    for kind in Kind::ALL {
        let name = |callback: &str| format!("governor/{}", kind.name(callback, base));
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
        on.check();
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
    let mut reader = CongestionReader::new(watch.clone());
    case("read/mapped", || {
        black_box(reader.read());
    });
    case("read/mapped_anew", || {
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
    for (name, factory) in bases() {
        callbacks(name, &factory, start, &rtt);
    }
}
