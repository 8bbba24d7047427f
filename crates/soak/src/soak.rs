//! Runs cycles, and prints what each left behind.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ebpf_congestion_signals::SourceKind;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::census::Census;
use crate::cycle::{self, Outcome};
use crate::verdict::{Verdict, check};
use crate::{Options, Source};

/// Cycles of each source until caches, pools and tables have reached their size.
const WARM_UP: usize = 2;

/// Runs the soak test.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::ERROR)
        .with_writer(std::io::stderr)
        .init();
    fastrand::seed(options.seed);
    raise_descriptors()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let kinds: &[SourceKind] = match options.source {
        Source::Ebpf => &[SourceKind::Ebpf],
        Source::Socket => &[SourceKind::Socket],
        Source::Both => &[SourceKind::Ebpf, SourceKind::Socket],
    };
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(options.minutes * 60.0);
    let mut verdict = Verdict::default();
    let mut base = None;
    println!("{HEADING}");
    for number in 0.. {
        if Instant::now() >= end || interrupted.load(Ordering::Relaxed) {
            break;
        }
        let kind = kinds[number % kinds.len()];
        let before = Census::take()?;
        let outcome = cycle::run(kind, options, &interrupted)
            .with_context(|| format!("cycle {}", number + 1))?;
        let census = Census::settled(&before)?;
        println!("{}", row(number + 1, &outcome, &census));
        if let Some(failure) = outcome.tally.failure() {
            println!("      first failure: {failure}");
        }
        verdict.add(number + 1, &outcome);
        if number + 1 == WARM_UP * kinds.len() {
            base = Some((number + 1, census));
        }
        if let Some((warm, base)) = &base
            && number + 1 > *warm
        {
            verdict.growth = check(base, &census, number + 1 - warm);
        }
    }
    if verdict.growth.is_none() {
        println!(
            "too short: memory is compared with that after {} warm-up cycles; give more --minutes, or \
            a shorter --cycle",
            WARM_UP * kinds.len()
        );
        return Ok(ExitCode::from(2));
    }
    println!("{verdict}");
    Ok(if verdict.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Each peer needs a socket.
fn raise_descriptors() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the limit of descriptors")
}

const HEADING: &str = "cycle source connections rebinds vanished failed capped,s fallbacks entries: \
                       most left  slots lost  objects left  RSS,MB  heap,kB  descriptors threads \
                       mappings";

fn row(number: usize, outcome: &Outcome, census: &Census) -> String {
    let [connected, rebound, vanished, failed] = outcome.tally.counts();
    format!(
        "{number:5} {:6} {connected:11} {rebound:7} {vanished:8} {failed:6} {:8.1} {:9} {:13} {:4} \
         {:11} {:13} {:7.1} {:8.1} {:12} {:7} {:8}",
        outcome.kind.name(),
        outcome.report.capped.as_secs_f64(),
        outcome.report.fallbacks.total(),
        outcome.most_entries,
        outcome.entries.total(),
        outcome.lost_slots,
        outcome.kernel_objects,
        kilo(census.resident_kb),
        heap_kilobytes(census),
        census.descriptors,
        census.threads,
        census.mappings,
    )
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn kilo(number: u64) -> f64 {
    number as f64 / 1024.0
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn heap_kilobytes(census: &Census) -> f64 {
    census.heap_bytes as f64 / 1024.0
}
