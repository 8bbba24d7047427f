//! The source without privilege on the running kernel, compared with independent counts: what
//! receivers read, what `sendmsg` returned, what `tc` prints.
//!
//! The source itself needs no privilege; setting up the queues that it is tested with does.
#![cfg(target_os = "linux")]

#[macro_use]
extern crate live_test;

mod backlog;
mod devices;
mod drops;
mod errors;
mod faults;
mod ours;
mod peers;
mod receiving;

use std::error::Error;
use std::process::ExitCode;
use std::sync::OnceLock;

use live_test::TestResult;

fn main() -> ExitCode {
    // Without privilege they run in a user namespace; where that is refused, what needs a path is
    // skipped.
    let _ = netlab::acquire_privilege();
    live_test::main()
}

/// The source needs no privilege; the queues that some tests lay do, if only in a user namespace.
///
/// # Errors
///
/// The test is skipped where this process may not lay paths.
fn paths() -> Result<(), Box<dyn Error>> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let missing = MISSING.get_or_init(|| {
        let path = ours::bottleneck(1_000_000, 3000, 10_000);
        path.err().map(|error| error.to_string())
    });
    Ok(live_test::require(missing.as_deref())?)
}

/// The same for a path with a TUN device.
fn tun() -> Result<(), Box<dyn Error>> {
    Ok(live_test::require(netlab::missing_privilege())?)
}
