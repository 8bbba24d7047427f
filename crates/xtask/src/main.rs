//! The project's own tasks, run as `cargo xtask`.

#![forbid(unsafe_code)]

mod ablation;
mod bpf;
mod coverage;
mod figures;
mod first_command;
mod instructions;
mod kernels;
#[cfg(all(feature = "lab", target_os = "linux"))]
mod lab;
#[cfg(not(all(feature = "lab", target_os = "linux")))]
mod lab_apart;
mod memory_checks;
mod program;
mod readme;
mod soak;
mod toolchain;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::toolchain::Toolchain;

/// The project's own tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the probes and replace the committed object.
    Bpf {
        /// Do not replace the object: fail unless it is what the sources build, byte for byte.
        #[arg(long, conflicts_with = "lint")]
        check: bool,
        /// Do not build: run clippy on the probes, and fail if it warns.
        #[arg(long)]
        lint: bool,
    },
    /// Print which toolchain builds the probes here, or what it lacks.
    Toolchain {
        /// Print only the commands (Debian, as root) that install what is missing.
        #[arg(long)]
        install_commands: bool,
    },
    /// Run the first command of README.md.
    FirstCommand {
        /// Write its output into README.md, and its picture into docs.
        #[arg(long)]
        readme: bool,
    },
    /// Run the benches and write what they measured into docs/cost.md. As root, on an idle machine.
    Figures {
        /// Run nothing: write the results of the last runs.
        #[arg(long)]
        measured: bool,
    },
    /// Switch off each mechanism of the control law in turn, and print what changes in the
    /// simulator.
    Ablation(ablation::Options),
    /// Count the instructions of the hot paths under valgrind; fail if they are more than the
    /// committed ones.
    Instructions {
        /// Replace the committed figures.
        #[arg(long)]
        bless: bool,
    },
    /// Run the tests of the published crates and report which lines they run, by file. As root.
    Coverage(coverage::Options),
    /// Run the unit tests of unsafe code under valgrind's memcheck.
    Memcheck(memory_checks::Options),
    /// Run the unit tests of unsafe code under Miri, if a toolchain has it.
    Miri(memory_checks::Options),
    /// Run governed endpoints for a long time, and fail if they leak anything. As root.
    #[command(disable_help_flag = true)]
    Soak(soak::Options),
    /// Run the privileged tests on Debian's kernels, and print which signals each kernel has.
    Kernels(kernels::Options),
    /// Run scenarios on real queues, stock and governed flows in turn.
    #[cfg(all(feature = "lab", target_os = "linux"))]
    Lab(Box<lab::Options>),
    /// Run scenarios on real queues, stock and governed flows in turn.
    #[cfg(not(all(feature = "lab", target_os = "linux")))]
    #[command(disable_help_flag = true)]
    Lab(lab_apart::Options),
}

fn main() -> ExitCode {
    match run(Args::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Bpf { lint: true, .. } => bpf::lint(&workspace(), &Toolchain::find()?)?,
        Task::Bpf { check: true, .. } => bpf::check(&workspace(), &Toolchain::find()?)?,
        Task::Bpf { .. } => bpf::build(&workspace(), &Toolchain::find()?)?,
        Task::Toolchain { install_commands } => match (Toolchain::find(), install_commands) {
            (Ok(_), true) => {}
            (Ok(found), false) => println!("{found}"),
            (Err(incomplete), true) => print!("{}", incomplete.install_commands()),
            (Err(incomplete), false) => return Err(incomplete.into()),
        },
        Task::FirstCommand { readme } => first_command::run(&workspace(), readme)?,
        Task::Figures { measured } => figures::run(&workspace(), measured)?,
        Task::Ablation(options) => ablation::run(&workspace(), &options)?,
        Task::Instructions { bless } => instructions::run(&workspace(), bless)?,
        Task::Coverage(options) => coverage::run(&workspace(), &options)?,
        Task::Memcheck(options) => memory_checks::memcheck(&workspace(), &options)?,
        Task::Miri(options) => memory_checks::miri(&workspace(), &options)?,
        Task::Soak(options) => soak::run(&workspace(), &options)?,
        Task::Kernels(options) => kernels::run(&workspace(), &options)?,
        #[cfg(all(feature = "lab", target_os = "linux"))]
        Task::Lab(options) => return lab::run(&workspace(), &options),
        #[cfg(not(all(feature = "lab", target_os = "linux")))]
        Task::Lab(options) => lab_apart::run(&workspace(), &options)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The root of this checkout.
fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    // This package lies two directories below the workspace's root.
    package.ancestors().nth(2).unwrap_or(&package).to_owned()
}
