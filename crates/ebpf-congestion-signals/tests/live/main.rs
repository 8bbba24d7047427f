//! The probes on the running kernel, held against independent counts: what receivers read, what
//! senders were told, what `tc` says. Root is needed; see [`netlab::require_privilege`].
//!
//! A test whose signal the kernel is too old for is skipped, and says so; [`kernel`] knows which
//! kernels those are.
#![cfg(target_os = "linux")]

mod backlog;
mod buffers;
mod busy_device;
mod bytes_sent;
mod events;
mod flood;
mod host;
mod kernel;
mod options;
mod queue_disciplines;
mod queue_state;
mod receive_overflow;
mod rules;
mod silent_drops;
mod sojourn;
mod token_bucket;
mod traffic;
mod watching;

use std::error::Error;
use std::sync::OnceLock;

use ebpf_congestion_signals::{EbpfOptions, EbpfSource};
use parking_lot::{Mutex, MutexGuard};

type TestResult = Result<(), Box<dyn Error>>;

/// One test at a time: some hold what the whole host counts against what they did.
static TURN: Mutex<()> = Mutex::new(());

/// Loaded once, as a service would; `None` when this process may not, which is printed, or is a
/// failure where privilege was promised.
fn source(test: &str) -> Option<(MutexGuard<'static, ()>, &'static EbpfSource)> {
    static SOURCE: OnceLock<EbpfSource> = OnceLock::new();
    if !netlab::require_privilege(test) {
        return None;
    }
    let turn = TURN.lock();
    let options = EbpfOptions::default().flows(64);
    let source = SOURCE.get_or_init(|| EbpfSource::load_with(&options).expect("probes load"));
    kernel::assert_tells_what_its_version_must(source);
    Some((turn, source))
}

/// As [`source`], for a test that makes no sense without some capabilities: `None`, and a word
/// why, where the kernel is too old for one of them.
fn source_with(
    test: &str,
    needs: &[&'static str],
) -> Option<(MutexGuard<'static, ()>, &'static EbpfSource)> {
    let (turn, source) = source(test)?;
    kernel::needs(source, test, needs).then_some((turn, source))
}
