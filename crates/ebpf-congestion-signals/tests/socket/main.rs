//! The source without privilege on the running kernel, held against independent counts: what
//! receivers read, what senders were told, what `tc` says.
//!
//! The source itself needs no privilege; the queues that it is tried in do.
#![cfg(target_os = "linux")]

mod backlog;
mod devices;
mod drops;
mod errors;
mod ours;
mod peers;
mod receiving;

use std::error::Error;

type TestResult = Result<(), Box<dyn Error>>;

/// Whether a test that needs a path of its own may go on.
fn may_lay_paths(test: &str) -> bool {
    netlab::require_privilege(test)
}
