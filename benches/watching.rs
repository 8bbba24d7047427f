//! What it takes to begin and to end watching a peer, with a thousand others watched and the table
//! of drop reasons full of what released flows have left. Root is needed.
//!
//! No criterion: each call's processor time is taken, for the median and the longest, so that what
//! else the machine does counts little.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use ebpf_congestion_signals::{DropTable, EbpfOptions, EbpfSource, SignalSource, WatchTarget};

const WATCHED: u16 = 1000;
const RELEASED: usize = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    let source = EbpfSource::load_with(&EbpfOptions::default().flows(2048))?;
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let peer =
        |port| WatchTarget::socket(&server).peer(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let _watched = (1..=WATCHED)
        .map(|port| source.watch(peer(port)))
        .collect::<Result<Vec<_>, _>>()?;
    // Each of these leaves a drop in the table, of a receive buffer that is never read.
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let full = source.watch(WatchTarget::socket(&sink))?;
    while full.sample().drops == Some(DropTable::default()) {
        server.send_to(&[0; 1200], sink.local_addr()?)?;
    }
    drop(full);
    let (mut begin, mut end, mut end_of_dropping) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RELEASED {
        let start = processor_time()?;
        let watch = source.watch(peer(WATCHED + 1))?;
        begin.push(processor_time()?.saturating_sub(start));
        let dropping = source.watch(WatchTarget::socket(&sink))?;
        server.send_to(&[0; 1200], sink.local_addr()?)?;
        let start = processor_time()?;
        drop(dropping);
        end_of_dropping.push(processor_time()?.saturating_sub(start));
        let start = processor_time()?;
        drop(watch);
        end.push(processor_time()?.saturating_sub(start));
    }
    for (what, times) in [
        ("begin", &mut begin),
        ("end", &mut end),
        ("end of a flow with drops", &mut end_of_dropping),
    ] {
        println!("{what}: {}", summary(times));
    }
    println!("reasons lost: {}", source.host().reasons_lost);
    Ok(())
}

/// Of this thread.
fn processor_time() -> Result<Duration, Box<dyn Error>> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

fn summary(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |hundredths: usize| times[(times.len() - 1) * hundredths / 100];
    format!(
        "median {:?}, 99 of 100 below {:?}, longest {:?}",
        at(50),
        at(99),
        at(100)
    )
}
