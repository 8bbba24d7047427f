//! The programs as their users run them: as processes, with options, signals and pipes.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that fails shows where")]

#[macro_use]
extern crate live_test;

mod arguments;
mod comparison;
mod loopback;
mod minimal;
mod path;
mod process;
mod report;
mod server;
mod written;

// Tests run one at a time: programs that saturate the processor spoil each other's figures.
fn main() -> std::process::ExitCode {
    live_test::main()
}
