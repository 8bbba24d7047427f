//! Runs the privileged tests on Debian's kernels, each booted in a virtual machine.
//!
//! For each series the newest kernel that the archive has is fetched with apt and booted under
//! qemu with an initramfs that holds a busybox, `ip`, `tc` and `nft`, the modules that the tests need,
//! and the tests themselves as static programs. What it all needs and makes lives in
//! `target/kernels`; nothing is installed, and no privilege is needed but for the running kernel.

mod archive;
mod cpio;
mod guest;
mod image;
#[cfg(all(feature = "lab", target_os = "linux"))]
pub(crate) mod lab;
mod modules;
mod outcome;
mod process;
mod programs;
mod series;
mod signals;
mod table;
mod userland;

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use archive::Archive;
use outcome::Outcome;
use programs::Programs;
use series::{Series, Variant};
use table::Column;

/// Everything that is made lives here.
const DIRECTORY: &str = "target/kernels";

/// Series that are tested when none is asked for: each end of what is supported, and the kernels
/// of Debian's releases.
const ALWAYS: [&str; 5] = ["5.10", "6.1", "6.12", "7.x", "live"];

/// Series between them, tested too as long as the archive has them.
const IF_THERE: [&str; 4] = ["6.16", "6.17", "6.18", "6.19"];

/// How to run the tests.
#[derive(Args)]
pub(crate) struct Options {
    /// Kernels: a series (`6.12`), the newest of a major version (`7.x`), or the running one
    /// (`live`, needs root). With `+4cpus`, `+rt` (PREEMPT_RT) or `+lockdown` behind it, a variant
    /// of it. Without any: 5.10, 6.1, 6.12, 7.x, live, and what the archive has of
    /// those between.
    series: Vec<Series>,
    /// Seconds that all tests of one kernel may take, its boot included; then it is killed.
    #[arg(long, default_value_t = 600, allow_negative_numbers = true)]
    timeout: u64,
    /// Put the table into docs/signals.md, if all is right.
    #[arg(long)]
    docs: bool,
}

/// Runs the tests on every kernel asked for; prints what each can tell and a table of signals by
/// kernel. Fails unless everything that a kernel can tell is right.
pub(crate) fn run(workspace: &Path, options: &Options) -> Result<()> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the tests run on x86_64 kernels: this needs Linux on x86_64"
    );
    let directory = workspace.join(DIRECTORY);
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let boots = options.series.is_empty()
        || options
            .series
            .iter()
            .any(|series| !matches!(series, Series::Live));
    if boots {
        process::require_tools()?;
    }
    let programs = Programs::build(workspace, &directory)?;
    let archive = boots.then(|| Archive::open(&directory)).transpose()?;
    let all_series = match (&archive, options.series.as_slice()) {
        (Some(archive), []) => default_series(archive),
        (_, series) => series.to_vec(),
    };
    let timeout = Duration::from_secs(options.timeout);

    let guests: Vec<_> = all_series
        .iter()
        .map(|series| match &archive {
            Some(archive) if *series != Series::Live => {
                Some(prepare(&directory, archive, series, &programs, timeout))
            }
            _ => None,
        })
        .collect();
    let mut booted = boot(&guests, timeout).into_iter();

    let (mut columns, mut bad) = (Vec::new(), Vec::new());
    for (series, guest) in all_series.iter().zip(guests) {
        eprintln!("=== {series}");
        let outcome = match guest {
            None => guest::run_live(&directory, &programs, timeout),
            Some(Err(error)) => Err(error),
            Some(Ok(guest)) => {
                eprintln!("    {}", guest.release);
                booted.next().context("each guest was booted")?
            }
        }
        .with_context(|| format!("kernel {series}"));
        // One kernel that is not available does not keep the others from being tested.
        let outcome = outcome.unwrap_or_else(|error| Outcome::broken(format!("{error:#}")));
        outcome.tell();
        // It has no signals.
        if series.variant() == Variant::Lockdown {
            if !outcome.faults.is_empty() {
                bad.push(series.to_string());
            }
            continue;
        }
        columns.push(Column {
            series: series.clone(),
            outcome,
        });
    }

    let table = table::markdown(&columns);
    fs::write(directory.join("table.md"), &table).context("writing the table")?;
    println!("{table}");
    let wrong = columns
        .iter()
        .filter(|column| !table::is_right(&column.outcome));
    bad.extend(wrong.map(|column| column.series.to_string()));
    ensure!(bad.is_empty(), "not right on {}", bad.join(", "));
    if options.docs {
        let path = workspace.join(table::DOCUMENT);
        let document = fs::read_to_string(&path).context(table::DOCUMENT)?;
        let document = table::put_into(&document, &table)?;
        fs::write(&path, document).context(table::DOCUMENT)?;
    }
    Ok(())
}

/// What is tested when nothing is asked for, in order.
fn default_series(archive: &Archive) -> Vec<Series> {
    let parse = |text: &&str| Series::from_str(text).ok();
    let mut series: Vec<_> = ALWAYS.iter().filter_map(parse).collect();
    for between in IF_THERE.iter().filter_map(parse) {
        match archive.newest(&between) {
            Ok(_) => series.push(between),
            Err(error) => eprintln!("    without {between}: {error:#}"),
        }
    }
    series.sort();
    series
}

/// A kernel that can be booted.
struct Guest {
    release: String,
    home: PathBuf,
    kernel: image::Kernel,
    initramfs: Vec<u8>,
    variant: Variant,
}

fn prepare(
    directory: &Path,
    archive: &Archive,
    series: &Series,
    programs: &Programs,
    timeout: Duration,
) -> Result<Guest> {
    let package = archive.newest(series)?;
    let home = directory.join(series.to_string());
    let kernel = image::prepare(&home, archive, &package)?;
    let variant = series.variant();
    let initramfs = userland::initramfs(directory, &kernel, archive, programs, variant, timeout)?;
    Ok(Guest {
        release: package.release,
        home,
        kernel,
        initramfs,
        variant,
    })
}

/// Boots those that can be, as many at a time as there are processors: a guest uses one. In their
/// order.
fn boot(guests: &[Option<Result<Guest>>], timeout: Duration) -> Vec<Result<Outcome>> {
    let at_once = thread::available_parallelism().map_or(1, usize::from);
    let guests: Vec<_> = guests.iter().flatten().flatten().collect();
    let mut outcomes = Vec::new();
    for some in guests.chunks(at_once) {
        thread::scope(|scope| {
            let running: Vec<_> = some
                .iter()
                .map(|guest| {
                    let Guest {
                        home,
                        kernel,
                        initramfs,
                        variant,
                        ..
                    } = guest;
                    scope.spawn(move || guest::run(home, kernel, initramfs, *variant, timeout))
                })
                .collect();
            outcomes.extend(running.into_iter().map(|guest| {
                guest
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }));
        });
    }
    outcomes
}
