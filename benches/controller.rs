//! What governing adds to the calls that quinn makes for every datagram: stock Cubic, governed
//! over mapped memory with nothing to hold back (a flow whose queue is unknown), and governed with
//! the cap in force (over a mock, whose lock of its own is in the figure).

use std::hint::black_box;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use ebpf_congestion_signals::{EbpfSource, MockSource, QueueId, QueueSample, SignalSource};
use quinn_governor::Governors;
use quinn_proto::congestion::{Controller, ControllerFactory, CubicConfig};

const MTU: u16 = 1452;

fn bench(criterion: &mut Criterion, name: &str, mut controller: Box<dyn Controller>) {
    let mut group = criterion.benchmark_group(name);
    group.bench_function("window", |bench| {
        bench.iter(|| black_box(controller.window()))
    });
    let (mut now, mut packet) = (Instant::now(), 0);
    group.bench_function("on_sent", |bench| {
        bench.iter(|| {
            now += Duration::from_micros(200);
            packet += 1;
            controller.on_sent(now, u64::from(MTU), packet);
        })
    });
    group.finish();
}

/// A mock's flow behind a queue that has stood long enough for the cap to be in force.
fn capped() -> Box<dyn Controller> {
    let source = MockSource::new();
    let flow = source.add_flow();
    let governors = Governors::new(Arc::new(source));
    let start = Instant::now();
    let mut controller = governors.watch(flow.watch()).build(start, MTU);
    let id = QueueId::new(0).expect("the first of many");
    for step in 0..100 {
        // It stands, and moves: a queue that stands still is doubted.
        let own = 30_000 + step % 2 * 1500;
        let queue = QueueSample::new(id)
            .with_own(own)
            .with_shared(own)
            .with_total(own)
            .with_drained(1)
            .with_limit(Some(150_000));
        flow.set_queue(Some(queue));
        flow.observe_sent(1, u64::from(MTU));
        let now = start + Duration::from_millis(step);
        controller.on_sent(now, u64::from(MTU), step);
        controller.on_end_acks(now, u64::from(MTU), false, Some(step));
    }
    let stock = Arc::new(CubicConfig::default()).build(start, MTU);
    assert!(controller.window() < stock.window(), "the cap is in force");
    controller
}

fn controllers(criterion: &mut Criterion) {
    let now = Instant::now();
    bench(
        criterion,
        "stock Cubic",
        Arc::new(CubicConfig::default()).build(now, MTU),
    );
    bench(criterion, "governed, capped, mock", capped());
    match EbpfSource::load() {
        Ok(source) => {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
            let source: Arc<dyn SignalSource> = Arc::new(source);
            let governor = Governors::new(source)
                .socket(&socket)
                .expect("a bound UDP socket");
            bench(criterion, "governed, free, eBPF", governor.build(now, MTU));
        }
        Err(error) => eprintln!("nothing is measured over mapped memory: {error}"),
    }
}

criterion_group!(benches, controllers);
criterion_main!(benches);
