//! Options of loading: signals switched off, sends sampled, functions probed.

use std::collections::HashSet;
use std::error::Error;
use std::net::{Ipv4Addr, UdpSocket};
use std::num::NonZeroU32;

use ebpf_congestion_signals::{
    EbpfOptions, EbpfSource, Signal, SignalSource, WatchTarget, best_source,
};

use crate::known::Known;
use crate::traffic::{PAYLOAD, send};
use crate::{TestResult, bytes_sent, source, source_with};
use live_test::Skip;

fn missing(source: &EbpfSource, name: &str) -> Option<String> {
    let capabilities = source.capabilities();
    let found = capabilities.into_iter().find(|found| found.name == name);
    found.expect("the capability is listed").missing
}

#[test]
fn a_signal_switched_off_is_absent_and_its_probes_are_not_attached() -> TestResult {
    source_with(&["sock_send_length"])?;
    let without = |signal| EbpfSource::load_with(&EbpfOptions::default().without(signal));
    let attached = |source: &EbpfSource, probe: &str| -> std::io::Result<bool> {
        Ok(source.costs()?.iter().any(|cost| cost.name == probe))
    };

    let source = without(Signal::Softirqs)?;
    assert!(!attached(&source, "softirq_entry")? && attached(&source, "kfree_skb")?);
    assert_eq!(source.host().softirq, None);
    assert!(source.softirq_by_cpu().is_empty());
    let why = missing(&source, "softirq_entry").ok_or("not attached")?;
    assert!(why.contains("switched off"), "{why}");

    let source = without(Signal::Drops)?;
    assert!(!attached(&source, "kfree_skb")? && attached(&source, "net_dev_queue")?);
    assert_eq!(source.host().drops, None);

    let source = without(Signal::Queues)?;
    assert!(!attached(&source, "qdisc_dequeue")?);

    // Send probes also see buffers, which are not reported then.
    let source = without(Signal::Buffers)?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let watch = source.watch(WatchTarget::socket(&socket))?;
    send(&socket, socket.local_addr()?, 3)?;
    assert_eq!(watch.known_sample().send.map(|send| send.calls), Some(3));
    assert_eq!(
        (watch.known_sample().buffers, source.host().pressure),
        (None, None)
    );

    // Sends are seen for buffers too.
    let source = without(Signal::Sends)?;
    assert_eq!(
        (source.host().udp_send, source.host().tcp_packets),
        (None, None)
    );
    assert!(source.host().pressure.is_some());
    let source = EbpfSource::load_with(
        &EbpfOptions::default()
            .without(Signal::Sends)
            .without(Signal::Buffers),
    )?;
    assert!(!attached(&source, "sock_send_length")? && !attached(&source, "udp_sendmsg")?);
    assert_eq!(source.host().pressure, None);

    // What a governor of senders reads is still there.
    let source = EbpfSource::load_with(&EbpfOptions::default().governing())?;
    assert!(!attached(&source, "softirq_entry")? && !attached(&source, "sock_send_length")?);
    let watch = source.watch(WatchTarget::socket(&socket))?;
    send(&socket, socket.local_addr()?, 3)?;
    assert_eq!(watch.known().observed_packets, 3);
    assert_eq!(watch.sample().send, None);
    assert!(source.other_sets().is_none_or(|others| others > 0));

    let none = Signal::ALL
        .into_iter()
        .fold(EbpfOptions::default(), EbpfOptions::without);
    assert_eq!(EbpfSource::load_with(&none)?.costs()?, []);
    Ok(())
}

/// Programs that this process holds, by what the kernel calls them.
fn held() -> Result<Vec<String>, Box<dyn Error>> {
    let mut ids = HashSet::new();
    for entry in std::fs::read_dir("/proc/self/fdinfo")? {
        // The directory's own descriptor is gone when it is read.
        let Ok(about) = std::fs::read_to_string(entry?.path()) else {
            continue;
        };
        let id = about.lines().find_map(|line| line.strip_prefix("prog_id:"));
        ids.extend(id.and_then(|id| id.trim().parse::<u32>().ok()));
    }
    let programs = aya::programs::loaded_programs().filter_map(Result::ok);
    let ours = programs.filter(|program| ids.contains(&program.id()));
    Ok(ours
        .filter_map(|program| program.name_as_str().map(str::to_owned))
        .collect())
}

#[test]
fn the_best_source_attaches_only_what_governing_needs() -> TestResult {
    const NEEDED: [&str; 3] = ["kfree_skb", "net_dev_queue", "qdisc_dequeue"];
    const NOT_NEEDED: [&str; 7] = [
        "softirq_raise",
        "softirq_entry",
        "softirq_exit",
        "sock_send_length",
        "sock_recv_length",
        "udp_sendmsg",
        "udp_recvmsg",
    ];
    source()?;
    let count = |names: &[&str]| -> Result<Vec<usize>, Box<dyn Error>> {
        let held = held()?;
        // Fifteen bytes of a name are all that the kernel keeps.
        let is = |held: &String, name: &str| held == &name[..name.len().min(15)];
        let count = |name: &&str| held.iter().filter(|held| is(held, name)).count();
        Ok(names.iter().map(count).collect())
    };
    let before = [count(&NEEDED)?, count(&NOT_NEEDED)?];
    let choice = best_source();
    assert_eq!(choice.name(), "ebpf", "{choice}");
    assert_eq!(count(&NOT_NEEDED)?, before[1]);
    let more: Vec<_> = before[0].iter().map(|programs| programs + 1).collect();
    assert_eq!(count(&NEEDED)?, more);
    Ok(())
}

#[test]
fn sampled_sends_are_scaled_back_and_marked() -> TestResult {
    const SENDS: usize = 8000;
    source_with(&["sock_send_length"])?;
    let one_in = |every| NonZeroU32::new(every).ok_or("not zero");
    let source = EbpfSource::load_with(&EbpfOptions::default().sample_sends(one_in(4)?))?;
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let to = sink.local_addr()?;
    let watch = source.watch(WatchTarget::socket(&sender))?;
    let sends = || watch.known_sample().send.ok_or("sends are counted here");
    send(&sender, to, SENDS)?;
    let sampled = sends()?;
    // Of 8000 calls 2000 are expected to be sampled, with a standard deviation of 39: six of
    // those are 12 %.
    let ratio = sampled.calls as f64 / SENDS as f64;
    assert!((0.88..1.12).contains(&ratio), "{sampled:?}");
    assert_eq!(sampled.bytes, sampled.calls * PAYLOAD as u64);
    assert_eq!(sampled.estimated, sampled.calls / 4 * 3);
    assert_eq!(
        watch.known_sample().sent_packets,
        SENDS as u64,
        "packets are exact"
    );

    source.sample_sends(one_in(1)?)?;
    send(&sender, to, 100)?;
    let exact = sends()?;
    assert_eq!(exact.calls, sampled.calls + 100);
    assert_eq!(
        exact.estimated, sampled.estimated,
        "nothing more is estimated"
    );

    source.sample_sends(one_in(1000)?)?;
    send(&sender, to, 100)?;
    assert_eq!((sends()?.calls - exact.calls) % 1000, 0);
    Ok(())
}

#[test]
fn probes_on_functions_count_what_tracepoints_do() -> TestResult {
    source_with(&["sock_send_length"])?;
    let source = EbpfSource::load_with(&EbpfOptions::default().function_probes(true))?;
    if let Some(why) = missing(&source, "udp_sendmsg") {
        return Err(Skip::new(format!("this kernel has no such hook: {why}")).into());
    }
    assert!(
        missing(&source, "sock_send_length").is_some(),
        "one way at a time"
    );
    bytes_sent::udp_calls(&source)?;
    bytes_sent::tcp_bytes(&source)?;
    crate::buffers::receive_buffer(&source)
}
