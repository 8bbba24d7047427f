//! The probes on the running kernel, compared with independent counts: what receivers read, what
//! `sendmsg` returned, what `tc` prints. Needs root.
//!
//! `#[test]` is that of [`live_test`]: a test that lacks a privilege, a program or a signal that
//! the kernel is too old for (see [`kernel`]) is reported as ignored, with its reason. Tests run
//! one at a time.
#![cfg(target_os = "linux")]

#[macro_use]
extern crate live_test;

mod backlog;
mod buffers;
mod busy_device;
mod bytes_sent;
mod events;
mod faults;
mod flood;
mod host;
mod kernel;
mod known;
mod options;
mod queue_disciplines;
mod queue_state;
mod receive_overflow;
mod refusals;
mod rules;
mod silent_drops;
mod slots;
mod sojourn;
mod token_bucket;
mod topology;
mod traffic;
mod unseen;
mod versions;
mod watching;

use std::error::Error;
use std::process::{Command, ExitCode};
use std::sync::OnceLock;

use ebpf_congestion_signals::{EbpfOptions, EbpfSource, LoadError};
use live_test::TestResult;
use netlab::Namespace;

fn main() -> ExitCode {
    live_test::main()
}

/// Loaded once, as a service would.
///
/// # Errors
///
/// The test is skipped where this process may not load probes or lay paths.
fn source() -> Result<&'static EbpfSource, Box<dyn Error>> {
    static SOURCE: OnceLock<Result<EbpfSource, LoadError>> = OnceLock::new();
    let load = || EbpfSource::load_with(&EbpfOptions::default().flows(64));
    let loaded = SOURCE.get_or_init(load);
    if let Err(refused @ LoadError::NotPermitted { .. }) = loaded {
        live_test::require(Some(refused.to_string()))?;
    }
    live_test::require(netlab::missing_privilege())?;
    let source = loaded.as_ref().map_err(ToString::to_string)?;
    kernel::assert_tells_what_its_version_must(source);
    Ok(source)
}

/// As [`source`], for a test that makes no sense without some capabilities: it is skipped where
/// the kernel is too old for one of them.
fn source_with(needs: &[&'static str]) -> Result<&'static EbpfSource, Box<dyn Error>> {
    let source = source()?;
    kernel::needs(source, needs)?;
    Ok(source)
}

/// A command that runs a program inside a namespace; the test is skipped where it is not installed.
fn tool(namespace: &Namespace, program: &str) -> Result<Command, Box<dyn Error>> {
    live_test::require_program(program)?;
    Ok(namespace.command(program))
}
