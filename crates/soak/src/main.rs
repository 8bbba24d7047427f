//! Runs governed endpoints for a long time, and counts what they leave behind.
//!
//! Peers connect, transfer, change their address and go, while queues are replaced under them and
//! probes are detached and attached again. After each cycle everything that was made is released:
//! memory, file descriptors, threads, mappings, entries of BPF maps, flow slots and the BPF objects
//! themselves must be what they were before.

#[cfg(target_os = "linux")]
mod census;
#[cfg(target_os = "linux")]
mod cycle;
#[cfg(target_os = "linux")]
mod heap;
#[cfg(target_os = "linux")]
mod peers;
#[cfg(target_os = "linux")]
mod queue;
#[cfg(target_os = "linux")]
mod served;
#[cfg(target_os = "linux")]
mod soak;
#[cfg(target_os = "linux")]
mod verdict;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// Runs governed endpoints for a long time, and fails if they leave anything behind.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask soak", bin_name = "cargo xtask soak")]
struct Options {
    /// How long, in minutes; the cycle that has begun by then is ended.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Peers that are connected at a time, at most. Each has a socket of its own.
    #[arg(long, default_value_t = 2000)]
    peers: usize,
    /// Length of a cycle in seconds, from loading the probes to releasing everything.
    #[arg(long, default_value_t = 60.0)]
    cycle: f64,
    /// Slots for flows that the probes are loaded with: fewer than peers, so that some get none.
    #[arg(long, default_value_t = 1024)]
    flows: u32,
    /// Where signals come from; `both`: one cycle each in turn.
    #[arg(long, value_enum, default_value_t = Source::Both)]
    source: Source,
    /// Of the random choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Where signals come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Source {
    /// Probes in the kernel.
    Ebpf,
    /// The program's own sockets.
    Socket,
    /// Each in turn.
    Both,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[cfg(target_os = "linux")]
fn run(options: &Options) -> anyhow::Result<ExitCode> {
    soak::run(options)
}

#[cfg(not(target_os = "linux"))]
fn run(_: &Options) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the soak test needs Linux: it is made of network namespaces and probes")
}
