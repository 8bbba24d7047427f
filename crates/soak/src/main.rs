//! Runs governed endpoints for a long time and checks that they leak nothing.
//!
//! Peers connect, transfer, change their address and disconnect, while queues are replaced and
//! probes are detached and attached again. After each cycle everything is released; then memory,
//! file descriptors, threads, mappings, BPF map entries, flow slots and BPF objects must be back to
//! what they were before.

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

/// Runs governed endpoints for a long time; fails if they leak anything.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask soak", bin_name = "cargo xtask soak")]
struct Options {
    /// Duration in minutes; the last cycle is completed.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Peers connected at the same time, at most; each has its own socket.
    #[arg(long, default_value_t = 2000)]
    peers: usize,
    /// Duration of the load in a cycle, in seconds.
    #[arg(long, default_value_t = 60.0)]
    cycle: f64,
    /// Flow slots of the probes; with fewer slots than peers, some peers get none.
    #[arg(long, default_value_t = 1024)]
    flows: u32,
    /// Where signals come from.
    #[arg(long, value_enum, default_value_t = Source::Both)]
    source: Source,
    /// Seed of the random choices.
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
    /// One cycle of each in turn.
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
    anyhow::bail!("the soak test needs Linux: it uses network namespaces and probes")
}
