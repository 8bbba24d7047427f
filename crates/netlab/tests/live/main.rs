//! Paths as they behave on a real kernel: what a test that trusts the lab relies on.
#![cfg(target_os = "linux")]

#[macro_use]
extern crate live_test;

mod batches;
mod competitor;
mod program;
mod queue;
mod relay;
mod traffic;

use std::process::ExitCode;

use live_test::{Skip, TestResult};

// Tests run one at a time, so that none disturbs another's timing.
fn main() -> ExitCode {
    // Without privilege they run in a user namespace; where that is refused, they are skipped.
    let _ = netlab::acquire_privilege();
    live_test::main()
}

/// For a test that lays paths.
fn privileged() -> Result<(), Skip> {
    live_test::require(netlab::missing_privilege())
}
