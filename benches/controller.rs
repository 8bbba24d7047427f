//! What governing adds to the calls that quinn makes: each callback of quinn's controllers, and of the
//! same ones governed, with nothing to hold back and with the cap in force. The path measured is the
//! whole call, with the reading of mapped memory that this process writes. Needs no privilege.
//!
//! Medians differ from run to run on a machine that does other things: compare within one run.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use connection::{Connection, DATAGRAM, Kind, MTU, bases};
use criterion::{Criterion, criterion_group, criterion_main};
use ebpf_congestion_signals::MemorySource;
use quinn_governor::Governors;
use quinn_governor::testing::rtt_estimator;
use quinn_proto::congestion::ControllerFactory;

mod connection;

const ROUND_TRIP: Duration = Duration::from_millis(20);

/// Each callback, alone.
fn callbacks(criterion: &mut Criterion) {
    let start = Instant::now();
    let rtt = rtt_estimator(start, ROUND_TRIP);
    let mut group = criterion.benchmark_group("governor");
    for (base, factory) in bases() {
        for kind in Kind::ALL {
            let connection = || {
                let connection = Connection::new(&factory, kind, start, &rtt);
                connection.check();
                connection
            };
            let on = connection();
            group.bench_function(kind.name("window", base), |bench| {
                bench.iter(|| black_box(on.controller.window()))
            });
            let mut on = connection();
            group.bench_function(kind.name("on_sent", base), |bench| {
                bench.iter(|| {
                    on.step();
                    on.controller.on_sent(on.now, DATAGRAM, on.packets);
                })
            });
            let mut on = connection();
            let sent = on.now - ROUND_TRIP;
            group.bench_function(kind.name("on_ack", base), |bench| {
                bench.iter(|| on.controller.on_ack(on.now, sent, DATAGRAM, false, &rtt))
            });
            let mut on = connection();
            group.bench_function(kind.name("on_end_acks", base), |bench| {
                bench.iter(|| {
                    on.step();
                    let (now, packets) = (on.now, on.packets);
                    on.controller
                        .on_end_acks(now, 20 * DATAGRAM, false, Some(packets));
                })
            });
            let mut on = connection();
            group.bench_function(kind.name("on_congestion_event", base), |bench| {
                bench.iter(|| {
                    on.step();
                    let sent = on.now - Duration::from_micros(100);
                    on.controller
                        .on_congestion_event(on.now, sent, false, DATAGRAM);
                })
            });
        }
    }
    group.finish();
}

/// Building a controller, and a window beside many other controllers of one source: each has its own
/// flow, and the others stay idle.
fn many(criterion: &mut Criterion) {
    let now = Instant::now();
    let mut group = criterion.benchmark_group("governor");
    for live in [1, 100, 10_000] {
        let source = Arc::new(MemorySource::new(2, live + 1).expect("memory"));
        let governors = Governors::new(Arc::clone(&source) as _);
        let build = || {
            let flow = source.add_flow().expect("there are as many");
            let governor = governors.watch(flow.watch());
            (Arc::clone(&governor).build(now, MTU), governor)
        };
        let mut controllers: Vec<_> = (0..live).map(|_| build()).collect();
        let (on, governor) = &mut controllers[0];
        let (mut now, mut packet) = (now, 0);
        group.bench_function(format!("live/{live}"), |bench| {
            bench.iter(|| {
                now += Duration::from_micros(200);
                packet += 1;
                on.on_sent(now, DATAGRAM, packet);
                black_box(on.window())
            })
        });
        group.bench_function(format!("build/{live}"), |bench| {
            bench.iter(|| black_box(Arc::clone(governor).build(now, MTU)))
        });
    }
    group.finish();
}

criterion_group!(benches, callbacks, many);
criterion_main!(benches);
