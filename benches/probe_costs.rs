//! What each probe costs a run, in nanoseconds, as the kernel accounts it: with both ends' sockets
//! watched, with neither watched, when nearly all that is sent is dropped, and of the set that only
//! governing needs. What a program that does nothing is accounted, the accounting itself, is taken
//! off. Needs root.
//! No criterion here: the kernel holds the clock.

use std::error::Error;

use ebpf_congestion_signals::{EbpfOptions, EbpfSource, ProbeCost, SignalSource, WatchTarget};
use netlab::TokenBucket;
use sends::{NARROW, Pair, WIDE};

mod sends;

/// Datagrams of each case in a round: enough for a mean that repeats within a few nanoseconds.
const DATAGRAMS: usize = 20_000;

/// Rounds of all cases; the median of each is printed.
const ROUNDS: usize = 7;

/// Fewer runs in a round than this tell nothing of what one costs.
const FEWEST_RUNS: u64 = 1000;

fn measure(
    source: &EbpfSource,
    bucket: TokenBucket,
    watched: bool,
) -> Result<Vec<ProbeCost>, Box<dyn Error>> {
    let pair = Pair::through(bucket)?;
    let (sender, sink) = (&pair.sender, &pair.sink);
    let watch = watched.then(|| {
        let sender = source.watch(WatchTarget::socket(sender).sharing());
        sender.and_then(|sender| Ok([sender, source.watch(WatchTarget::socket(sink))?]))
    });
    let watch = watch.transpose()?;
    let before = source.costs()?;
    sink.set_nonblocking(true)?;
    let mut buffer = [0; 1500];
    for _ in 0..DATAGRAMS {
        pair.send(1)?;
        // What has arrived, if it has.
        let _ = sink.recv(&mut buffer);
    }
    let mut costs = source.costs()?;
    for (cost, before) in costs.iter_mut().zip(before) {
        cost.runs -= before.runs;
        cost.time -= before.time;
    }
    drop(watch);
    Ok(costs)
}

/// One case's cost of a probe, less the accounting: the median of the rounds.
fn median(rounds: &[Vec<ProbeCost>], name: &str) -> Option<f64> {
    let nanos = |cost: &ProbeCost| cost.time.as_nanos() as f64 / cost.runs as f64;
    let mut costs: Vec<f64> = rounds
        .iter()
        .filter_map(|costs| {
            let find = |name| costs.iter().find(|cost| cost.name == name);
            let (cost, nothing) = (find(name)?, find("nothing")?);
            (cost.runs >= FEWEST_RUNS).then(|| nanos(cost) - nanos(nothing))
        })
        .collect();
    costs.sort_by(f64::total_cmp);
    costs.get(costs.len() / 2).copied()
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(why) = netlab::missing_privilege() {
        eprintln!("nothing is measured: {why}");
        return Ok(());
    }
    let source = EbpfSource::load_with(&EbpfOptions::default().calibration(true))?;
    let governing = EbpfOptions::default().governing().calibration(true);
    let governing = EbpfSource::load_with(&governing)?;
    let _accounting = source.account_costs()?;
    let mut cases: [Vec<Vec<ProbeCost>>; 4] = Default::default();
    for _ in 0..ROUNDS {
        cases[0].push(measure(&source, WIDE, true)?);
        cases[1].push(measure(&source, WIDE, false)?);
        cases[2].push(measure(&source, NARROW, true)?);
        cases[3].push(measure(&governing, WIDE, false)?);
    }
    let capabilities = source.capabilities();
    println!("| probe | gives | watched | not watched | dropped | governing, not watched |");
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    for probe in &cases[0][0] {
        let gives = capabilities.iter().find(|found| found.name == probe.name);
        let Some(gives) = gives.map(|found| found.gives.clone()) else {
            continue;
        };
        print!("| `{}` | {gives} |", probe.name);
        for rounds in &cases {
            match median(rounds, probe.name) {
                Some(nanos) => print!(" {:.0} |", nanos.max(0.0)),
                None => print!(" |"),
            }
        }
        println!();
    }
    let nothing = cases[0][0].iter().position(|cost| cost.name == "nothing");
    if let Some(index) = nothing {
        let mut floor: Vec<_> = cases[0]
            .iter()
            .map(|costs| costs[index].time.as_nanos() / u128::from(costs[index].runs.max(1)))
            .collect();
        floor.sort_unstable();
        println!(
            "\nA program that does nothing is accounted {} ns a run, which is taken off.",
            floor[ROUNDS / 2]
        );
    }
    Ok(())
}
