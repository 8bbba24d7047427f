//! Counts under load: most packets are dropped, as fast as this machine can send, and counts are
//! still exact. Events reported and events shed add up to all drops.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{
    Direction, DropClass, EbpfOptions, EbpfSource, Event, EventStream, HostSample, ProbeCost,
    SignalSource, Watch, WatchTarget,
};
use netlab::{Bottleneck, Family, Namespace, Path, PathConfig, TokenBucket};
use nix::sys::socket::{setsockopt, sockopt};
use parking_lot::Mutex;
use tokio::runtime::Builder;

use crate::known::Known;
use crate::traffic::{bind, drain, sink};
use crate::{TestResult, kernel, source};

/// How long is sent.
const FLOOD: Duration = Duration::from_millis(2500);

/// Small, so that the sender's calls and the drops are what takes time.
const PAYLOAD: usize = 100;

/// Some thousand datagrams a second pass, of hundreds of thousands. What waits is far from filling
/// a send buffer, which would be an event too.
const BUCKET: TokenBucket = TokenBucket {
    rate: 1_000_000,
    burst: 15_000,
    limit: 10_000,
};

/// Send buffers of the flooding sockets, bytes.
const SEND_BUFFER: usize = 32 << 20;

/// Events that each CPU may write in a second: far fewer than there are drops, on a slow machine
/// too.
const EVENTS: u32 = 100;

/// How long a reader may be behind when a flood is over.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a reader of events heard.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    drops: u64,
    /// Of buffers over or under their thresholds.
    crossings: u64,
    shed: u64,
}

impl Told {
    fn all(&self) -> u64 {
        self.drops + self.crossings + self.shed
    }
}

/// A sample of the host between two packets: two readings in a row that agree.
fn at_rest(source: &EbpfSource) -> Result<HostSample, Box<dyn Error>> {
    let counters = |sample: &HostSample| (sample.events, sample.events_lost, sample.drops);
    let start = Instant::now();
    let mut last = source.host();
    while start.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(1));
        let now = source.host();
        if counters(&now) == counters(&last) {
            return Ok(now);
        }
        last = now;
    }
    Err("this host never rests".into())
}

/// Reads a new source's events in a thread while `flood` runs, and afterwards until all events of
/// the host up to some moment were reported, or reported as shed: all must be drops. The second
/// value is the sample of that moment.
fn told_during<T>(
    source: &EbpfSource,
    flood: impl FnOnce() -> Result<T, Box<dyn Error>>,
) -> Result<(T, HostSample), Box<dyn Error>> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    // The first reader gets all that was written since the probes were attached, and what is shed
    // from now on.
    let shed_before = source.host().events_lost;
    let stream = source.events()?;
    if source.host().events_lost != shed_before {
        return Err("this host drops too much".into());
    }
    let told = Arc::new(Mutex::new(Told::default()));
    runtime.spawn(read(stream, Arc::clone(&told)));
    let flooded = flood()?;
    let start = Instant::now();
    loop {
        let after = at_rest(source)?;
        let told = *told.lock();
        // Others drop now and then, and a busy reader comes late: until it has caught up.
        let shed = after.events_lost - shed_before;
        let caught_up = told.all() == after.events + shed;
        if caught_up || start.elapsed() > PATIENCE {
            let (drops, written) = (all_drops(&after), after.events);
            println!("events: {drops} drops, {written} written, {shed} shed; {told:?}");
            // Every drop of the host is an event that was written or one that was shed.
            assert_eq!(written + after.events_lost, drops + told.crossings);
            assert_eq!((told.drops + told.crossings, told.shed), (written, shed));
            assert!(shed > written, "most are shed in a flood");
            return Ok((flooded, after));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

async fn read(mut stream: Box<dyn EventStream>, told: Arc<Mutex<Told>>) {
    while let Some(event) = stream.next().await {
        let mut told = told.lock();
        match event {
            Event::Lost { events } => told.shed += events,
            Event::Drop(_) => told.drops += 1,
            _ => told.crossings += 1,
        }
    }
}

/// Drops of the host, of which each is an event.
fn all_drops(sample: &HostSample) -> u64 {
    sample.drops.map_or(0, |drops| drops.total().skbs)
}

/// Sends from every socket to its address at once, each on a thread of its own, for as long as a
/// flood lasts; answers how many datagrams each sent.
fn flood(flows: [(&UdpSocket, SocketAddr); 2]) -> Result<[u64; 2], Box<dyn Error>> {
    let send = |(sender, to): (&UdpSocket, SocketAddr)| -> std::io::Result<u64> {
        let (mut sent, start) = (0, Instant::now());
        while start.elapsed() < FLOOD {
            for _ in 0..100 {
                sender.send_to(&[7; PAYLOAD], to)?;
                sent += 1;
            }
        }
        Ok(sent)
    };
    thread::scope(|scope| {
        let [first, second] = flows.map(|flow| scope.spawn(move || send(flow)));
        let join = |thread: thread::ScopedJoinHandle<_>| thread.join().expect("no panic");
        Ok([join(first)?, join(second)?])
    })
}

/// Prints what the flood was and what it cost.
fn print(what: &str, sent: u64, dropped: u64, before: &[ProbeCost], after: &[ProbeCost]) {
    let seconds = FLOOD.as_secs_f64();
    println!(
        "{what}: {sent} sent, {dropped} dropped, {:.0} drops a second",
        dropped as f64 / seconds
    );
    for (before, after) in before.iter().zip(after) {
        let runs = after.runs - before.runs;
        let time = after.time.saturating_sub(before.time);
        if runs > 0 {
            println!(
                "  {:<18} {runs:>9} runs {:>6} ns a run, {:.1} % of a CPU",
                after.name,
                time.as_nanos() / u128::from(runs),
                100.0 * time.as_secs_f64() / seconds
            );
        }
    }
}

/// What the kernel did not count during a flood, and says so.
#[derive(Clone, Copy, Debug)]
struct RecursionMisses {
    sends: u64,
    drops: u64,
}

impl RecursionMisses {
    fn between(before: &[ProbeCost], after: &[ProbeCost]) -> Self {
        let of = |names: &[&str]| {
            let runs = |costs: &[ProbeCost]| -> u64 {
                let costs = costs.iter().filter(|cost| names.contains(&cost.name));
                costs.filter_map(|cost| cost.recursion_misses).sum()
            };
            runs(after) - runs(before)
        };
        let recursion_misses = Self {
            sends: of(&["sock_send_length", "udp_sendmsg"]),
            drops: of(&["kfree_skb", "udp_fail_queue_rcv_skb"]),
        };
        println!("{recursion_misses:?}");
        recursion_misses
    }
}

/// Holds a count against what happened: less is counted only as far as the kernel missed so many
/// runs, each for one datagram.
fn assert_counted(what: &str, counted: u64, happened: u64, recursion_misses: u64) {
    assert!(
        counted <= happened && happened - counted <= recursion_misses,
        "{what}: {counted} counted of {happened}, {recursion_misses} missed"
    );
}

/// Holds what was counted of a sender against what it did.
fn assert_sends(watch: &Watch, sent: u64, recursion_misses: RecursionMisses) {
    let sample = watch.known_sample();
    assert_eq!(sample.sent_packets, sent);
    assert_eq!(sample.sent_bytes, sent * PAYLOAD as u64);
    if let Some(send) = sample.send {
        assert_counted("calls", send.calls, sent, recursion_misses.sends);
        assert_eq!(send.bytes, send.calls * PAYLOAD as u64);
    }
}

#[test]
fn a_flood_through_a_small_queue_is_counted_to_the_packet() -> TestResult {
    let shared = source()?;
    let class = if kernel::has(shared, "skb_drop_reason") {
        DropClass::QueueFull
    } else {
        DropClass::Other
    };
    let source = EbpfSource::load_with(&EbpfOptions::default().events_per_second(EVENTS))?;
    let path = Path::new(&PathConfig {
        bottleneck: Bottleneck::Local(BUCKET),
        ..PathConfig::default()
    })?;
    let ends = path.addresses(Family::V4);
    let sinks = [sink(&path, ends.receiver)?, sink(&path, ends.receiver)?];
    let senders = [
        bind(path.sender(), ends.sender)?,
        bind(path.sender(), ends.sender)?,
    ];
    // So large that it never comes near full: crossings would be events too.
    for sender in &senders {
        setsockopt(sender, sockopt::SndBufForce, &SEND_BUFFER)?;
    }
    let watches = [
        source.watch(WatchTarget::socket(&senders[0]))?,
        source.watch(WatchTarget::socket(&senders[1]))?,
    ];
    let accounting = source.account_costs()?;
    let costs = source.costs()?;
    let flows = [
        (&senders[0], sinks[0].local_addr()?),
        (&senders[1], sinks[1].local_addr()?),
    ];
    let (sent, after) = told_during(&source, || flood(flows))?;
    let costs_after = source.costs()?;
    let recursion_misses = RecursionMisses::between(&costs, &costs_after);
    drop(accounting);
    let arrived = [drain(&sinks[0])?, drain(&sinks[1])?];
    let told_by_tc = path.bottleneck_stats()?;

    println!(
        "tc: {} dropped, {} sent",
        told_by_tc.dropped, told_by_tc.sent_packets
    );
    let mut dropped = 0;
    for index in 0..2 {
        let drops = watches[index].known_sample().drops;
        let counted = drops.get(Direction::Egress, class).packets;
        println!(
            "socket {index}: {} sent, {} arrived, {counted} counted as dropped",
            sent[index], arrived[index]
        );
        let lost = sent[index] - arrived[index];
        assert_counted("drops", counted, lost, recursion_misses.drops);
        assert_eq!(drops.total().packets, counted, "of no other class");
        assert_sends(&watches[index], sent[index], recursion_misses);
        dropped += counted;
    }
    assert_counted(
        "what tc counts",
        dropped,
        told_by_tc.dropped,
        recursion_misses.drops,
    );
    assert_eq!(told_by_tc.sent_packets, arrived.iter().sum::<u64>());
    print(
        "small queue",
        sent.iter().sum(),
        dropped,
        &costs,
        &costs_after,
    );
    assert!(dropped > sent.iter().sum::<u64>() / 2, "most is dropped");
    assert!(all_drops(&after) >= dropped, "the host's are more");
    Ok(())
}

#[test]
fn a_flood_into_a_small_receive_buffer_is_counted_to_the_packet() -> TestResult {
    let shared = source()?;
    let class = if kernel::has(shared, "skb_drop_reason") {
        DropClass::ReceiveBuffer
    } else {
        DropClass::Other
    };
    let source = EbpfSource::load_with(&EbpfOptions::default().events_per_second(EVENTS))?;
    // Of its own: the kernel's table of counters is this test's alone.
    let namespace = Namespace::new()?;
    let sink = bind(&namespace, Ipv4Addr::LOCALHOST.into())?;
    setsockopt(&sink, sockopt::RcvBuf, &16_384)?;
    let senders = [
        bind(&namespace, Ipv4Addr::LOCALHOST.into())?,
        bind(&namespace, Ipv4Addr::LOCALHOST.into())?,
    ];
    for sender in &senders {
        setsockopt(sender, sockopt::SndBufForce, &SEND_BUFFER)?;
    }
    let receiver = source.watch(WatchTarget::socket(&sink))?;
    let watches = [
        source.watch(WatchTarget::socket(&senders[0]))?,
        source.watch(WatchTarget::socket(&senders[1]))?,
    ];
    let accounting = source.account_costs()?;
    let costs = source.costs()?;
    let to = sink.local_addr()?;
    let flows = [(&senders[0], to), (&senders[1], to)];
    let (sent, after) = told_during(&source, || flood(flows))?;
    let costs_after = source.costs()?;
    let recursion_misses = RecursionMisses::between(&costs, &costs_after);
    drop(accounting);
    let read = drain(&sink)?;

    let rows = namespace.udp_sockets(Family::V4, to.port())?;
    let table = rows.first().ok_or("the socket is in the table")?.drops;
    let errors = namespace.udp_counters(Family::V4)?.receive_buffer_errors;
    let drops = receiver.known_sample().drops;
    let counted = drops.get(Direction::Ingress, class).packets;
    let all: u64 = sent.iter().sum();
    println!(
        "{all} sent, {read} read, {counted} counted as dropped; /proc/net/udp: {table}, \
         RcvbufErrors: {errors}; of the senders: {:?}",
        watches
            .each_ref()
            .map(|watch| watch.known_sample().drops.total().packets)
    );
    assert_eq!(table, errors, "the kernel's own counters agree");
    assert_counted(
        "what /proc/net/udp counts",
        counted,
        table,
        recursion_misses.drops,
    );
    // What two CPUs hand over can overflow the backlog of one before it comes to the socket.
    let before_the_socket: u64 = watches
        .iter()
        .map(|watch| watch.known_sample().drops.total().packets)
        .sum();
    let dropped = counted + before_the_socket;
    assert_counted(
        "what was not read",
        dropped,
        all - read,
        recursion_misses.drops,
    );
    for (watch, sent) in watches.iter().zip(&sent) {
        assert_sends(watch, *sent, recursion_misses);
    }
    print("small receive buffer", all, counted, &costs, &costs_after);
    assert!(counted > all / 2, "most is dropped");
    assert!(all_drops(&after) >= counted, "the host's are more");
    Ok(())
}
