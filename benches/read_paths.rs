//! What it costs to learn the state of a watched socket: by loads from the mapped slots, by
//! `bpf()` look-ups of the same bytes, and by asking the socket. Needs root; without it, says so
//! and measures what is left.

use std::hint::black_box;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Instant;

use aya::maps::{Array, Map, MapData, PerCpuArray, loaded_maps};
use criterion::{Criterion, criterion_group, criterion_main};
use ebpf_congestion_signals::{EbpfSource, MockSource, SignalSource, WatchTarget};

/// A slot as the kernel copies it out.
type Slot = [u64; 128];

/// The map of this name in the kernel, the newest if there are several.
fn map(name: &str) -> Option<MapData> {
    let info = loaded_maps()
        .filter_map(Result::ok)
        .filter(|map| map.name() == name.as_bytes());
    MapData::from_id(info.last()?.id()).ok()
}

mod ioctl {
    // The same number as SIOCOUTQ.
    nix::ioctl_read_bad!(outstanding, nix::libc::TIOCOUTQ, nix::libc::c_int);
}

fn mapped(criterion: &mut Criterion, source: &EbpfSource, socket: &UdpSocket) {
    let watch = source
        .watch(WatchTarget::socket(socket))
        .expect("a bound UDP socket");
    let mut group = criterion.benchmark_group("mapped");
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

    let mut group = criterion.benchmark_group("bpf() look-up");
    let slots = map("SLOTS").expect("the source is loaded");
    let slots: Array<_, Slot> = Map::Array(slots).try_into().expect("an array of slots");
    let flow = slots.len() - 1;
    group.bench_function("slot", |bench| {
        bench.iter(|| black_box(slots.get(&flow, 0)))
    });
    let records = map("SOFTIRQS").expect("the source is loaded");
    let records: PerCpuArray<_, [u64; 3]> = Map::PerCpuArray(records)
        .try_into()
        .expect("an array of records");
    group.bench_function("per-CPU record", |bench| {
        bench.iter(|| black_box(records.get(&0, 0).map(|values| values.len())))
    });
    group.finish();
}

fn read_paths(criterion: &mut Criterion) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    match EbpfSource::load() {
        Ok(source) => mapped(criterion, &source, &socket),
        Err(error) => eprintln!("no mapped reads are measured: {error}"),
    }
    let mut group = criterion.benchmark_group("beside");
    group.bench_function("SIOCOUTQ", |bench| {
        bench.iter(|| {
            let mut bytes = 0;
            // SAFETY: the kernel writes an int.
            let answer = unsafe { ioctl::outstanding(socket.as_raw_fd(), &raw mut bytes) };
            black_box((answer, bytes))
        })
    });
    group.bench_function("Instant::now", |bench| {
        bench.iter(|| black_box(Instant::now()))
    });
    let mock = MockSource::new().add_flow().watch();
    group.bench_function("mock congestion", |bench| {
        bench.iter(|| black_box(mock.congestion()))
    });
    group.finish();
}

criterion_group!(benches, read_paths);
criterion_main!(benches);
