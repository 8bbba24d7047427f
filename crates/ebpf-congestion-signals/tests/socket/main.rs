//! The source without privilege on the running kernel, held against independent counts: what
//! receivers read, what senders were told, what `tc` says.
//!
//! The source itself needs no privilege; the queues that it is tried in do.
#![cfg(target_os = "linux")]

#[macro_use]
extern crate live_test;

mod backlog;
mod devices;
mod drops;
mod errors;
#[path = "../live/known.rs"]
mod known;
mod ours;
mod peers;
mod receiving;

use std::error::Error;
use std::process::ExitCode;

use live_test::TestResult;

fn main() -> ExitCode {
    live_test::main()
}

/// The source needs no privilege; the queues that some tests lay do.
///
/// # Errors
///
/// The test is skipped where this process may not lay paths.
fn paths() -> Result<(), Box<dyn Error>> {
    Ok(live_test::require(netlab::missing_privilege())?)
}
