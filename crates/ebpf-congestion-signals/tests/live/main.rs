//! The probes on the running kernel, held against independent counts: what receivers read, what
//! senders were told, what `tc` says. Root is needed; see [`netlab::require_privilege`].
#![cfg(target_os = "linux")]

mod backlog;
mod bytes_sent;
mod events;
mod host;
mod receive_overflow;
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
    for capability in ebpf_congestion_signals::SignalSource::capabilities(source) {
        assert_eq!(
            capability.missing, None,
            "{} is needed here",
            capability.name
        );
    }
    Some((turn, source))
}
