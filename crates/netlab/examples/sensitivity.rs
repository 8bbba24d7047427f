//! What half and double of each of the law's numbers do, measured in the simulator.
//!
//! `cargo run --release -p netlab --example sensitivity [FILE]`
//!
//! Writes a table in Markdown, to the standard output or to a file. The one in the documentation of
//! the law's module is `crates/quinn-governor/src/law/sensitivity.md`. It takes a few minutes.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use netlab::sim::scenarios::{self, Bottleneck, Kind};
use netlab::sim::{
    Control, EndManner, Outcome, Process, Scenario, SharedFactory, SignalConfig, TcpLaw, TcpSpec,
    Watching,
};
use quinn_governor::{GovernorConfig, Governors, Tuning};
use quinn_proto::congestion::CubicConfig;

/// Something measured in a scenario.
struct Figure {
    name: &'static str,
    unit: &'static str,
    /// What changes less is not worth telling.
    matters: f64,
    /// Runs that are averaged, each with a seed of its own.
    runs: u32,
    scenario: fn(Control) -> Scenario,
    measure: fn(&Outcome) -> f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let variations = variations();
    let figures = figures();
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism()?.get();
    let mut measured: Vec<(usize, Vec<f64>)> = thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(variation) = variations.get(index) else {
                    return done;
                };
                let row = figures.iter().map(|figure| {
                    let run = |seed: u32| {
                        let mut scenario = (figure.scenario)(governed(variation.config));
                        scenario.seed = seed.into();
                        (figure.measure)(&scenario.run())
                    };
                    (1..=figure.runs).map(run).sum::<f64>() / f64::from(figure.runs)
                });
                done.push((index, row.collect()));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a worker does not panic"))
            .collect()
    });
    measured.sort_by_key(|(index, _)| *index);
    let rows: Vec<Vec<f64>> = measured.into_iter().map(|(_, row)| row).collect();
    let table = table(&figures, &variations, &rows)?;
    match std::env::args().nth(1) {
        Some(path) => fs::write(path, table)?,
        None => print!("{table}"),
    }
    Ok(())
}

/// A configuration with one number changed.
struct Variation {
    name: String,
    value: String,
    config: GovernorConfig,
}

/// The standard, and then each number halved and doubled.
fn variations() -> Vec<Variation> {
    let standard = GovernorConfig::default();
    let mut variations = vec![Variation {
        name: "standard".into(),
        value: String::new(),
        config: standard,
    }];
    for datagrams in [2, 8] {
        let mut config = standard;
        config.initial_backlog_datagrams(datagrams);
        variations.push(Variation {
            name: "initial_backlog_datagrams".into(),
            value: "4".into(),
            config,
        });
    }
    for name in Tuning::NAMES {
        for factor in [0.5, 2.0] {
            let tuning = Tuning::scaled(name, factor).expect("its own name");
            let mut config = standard;
            config.tuning(Box::leak(Box::new(tuning)));
            variations.push(Variation {
                name: (*name).to_owned(),
                value: Tuning::STANDARD.text(name).expect("its own name"),
                config,
            });
        }
    }
    variations
}

fn governed(config: GovernorConfig) -> Control {
    let base: SharedFactory = Arc::new(CubicConfig::default());
    Control::Governed(Process::new(move |context| {
        let governors = Governors::builder(context.source())
            .base(Arc::clone(&base))
            .config(config)
            .build()
            .expect("the configuration is valid");
        Box::new(move |watch| governors.watch(watch))
    }))
}

fn figures() -> Vec<Figure> {
    let figure = |name, unit, matters, scenario, measure| Figure {
        name,
        unit,
        matters,
        runs: 1,
        scenario,
        measure,
    };
    vec![
        figure("local p50", "ms", 0.1, local_bucket, p50),
        figure("device p50", "ms", 0.1, local_device, p50),
        figure("device goodput", "Mbit/s", 0.2, local_device, goodput),
        figure("300M goodput", "Mbit/s", 1.5, fast, goodput),
        figure("short lost", "", 4.0, short, lost),
        figure("short goodput", "Mbit/s", 0.5, short, goodput),
        figure("tiny lost", "", 4.0, tiny, lost),
        figure("5 ms goodput", "Mbit/s", 0.5, near, goodput),
        figure("beside TCP", "share", 0.03, beside_tcp, share),
        figure("four p50", "ms", 0.2, four, p50),
        figure("four Jain", "", 0.01, four, |outcome| outcome.fairness()),
        figure("fifty p50", "ms", 2.0, fifty, p50),
        figure("fall p50", "ms", 1.0, rate_step, after_the_fall),
        figure("bursts", "ms", 1.5, bursts, completion),
        figure("death burst", "times", 0.1, dies, burst),
        figure("busy host", "Mbit/s", 0.4, busy, goodput),
        Figure {
            // What is lost is a matter of luck.
            runs: 20,
            ..figure("policy drops", "Mbit/s", 0.5, policy, goodput)
        },
        figure("fiftieth missed", "Mbit/s", 0.4, missing, goodput),
        figure("tenth missed", "Mbit/s", 0.4, missing_more, goodput),
        figure("10 ms late", "Mbit/s", 0.4, late, goodput),
        figure("contradictory", "Mbit/s", 0.4, contradictory, goodput),
    ]
}

fn local_bucket(control: Control) -> Scenario {
    scenarios::local_queue(Kind::Bucket.into(), control)
}

fn local_device(control: Control) -> Scenario {
    scenarios::local_queue(Kind::Device.into(), control)
}

fn fast(control: Control) -> Scenario {
    scenarios::local_queue(Bottleneck::fast(Kind::Bucket), control).lasting(Duration::from_secs(3))
}

fn short(control: Control) -> Scenario {
    scenarios::local_queue(Bottleneck::default().holding(20_000), control)
}

fn cell(rate: u64, products: f64, control: Control) -> Scenario {
    let round_trip = Duration::from_millis(5);
    scenarios::local_queue(Bottleneck::of_products(rate, round_trip, products), control)
}

fn tiny(control: Control) -> Scenario {
    cell(50_000_000, 0.2, control)
}

fn near(control: Control) -> Scenario {
    cell(100_000_000, 5.0, control)
}

fn beside_tcp(control: Control) -> Scenario {
    scenarios::beside_tcp(Kind::Bucket, control, &[TcpSpec::local(TcpLaw::Cubic)])
}

fn four(control: Control) -> Scenario {
    scenarios::four_flows(Kind::Bucket, &control).lasting(Duration::from_secs(8))
}

fn fifty(control: Control) -> Scenario {
    scenarios::fifty_peers(Kind::Bucket, &control, Watching::Peer).lasting(Duration::from_secs(5))
}

fn rate_step(control: Control) -> Scenario {
    let mut scenario = scenarios::rate_step(Kind::Bucket, control).lasting(Duration::from_secs(7));
    scenario.trace_interval = Some(Duration::from_millis(1));
    scenario
}

fn bursts(control: Control) -> Scenario {
    scenarios::app_limited(Kind::Device, control, 500_000)
}

fn dies(control: Control) -> Scenario {
    let scenario = scenarios::source_dies(Kind::Device, control, EndManner::Frozen);
    let mut scenario = scenario.lasting(scenarios::SOURCE_DIES + Duration::from_secs(1));
    scenario.trace_interval = Some(Duration::from_millis(1));
    scenario
}

fn busy(control: Control) -> Scenario {
    scenarios::busy_host(Kind::Device.into(), control)
}

fn policy(control: Control) -> Scenario {
    scenarios::policy_drops(local_bucket(control), 0.01)
}

fn faulty(control: Control, change: impl FnOnce(&mut SignalConfig)) -> Scenario {
    let mut signals = SignalConfig::default();
    change(&mut signals);
    scenarios::bad_signals(Kind::Device, control, signals)
}

fn missing(control: Control) -> Scenario {
    faulty(control, |signals| signals.loss = 0.02)
}

fn missing_more(control: Control) -> Scenario {
    faulty(control, |signals| signals.loss = 0.1)
}

fn late(control: Control) -> Scenario {
    faulty(control, |signals| signals.delay = Duration::from_millis(10))
}

fn contradictory(control: Control) -> Scenario {
    faulty(control, |signals| signals.contradiction = 0.01)
}

fn p50(outcome: &Outcome) -> f64 {
    outcome.flows[0].rtt.p50.as_secs_f64() * 1e3
}

fn goodput(outcome: &Outcome) -> f64 {
    outcome.total_goodput() / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
fn lost(outcome: &Outcome) -> f64 {
    outcome.lost_packets() as f64
}

fn share(outcome: &Outcome) -> f64 {
    outcome.flows[0].goodput / outcome.total_goodput()
}

/// Ten round trips after the rate fell, for a second.
fn after_the_fall(outcome: &Outcome) -> f64 {
    let from = scenarios::RATE_STEPS[0] + 10 * scenarios::ROUND_TRIP;
    let range = from.as_secs_f64()..from.as_secs_f64() + 1.0;
    let rows = outcome.trace.of_flow(0);
    let mut rtts: Vec<f64> = rows
        .filter(|row| range.contains(&row.time))
        .map(|row| row.rtt)
        .collect();
    rtts.sort_by(f64::total_cmp);
    rtts.get(rtts.len() / 2).copied().unwrap_or(f64::NAN)
}

fn completion(outcome: &Outcome) -> f64 {
    let times = outcome.flows[0].completions.iter();
    let times: Vec<f64> = times.map(|burst| burst.took.as_secs_f64() * 1e3).collect();
    times.iter().sum::<f64>() / f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX))
}

/// The most in flight in five round trips after the signals' end, by what it was in five before.
fn burst(outcome: &Outcome) -> f64 {
    let end = scenarios::SOURCE_DIES.as_secs_f64();
    let span = 5.0 * scenarios::ROUND_TRIP.as_secs_f64();
    let most = |from: f64, to: f64| {
        let rows = outcome.trace.of_flow(0);
        let rows = rows.filter(|row| (from..to).contains(&row.time));
        let most = rows.map(|row| row.in_flight).max().unwrap_or_default();
        f64::from(u32::try_from(most).unwrap_or(u32::MAX))
    };
    most(end, end + span) / most(end - span, end)
}

fn table(
    figures: &[Figure],
    variations: &[Variation],
    rows: &[Vec<f64>],
) -> Result<String, std::fmt::Error> {
    let standard = &rows[0];
    let mut text = String::new();
    writeln!(text, "Measured with the standard numbers:\n")?;
    writeln!(text, "| figure | standard | told below from a change of |")?;
    writeln!(text, "| --- | --- | --- |")?;
    for (figure, value) in figures.iter().zip(standard) {
        let Figure { name, unit, .. } = figure;
        writeln!(text, "| {name} | {value:.2} {unit} | {} |", figure.matters)?;
    }
    writeln!(text, "\nWith one number changed:\n")?;
    writeln!(text, "| number | standard | half | double |")?;
    writeln!(text, "| --- | --- | --- | --- |")?;
    for (pair, values) in variations[1..].chunks(2).zip(rows[1..].chunks(2)) {
        let Variation { name, value, .. } = &pair[0];
        let changes = values.iter().map(|row| changes(figures, standard, row));
        let changes: Vec<String> = changes.collect();
        writeln!(text, "| `{name}` | {value} | {} |", changes.join(" | "))?;
    }
    Ok(text)
}

/// Which figures changed, and to what.
fn changes(figures: &[Figure], standard: &[f64], row: &[f64]) -> String {
    let changed = figures.iter().zip(standard).zip(row);
    let changed: Vec<String> = changed
        .filter(|((figure, standard), value)| {
            let change = (*value - **standard).abs();
            change >= figure.matters || change.is_nan()
        })
        .map(|((figure, _), value)| format!("{} {value:.2}", figure.name))
        .collect();
    if changed.is_empty() {
        "–".into()
    } else {
        changed.join(", ")
    }
}
