//! Paths as they behave on a real kernel: what a test that trusts the lab relies on.
#![cfg(target_os = "linux")]

mod batches;
mod competitor;
mod program;
mod queue;
mod relay;
mod traffic;

use std::sync::{Mutex, MutexGuard, PoisonError};

type TestResult = Result<(), Box<dyn std::error::Error>>;

/// Leave to run a privileged test, one at a time so that none disturbs another's timing; `None`
/// when it has to be skipped.
fn privileged(test: &str) -> Option<MutexGuard<'static, ()>> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    netlab::require_privilege(test).then(|| {
        let turn = ONE_AT_A_TIME.lock();
        turn.unwrap_or_else(PoisonError::into_inner)
    })
}
