//! What it costs to learn the state of a watched flow: loads from mapped slots, `bpf()` look-ups of the
//! same bytes, and asking the socket. `mapped` reads a flow that has not changed, `mapped_anew` all of
//! it, `mapped_contended` one that another core writes all the time. These run over memory of this
//! process, with the code that reads the probes' memory. The look-ups need root; without it they are
//! omitted, and a line says so.

use std::hint::black_box;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use aya::maps::{Array, Map, MapData, PerCpuArray, loaded_maps};
use criterion::{Criterion, criterion_group, criterion_main};
use ebpf_congestion_signals::{
    CongestionReader, EbpfSource, MemorySource, MockSource, SignalSource,
};
use nix::libc;

/// A slot as the kernel copies it out.
type Slot = [u64; 128];

/// Slots that one batch copies.
const BATCH: usize = 16;

/// By the reader of mapped slots.
fn mapped(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    let source = MemorySource::new(2, 1).expect("memory");
    let flow = source.add_flow().expect("there is one");
    let watch = flow.watch();
    flow.set_queue(30_000, 60_000, 1);
    let mut reader = CongestionReader::new(watch.clone());
    group.bench_function("mapped", |bench| {
        bench.iter(|| {
            black_box(reader.read());
        })
    });
    group.bench_function("mapped_anew", |bench| {
        bench.iter(|| black_box(watch.congestion()))
    });
    group.bench_function("flow", |bench| bench.iter(|| black_box(watch.sample())));
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = 0;
            while !ends.load(Ordering::Relaxed) {
                bytes = (bytes + 1500) % 60_000;
                flow.set_observed(bytes);
                flow.set_queue(bytes, 60_000, 1);
            }
        });
        // Another core writes to the slot all the time.
        group.bench_function("mapped_contended", |bench| {
            bench.iter(|| {
                black_box(reader.read());
            })
        });
        ends.store(true, Ordering::Relaxed);
    });
    for cpus in [2, 64, 256] {
        let source = MemorySource::new(cpus, 1).expect("memory");
        group.bench_function(format!("host/{cpus}"), |bench| {
            bench.iter(|| black_box(source.host()))
        });
    }
    let mock = MockSource::new().add_flow().watch();
    group.bench_function("mock", |bench| bench.iter(|| black_box(mock.congestion())));
    group.finish();
}

/// The map of this name in the kernel, the newest if there are several.
fn map(name: &str) -> Option<MapData> {
    let info = loaded_maps()
        .filter_map(Result::ok)
        .filter(|map| map.name() == name.as_bytes());
    MapData::from_id(info.last()?.id()).ok()
}

/// `union bpf_attr` for batches.
#[repr(C)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// One call that copies many slots.
fn look_up_batch(map: &MapData, keys: &mut [u32; BATCH], values: &mut [Slot; BATCH]) -> u32 {
    const MAP_LOOKUP_BATCH: libc::c_long = 24;
    let mut position = 0u32;
    let mut attributes = BatchAttributes {
        in_batch: 0,
        out_batch: (&raw mut position).addr() as u64,
        keys: keys.as_mut_ptr().addr() as u64,
        values: values.as_mut_ptr().addr() as u64,
        count: u32::try_from(BATCH).unwrap_or(0),
        map_fd: u32::try_from(map.fd().as_fd().as_raw_fd()).unwrap_or(u32::MAX),
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the kernel writes at most `count` keys and values, and a position.
    unsafe {
        libc::syscall(
            libc::SYS_bpf,
            MAP_LOOKUP_BATCH,
            &raw mut attributes,
            size_of::<BatchAttributes>(),
        )
    };
    attributes.count
}

/// By system calls, from the maps of loaded probes.
fn look_ups(criterion: &mut Criterion) {
    let _source = match EbpfSource::load() {
        Ok(source) => source,
        Err(error) => {
            eprintln!("no look-ups are measured: {error}");
            return;
        }
    };
    let mut group = criterion.benchmark_group("read");
    let batched = map("SLOTS").expect("the source is loaded");
    let (mut keys, mut values) = ([0; BATCH], Box::new([[0; 128]; BATCH]));
    let copied = look_up_batch(&batched, &mut keys, &mut values);
    assert_eq!(copied as usize, BATCH, "a batch is copied");
    group.bench_function("bpf_batch", |bench| {
        bench.iter(|| black_box(look_up_batch(&batched, &mut keys, &mut values)))
    });
    let slots = map("SLOTS").expect("the source is loaded");
    let slots: Array<_, Slot> = Map::Array(slots).try_into().expect("an array of slots");
    let flow = slots.len() - 1;
    assert!(slots.get(&flow, 0).is_ok());
    group.bench_function("bpf_lookup", |bench| {
        bench.iter(|| black_box(slots.get(&flow, 0)))
    });
    let records = map("SOFTIRQS").expect("the source is loaded");
    let records: PerCpuArray<_, [u64; 3]> = Map::PerCpuArray(records)
        .try_into()
        .expect("an array of records");
    assert!(records.get(&0, 0).is_ok());
    group.bench_function("aya_per_cpu", |bench| {
        bench.iter(|| black_box(records.get(&0, 0).map(|values| values.len())))
    });
    group.finish();
}

mod ioctl {
    // The same number as SIOCOUTQ.
    nix::ioctl_read_bad!(outstanding, nix::libc::TIOCOUTQ, nix::libc::c_int);
}

/// `SO_MEMINFO` has nine numbers.
const SO_MEMINFO: libc::c_int = 55;

/// By system calls, from the socket.
fn socket(criterion: &mut Criterion) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let mut group = criterion.benchmark_group("read");
    group.bench_function("siocoutq", |bench| {
        bench.iter(|| {
            let mut bytes = 0;
            // SAFETY: the kernel writes an int.
            let answer = unsafe { ioctl::outstanding(socket.as_raw_fd(), &raw mut bytes) };
            black_box((answer, bytes))
        })
    });
    group.bench_function("so_meminfo", |bench| {
        bench.iter(|| {
            let mut numbers = [0u32; 9];
            let mut length = 36;
            // SAFETY: the kernel writes as many bytes as `length` says at most.
            let answer = unsafe {
                libc::getsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    SO_MEMINFO,
                    numbers.as_mut_ptr().cast(),
                    &raw mut length,
                )
            };
            black_box((answer, numbers))
        })
    });
    group.bench_function("instant_now", |bench| {
        bench.iter(|| black_box(Instant::now()))
    });
    group.finish();
}

criterion_group!(benches, mapped, look_ups, socket);
criterion_main!(benches);
