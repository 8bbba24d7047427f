//! What each probe costs a run, as the kernel accounts it: with the sender's socket watched, with it
//! not watched, and when all that is sent is dropped. The row `nothing` is a program that does
//! nothing: so much of every other row is the accounting itself. Needs root.
//! No criterion here: the kernel holds the clock.

use std::error::Error;
use std::net::UdpSocket;

use ebpf_congestion_signals::{EbpfOptions, EbpfSource, ProbeCost, SignalSource, WatchTarget};
use netlab::{Bottleneck, Family, Path, PathConfig, TokenBucket};

/// Datagrams of each case. Enough for a mean that stands within a few nanoseconds.
const DATAGRAMS: usize = 50_000;

/// Lets everything pass, through a queue all the same.
const WIDE: TokenBucket = TokenBucket {
    rate: 100_000_000_000,
    burst: 1 << 20,
    limit: 1 << 20,
};

/// Drops nearly everything.
const NARROW: TokenBucket = TokenBucket {
    rate: 1_000_000,
    burst: 2_000,
    limit: 4_000,
};

fn measure(
    source: &EbpfSource,
    bucket: TokenBucket,
    watched: bool,
) -> Result<Vec<ProbeCost>, Box<dyn Error>> {
    let config = PathConfig {
        bottleneck: Bottleneck::Local(bucket),
        ..PathConfig::default()
    };
    let path = Path::new(&config)?;
    let ends = path.addresses(Family::V4);
    let sink = path
        .receiver()
        .run(|| UdpSocket::bind((ends.receiver, 0)))??;
    let sender = path.sender().run(|| UdpSocket::bind((ends.sender, 0)))??;
    let watch = watched.then(|| source.watch(WatchTarget::socket(&sender).sharing()));
    let watch = watch.transpose()?;
    let before = source.costs()?;
    let to = sink.local_addr()?;
    for _ in 0..DATAGRAMS {
        sender.send_to(&[0; 1200], to)?;
    }
    let mut costs = source.costs()?;
    for (cost, before) in costs.iter_mut().zip(before) {
        cost.runs -= before.runs;
        cost.time -= before.time;
    }
    drop(watch);
    Ok(costs)
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(why) = netlab::missing_privilege() {
        eprintln!("nothing is measured: {why}");
        return Ok(());
    }
    let source = EbpfSource::load_with(&EbpfOptions::default().calibration(true))?;
    let _accounting = source.account_costs()?;
    println!(
        "{:<18} {:>22} {:>22} {:>22}",
        "ns a run (runs)", "watched", "not watched", "dropped"
    );
    let cases = [
        measure(&source, WIDE, true)?,
        measure(&source, WIDE, false)?,
        measure(&source, NARROW, true)?,
    ];
    for (index, probe) in cases[0].iter().enumerate() {
        print!("{:<18}", probe.name);
        for case in &cases {
            let cost = &case[index];
            let nanos = cost.time.as_nanos().checked_div(u128::from(cost.runs));
            let nanos = nanos.map_or_else(|| "-".into(), |nanos| nanos.to_string());
            print!(" {:>22}", format!("{nanos} ({})", cost.runs));
        }
        println!();
    }
    Ok(())
}
