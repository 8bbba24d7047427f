//! Signals of the whole host.

use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{CongestionSignals, SignalSource, SoftirqSample, WatchTarget};

use crate::known::Known;
use crate::traffic::send;
use crate::{TestResult, source};

#[test]
fn softirq_time_grows_under_load_and_stays_below_wall_time() -> TestResult {
    let source = source()?;
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (before, start) = (source.host(), Instant::now());
    while start.elapsed() < Duration::from_millis(200) {
        send(&sender, sink.local_addr()?, 100)?;
    }
    let (after, wall) = (source.host(), start.elapsed());
    let signals = CongestionSignals::between(&before, &after);
    let cpus = thread::available_parallelism()?.get();
    let available = wall.as_nanos() * cpus as u128;
    let softirq = signals.softirq_ns.expect("nothing was polled elsewhere");
    assert!(
        softirq > 1_000_000,
        "a flood takes over a millisecond: {signals:?}"
    );
    assert!(u128::from(softirq) < available, "{signals:?}");
    assert!(signals.drops > Some(0), "nothing is read: {signals:?}");
    let pressure = signals.avg_wmem_pressure.expect("something was sent");
    assert!((0.0..=1.0).contains(&pressure));
    Ok(())
}

#[test]
fn softirq_wait_and_each_cpus_time_are_told() -> TestResult {
    let source = source()?;
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let softirq = || source.host().softirq.ok_or("reported here");
    let (before, start) = (softirq()?, Instant::now());
    let cpus_before = source.softirq_by_cpu();
    send(&sender, sink.local_addr()?, 4000)?;
    let cpus = source.softirq_by_cpu();
    let (after, wall) = (softirq()?, start.elapsed());

    let wait = after.mean_wait_since(&before).ok_or("some were raised")?;
    assert!(after.waits - before.waits >= 400, "{after:?} {before:?}");
    assert!(wait > Duration::ZERO && wait < wall, "{wait:?}");
    let runs = |cpus: &[SoftirqSample]| cpus.iter().map(|cpu| cpu.runs).sum::<u64>();
    assert!(runs(&cpus) <= after.runs && runs(&cpus_before) >= before.runs);
    assert!(runs(&cpus) - runs(&cpus_before) >= 4000);
    for (cpu, before) in cpus.iter().zip(&cpus_before) {
        let share = cpu.share_since(before, wall);
        assert!((0.0..1.0).contains(&share), "a CPU has one time: {share}");
    }
    let share = after.share_since(&before, wall);
    assert!(share > 0.0, "{share}");
    Ok(())
}

#[test]
fn probes_that_are_detached_leave_counters_standing() -> TestResult {
    // In turn: a child that another test is just starting still holds the probes it was forked
    // with.
    source()?;
    let source = ebpf_congestion_signals::EbpfSource::load()?;
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let watch = source.watch(WatchTarget::socket(&sink))?;
    let to = sink.local_addr()?;
    send(&sink, to, 3)?;
    assert!(watch.known().live);
    assert_eq!(watch.known().observed_packets, 3);
    source.detach();
    send(&sink, to, 3)?;
    assert!(!watch.known().live);
    assert_eq!(watch.known().observed_packets, 3);
    drop(source);
    assert_eq!(
        watch.known_sample().sent_packets,
        3,
        "readable after the source is gone"
    );
    Ok(())
}

#[test]
fn the_kernel_accounts_each_probes_runs() -> TestResult {
    let source = source()?;
    let runs = |name| -> Result<u64, Box<dyn std::error::Error>> {
        let costs = source.costs()?;
        let cost = costs
            .iter()
            .find(|cost| cost.name == name)
            .ok_or("attached")?;
        Ok(cost.runs)
    };
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let accounting = source.account_costs()?;
    let before = runs("net_dev_queue")?;
    send(&socket, socket.local_addr()?, 100)?;
    assert!(runs("net_dev_queue")? >= before + 100);
    drop(accounting);
    Ok(())
}

/// What the verifier walks through of one program (`BPF_COMPLEXITY_LIMIT_INSNS` of the kernel). A
/// kernel that prunes less than another must still come to an end.
const VERIFIER_LIMIT: u32 = 1_000_000;

#[test]
fn each_probe_is_verified_with_half_of_what_the_kernel_allows() -> TestResult {
    let source = source()?;
    let ours: Vec<_> = source
        .costs()?
        .into_iter()
        .map(|cost| cost.name.to_owned())
        .collect();
    assert!(ours.len() > 5, "{ours:?}");
    for program in aya::programs::loaded_programs() {
        // Another process's program can end while it is listed.
        let Ok(program) = program else { continue };
        let Some(name) = program.name_as_str() else {
            continue;
        };
        // Before Linux 5.16 the kernel keeps no such count.
        let Some(instructions) = program.verified_instruction_count() else {
            continue;
        };
        // The kernel cuts names after fifteen bytes.
        if ours.iter().any(|ours| ours.starts_with(name)) {
            println!("{name}: {instructions} instructions verified");
            assert!(instructions <= VERIFIER_LIMIT / 2, "{name}");
        }
    }
    Ok(())
}
