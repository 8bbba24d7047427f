//! What the source without privilege costs: the calls that a socket makes, and those of readers.
//! Needs no privilege.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use criterion::{Criterion, criterion_group, criterion_main};
use ebpf_congestion_signals::{SendOutcome, SignalSource, SocketSend, SocketSource, WatchTarget};

const SEND: SocketSend = SocketSend {
    destination: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9),
    bytes: 12_000,
    segment: Some(1200),
};

fn readers(criterion: &mut Criterion) {
    let source = SocketSource::new();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let observer = source
        .observe_socket(WatchTarget::socket(&socket))
        .expect("a bound UDP socket");
    let watch = source
        .watch(WatchTarget::socket(&socket).sharing())
        .expect("a bound UDP socket");
    let mut group = criterion.benchmark_group("read");
    group.bench_function("congestion", |bench| {
        bench.iter(|| black_box(watch.congestion()))
    });
    group.bench_function("flow sample", |bench| {
        bench.iter(|| black_box(watch.sample()))
    });
    group.bench_function("host sample", |bench| {
        bench.iter(|| black_box(source.host()))
    });
    group.finish();
    drop(observer);
}

/// The socket's memory is read in one call of many: each figure is the mean of both kinds.
fn reports(criterion: &mut Criterion) {
    let source = SocketSource::new();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let observer = source
        .observe_socket(WatchTarget::socket(&socket))
        .expect("a bound UDP socket")
        .expect("the source wants to observe");
    let mut group = criterion.benchmark_group("report");
    group.bench_function("send", |bench| {
        bench.iter(|| black_box(observer.on_send(SEND, SendOutcome::Sent)))
    });
    let peers: Vec<_> = (1000..1100)
        .map(|port| {
            let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            source.watch(WatchTarget::socket(&socket).peer(peer))
        })
        .collect();
    let send = SocketSend {
        destination: SocketAddr::from((Ipv4Addr::LOCALHOST, 1050)),
        ..SEND
    };
    group.bench_function("send, one of 100 peers", |bench| {
        bench.iter(|| black_box(observer.on_send(send, SendOutcome::Sent)))
    });
    drop(peers);
    group.bench_function("receive", |bench| {
        bench.iter(|| observer.on_receive(black_box(None)))
    });
    group.finish();
}

criterion_group!(benches, readers, reports);
criterion_main!(benches);
