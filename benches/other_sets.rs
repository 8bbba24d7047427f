//! What a send costs more with each other process that has probes loaded: 1,200 bytes over loopback
//! and through a device's queue, with no set, with sets of all probes, and with sets of what
//! governing needs. Needs root.
//!
//! No criterion: all cases take turns within each round, and processor time is taken, so that what
//! else the machine does falls on all alike. Of each case's rounds the least is shown, and the median.

use std::error::Error;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use ebpf_congestion_signals::{EbpfOptions, EbpfSource};
use nix::time::{ClockId, clock_gettime};

use netlab::{Bottleneck, Family, Path, PathConfig, TokenBucket};

/// Sends of each case in a round, each received at once.
const SENDS: u32 = 1_000;

const ROUNDS: usize = 5;

/// Times that each is timed in a round.
const SLICES: usize = 20;

/// Sets at a time.
const SETS: usize = 3;

/// Lets everything pass, through a queue all the same.
const WIDE: TokenBucket = TokenBucket {
    rate: 100_000_000_000,
    burst: 1 << 20,
    limit: 1 << 20,
};

/// Two sockets, the first of which sends to the second.
struct Pair {
    name: &'static str,
    sender: UdpSocket,
    sink: UdpSocket,
}

impl Pair {
    /// Nanoseconds for a send and its receive.
    fn time(&self) -> Result<f64, Box<dyn Error>> {
        let to = self.sink.local_addr()?;
        let mut buffer = [0; 1500];
        let start = processor_time()?;
        for _ in 0..SENDS {
            self.sender.send_to(&[0; 1200], to)?;
            self.sink.recv(&mut buffer)?;
        }
        let spent = processor_time()?.saturating_sub(start);
        Ok(spent.as_nanos() as f64 / f64::from(SENDS))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(why) = netlab::missing_privilege() {
        eprintln!("nothing is measured: {why}");
        return Ok(());
    }
    let path = Path::new(&PathConfig {
        bottleneck: Bottleneck::Local(WIDE),
        ..PathConfig::default()
    })?;
    let ends = path.addresses(Family::V4);
    let pairs = [
        Pair {
            name: "loopback",
            sender: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
            sink: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
        },
        Pair {
            name: "a queue",
            sender: path.sender().run(|| UdpSocket::bind((ends.sender, 0)))??,
            sink: path
                .receiver()
                .run(|| UdpSocket::bind((ends.receiver, 0)))??,
        },
    ];
    let cases = [
        ("all", EbpfOptions::default()),
        ("governing", EbpfOptions::default().governing()),
    ];
    // By pair, then without, with all, with governing.
    let mut times: [[Vec<f64>; 3]; 2] = Default::default();
    for round in 0..ROUNDS {
        for (index, pair) in pairs.iter().enumerate() {
            for _ in 0..SLICES {
                let time = pair.time()?;
                times[index][0].push(time);
            }
        }
        for (case, (_, options)) in cases.iter().enumerate() {
            let sets: Vec<_> = (0..SETS)
                .map(|_| EbpfSource::load_with(options))
                .collect::<Result<_, _>>()?;
            for (index, pair) in pairs.iter().enumerate() {
                for _ in 0..SLICES {
                    let time = pair.time()?;
                    times[index][case + 1].push(time);
                }
            }
            drop(sets);
        }
        eprint!("\rround {} of {ROUNDS}", round + 1);
    }
    eprintln!();
    println!(
        "| send over | probes | ns a send, least | median | more for each set, least | median |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    for (pair, times) in pairs.iter().zip(&mut times) {
        let [least, median] = summary(&mut times[0]);
        println!("| {} | none | {least:.0} | {median:.0} | | |", pair.name);
        for ((name, _), with) in cases.iter().zip(&mut times[1..]) {
            let with = summary(with);
            let more = [with[0] - least, with[1] - median].map(|more| more / SETS as f64);
            println!(
                "| {} | {SETS} sets, {name} | {:.0} | {:.0} | {:.0} | {:.0} |",
                pair.name, with[0], with[1], more[0], more[1]
            );
        }
    }
    Ok(())
}

/// Of this thread, with the softirqs that its calls run.
fn processor_time() -> Result<Duration, Box<dyn Error>> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// The least and the median.
fn summary(times: &mut [f64]) -> [f64; 2] {
    times.sort_by(f64::total_cmp);
    [times[0], times[times.len() / 2]]
}
