//! One cycle: creates a path and a source, runs governed endpoints under load, and releases all of it.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ebpf_congestion_signals::{
    EbpfOptions, EbpfSource, SignalSource, SocketSource, SourceKind, WatchTarget,
};
use netlab::{Family, Namespace, Path, PathConfig};
use quinn::VarInt;
use quinn_governor::{GovernorReport, Governors};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::Options;
use crate::census::{Entries, KernelObjects};
use crate::peers::{Tally, come_and_go};
use crate::{queue, served};

/// Interval between replacements of the queue.
const QUEUE_INTERVAL: Duration = Duration::from_secs(2);

/// Governed clients at a time.
const CLIENTS: usize = 4;

/// How often to check whether the cycle should end.
const POLL: Duration = Duration::from_millis(50);

/// Longest wait for connections to end, for threads to end, and for the kernel to free unreferenced
/// BPF objects.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a cycle did, and what it left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) kind: SourceKind,
    pub(crate) tally: Arc<Tally>,
    pub(crate) report: GovernorReport,
    /// Largest number of map entries seen.
    pub(crate) most_entries: u64,
    /// Map entries at the end, while the source still exists.
    pub(crate) entries: Entries,
    /// Flow slots that could not be taken although no flow was watched.
    pub(crate) lost_slots: u64,
    /// BPF maps and programs that the kernel still had after the source was dropped.
    pub(crate) kernel_objects: u64,
}

/// Runs one.
pub(crate) fn run(
    kind: SourceKind,
    options: &Options,
    interrupted: &AtomicBool,
) -> Result<Outcome> {
    let tally = Arc::new(Tally::default());
    // Its relay keeps as many buffers as it ever needed: it is released with the rest.
    let path = Arc::new(Path::new(&PathConfig::local_queue())?);
    let probes = match kind {
        SourceKind::Ebpf => {
            let options = EbpfOptions::default().flows(options.flows).governing();
            Some(Arc::new(EbpfSource::load_with(&options)?))
        }
        _ => None,
    };
    let objects = KernelObjects::own()?;
    let source: Arc<dyn SignalSource> = match &probes {
        Some(probes) => Arc::clone(probes) as _,
        None => Arc::new(SocketSource::probe()?),
    };
    let governors = Governors::new(source);

    let detach = || {
        if let Some(probes) = &probes {
            probes.detach();
        }
    };
    let most_entries = load(
        &path,
        &governors,
        options,
        &tally,
        interrupted,
        detach,
        &objects,
    )?;

    let report = governors.report();
    let entries = objects.entries()?;
    drop(governors);
    let lost_slots = match &probes {
        Some(probes) => lost_slots(probes, options.flows)?,
        None => 0,
    };
    drop(probes);
    let kernel_objects = wait_for_zero(|| objects.left());
    Ok(Outcome {
        kind,
        tally,
        report,
        most_entries,
        entries,
        lost_slots,
        kernel_objects,
    })
}

/// Runs endpoints under load, and closes them before it returns. Detaches the probes after two
/// thirds of the time. Returns the largest number of map entries.
fn load(
    path: &Arc<Path>,
    governors: &Governors,
    options: &Options,
    tally: &Arc<Tally>,
    interrupted: &AtomicBool,
    detach: impl Fn(),
    objects: &KernelObjects,
) -> Result<u64> {
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(options.cycle);
    let detached = began + Duration::from_secs_f64(options.cycle * 2.0 / 3.0);
    let sending = runtime(path, Path::sender)?;
    let receiving = runtime(path, Path::receiver)?;
    let (client_config, server_config) = served::configs();
    let ends = path.addresses(Family::V4);
    let [from, to] = [ends.sender, ends.receiver].map(|address| SocketAddr::new(address, 0));

    let (of_server, config) = (governors.clone(), server_config.clone());
    let server = inside(
        &sending,
        async move { served::serve(&of_server, config, from) },
    )??;
    let sink = inside(&receiving, async move { served::drain(server_config, to) })??;
    let peers = receiving.spawn(come_and_go(
        client_config.clone(),
        server.local_addr()?,
        options.peers,
        Arc::clone(tally),
    ));
    let sink_address = sink.local_addr()?;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (governors, tally) = (governors.clone(), Arc::clone(tally));
            let config = client_config.clone();
            sending.spawn(served::upload(governors, config, from, sink_address, tally))
        })
        .collect();

    let (mut turn, mut next, mut is_detached, mut most_entries) = (0, began, false, 0);
    while Instant::now() < end && !interrupted.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now >= next {
            queue::replace(path, turn)?;
            turn += 1;
            next = now + QUEUE_INTERVAL;
            most_entries = most_entries.max(objects.entries()?.total());
        }
        if now >= detached && !is_detached {
            detach();
            tally.detached();
            is_detached = true;
        }
        thread::sleep(POLL);
    }
    tally.ends();
    peers.abort();
    for client in clients {
        client.abort();
    }
    for (runtime, endpoint) in [(&sending, server), (&receiving, sink)] {
        inside(runtime, async move {
            endpoint.close(VarInt::from_u32(0), b"the cycle ends");
            let _ = timeout(PATIENCE, endpoint.wait_idle()).await;
        })?;
    }
    receiving.shutdown_timeout(PATIENCE);
    sending.shutdown_timeout(PATIENCE);
    Ok(most_entries)
}

/// A runtime whose worker lives in one of the path's namespaces.
fn runtime(path: &Arc<Path>, end: fn(&Path) -> &Namespace) -> Result<Runtime> {
    let path = Arc::clone(path);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .on_thread_start(move || {
            if let Err(error) = end(&path).enter() {
                // In the wrong namespace no packet reaches its peer.
                eprintln!("error: {error}");
            }
        })
        .build()
        .context("cannot make a runtime")
}

/// Runs a future on the runtime's worker, in its namespace.
fn inside<T: Send + 'static>(
    runtime: &Runtime,
    future: impl Future<Output = T> + Send + 'static,
) -> Result<T> {
    Ok(runtime.block_on(runtime.spawn(future))?)
}

/// Number of flow slots that cannot be taken.
fn lost_slots(source: &EbpfSource, flows: u32) -> Result<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let target = WatchTarget::socket(&socket);
    let mut held = Vec::new();
    for index in 0..flows {
        let [a, b, c, d] = index.to_be_bytes();
        let peer = SocketAddr::from(([10, b, c, d], 1 + u16::from(a)));
        match source.watch(target.peer(peer)) {
            Ok(watch) => held.push(watch),
            Err(_) => break,
        }
    }
    if held.len() == flows as usize && source.watch(target).is_ok() {
        bail!("the source watches more flows than it has slots");
    }
    Ok(u64::from(flows) - held.len() as u64)
}

/// Waits until the count is zero: the kernel frees maps and programs in the background.
fn wait_for_zero(mut count: impl FnMut() -> u64) -> u64 {
    let end = Instant::now() + PATIENCE;
    loop {
        let left = count();
        if left == 0 || Instant::now() > end {
            return left;
        }
        thread::sleep(POLL);
    }
}
