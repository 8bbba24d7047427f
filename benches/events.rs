//! From a drop in the kernel to what follows from it in user space. Needs root.
//!
//! - `events`: to the event in an async consumer that does nothing else: the kernel's time of the drop
//!   against the clock when the consumer has it.
//! - `reaction`: from the return of the send whose datagram a full local queue dropped, to a smaller
//!   `window()` of a governed controller, which is asked as quinn does: before the next datagram.
//!
//! No criterion: each time is taken by itself, for the median and the 99th percentile.

use std::error::Error;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{EbpfSource, Event, SignalSource, WatchTarget};
use nix::sys::socket::{setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};
use quinn_governor::Governors;
use quinn_proto::congestion::ControllerFactory;
use sends::{NARROW, Pair};

mod sends;

/// Times of each.
const TIMES: usize = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(why) = netlab::missing_privilege() {
        println!("nothing is measured: {why}");
        return Ok(());
    }
    let brief = std::env::args().all(|argument| argument != "--bench");
    let times = if brief { 5 } else { TIMES };
    let source = Arc::new(EbpfSource::load()?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    report("events", runtime.block_on(events(&source, times))?);
    report("reaction", reactions(&source, times)?);
    Ok(())
}

/// Each datagram to a socket that is never read is dropped once its buffer is full.
async fn events(source: &EbpfSource, times: usize) -> Result<Vec<Duration>, Box<dyn Error>> {
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    setsockopt(&sink, sockopt::RcvBuf, &4096)?;
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let watch = source.watch(WatchTarget::socket(&sink))?;
    let mut stream = source.events()?;
    let mut found = Vec::new();
    while found.len() < times {
        sender.send_to(&[0; 1200], sink.local_addr()?)?;
        // The first few fill the buffer and are no drops.
        let wait = tokio::time::timeout(Duration::from_millis(50), stream.next());
        let Ok(event) = wait.await else { continue };
        match event {
            Some(Event::Drop(drop)) if drop.flow == Some(watch.id()) => {
                let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
                found.push(now.saturating_sub(Duration::from_nanos(drop.time.as_nanos())));
            }
            Some(_) => {}
            None => return Err("the events have ended".into()),
        }
        // Under the limit of events a second.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(found)
}

fn reactions(source: &Arc<EbpfSource>, times: usize) -> Result<Vec<Duration>, Box<dyn Error>> {
    let pair = Pair::through(NARROW)?;
    let sender = &pair.sender;
    let governor = Governors::new(Arc::clone(source) as _).socket(sender)?;
    let watch = source.watch(WatchTarget::socket(sender))?;
    let drops = || watch.congestion().queue_drops.unwrap_or_default();
    let mut found = Vec::new();
    let mut tries = 0;
    while found.len() < times {
        tries += 1;
        if tries > 20 * times {
            return Err(format!("{} of {tries} drops reduced a window", found.len()).into());
        }
        // A controller reduces once a round trip, so each drop has a new one.
        let mut controller = Arc::clone(&governor).build(Instant::now(), 1200);
        let window = controller.window();
        controller.on_sent(Instant::now(), 1200, 0);
        let before = drops();
        pair.send(1)?;
        let returned = Instant::now();
        if drops() == before {
            continue;
        }
        controller.on_sent(Instant::now(), 1200, 1);
        if controller.window() < window {
            found.push(returned.elapsed());
        }
    }
    println!("reaction: {tries} sends for {} reductions", found.len());
    Ok(found)
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |hundredths: usize| times[(times.len() - 1) * hundredths / 100];
    println!("{name}: median {:?}, p99 {:?}", at(50), at(99));
}
