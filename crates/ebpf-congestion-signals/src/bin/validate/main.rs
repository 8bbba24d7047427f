//! Checks a host for those who run it: that the probes attach, that they count right, and that
//! they cost little.
//!
//! ```text
//! cargo run --release -p ebpf-congestion-signals --features validate -- --load iperf3
//! ```
//!
//! Exit codes: 0 when all is well; 1 when a count is wrong or the overhead misses its target; 2
//! when the result is not conclusive: the overhead is too near to the target or spreads too much, wrong
//! arguments, no privilege, no load, or ended too early.
#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
mod args;
#[cfg(target_os = "linux")]
mod cpu;
#[cfg(target_os = "linux")]
mod error;
#[cfg(target_os = "linux")]
mod interrupt;
#[cfg(target_os = "linux")]
mod iperf3;
#[cfg(target_os = "linux")]
mod line;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod measure;
#[cfg(target_os = "linux")]
mod output;
#[cfg(target_os = "linux")]
mod overhead;
#[cfg(target_os = "linux")]
mod probes;
#[cfg(target_os = "linux")]
mod proc_net;
#[cfg(target_os = "linux")]
mod programs;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod self_test;
#[cfg(target_os = "linux")]
mod spread;

/// Exit code of a run that could not tell.
const COULD_NOT_TELL: u8 = 2;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use clap::Parser;

    let args = args::Args::parse();
    match run::run(&args) {
        Ok(verdict) => verdict.exit_code().into(),
        Err(failure) => {
            eprintln!("validate: {}", error::with_causes(&failure));
            COULD_NOT_TELL.into()
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("validate: probes are for Linux: there is no kernel here that they could ask");
    COULD_NOT_TELL.into()
}
