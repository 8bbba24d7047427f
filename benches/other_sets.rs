//! What a `sendmsg` of one datagram of 1,200 bytes and of a GSO batch of ten costs, with its receive:
//! over loopback and through a device's queue; and what more with each process that has probes
//! loaded, all of them or what governing needs. Needs root.
//!
//! No criterion: all cases take turns within each round, and processor time is taken, so that what
//! else the machine does falls on all alike. Of each case's rounds the least is shown, and the median.

use std::error::Error;
use std::time::Duration;

use ebpf_congestion_signals::{EbpfOptions, EbpfSource};
use nix::time::{ClockId, clock_gettime};
use sends::{Pair, WIDE};

mod sends;

/// Sends of each case in a round, each received at once.
const SENDS: u32 = 1_000;

const ROUNDS: usize = 5;

/// Times that each is timed in a round.
const SLICES: usize = 20;

/// Sets at a time.
const SETS: usize = 3;

/// What is sent in one call, and over what.
struct Case {
    name: String,
    pair: Pair,
    segments: usize,
}

impl Case {
    /// Nanoseconds for a call, and for receiving what it sent.
    fn time(&self) -> Result<f64, Box<dyn Error>> {
        let mut buffer = [0; 1500];
        let start = processor_time()?;
        for _ in 0..SENDS {
            self.pair.send(self.segments)?;
            for _ in 0..self.segments {
                self.pair.sink.recv(&mut buffer)?;
            }
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
    let mut pairs = Vec::new();
    for segments in [1, 10] {
        for (over, pair) in [
            ("loopback", Pair::over_loopback()?),
            ("a queue", Pair::through(WIDE)?),
        ] {
            pairs.push(Case {
                name: format!("{segments} over {over}"),
                pair,
                segments,
            });
        }
    }
    let cases = [
        ("all", EbpfOptions::default()),
        ("governing", EbpfOptions::default().governing()),
    ];
    // By pair, then without, with all, with governing.
    let mut times: [[Vec<f64>; 3]; 4] = Default::default();
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
        "| datagrams a call | probes | ns a send, least | median | more for each set, least | median |"
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
