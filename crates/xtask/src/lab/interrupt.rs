//! An end asked for from outside.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// How often to check whether the user interrupted.
const POLL: Duration = Duration::from_millis(10);

/// What a shell has for a program that Ctrl-C ended.
pub(super) const EXIT_CODE: u8 = 130;

/// Whether an end was asked for, by Ctrl-C, SIGTERM or SIGHUP. Asked for twice, the program ends
/// on the spot; even then the kernel removes whatever it had made.
#[derive(Clone, Debug)]
pub(super) struct Interrupt(Arc<AtomicBool>);

/// The error of what was interrupted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

impl Interrupt {
    /// From now on the process does not end by itself when it is asked to.
    pub(super) fn catch() -> Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the first time it finds the flag unset.
            flag::register_conditional_shutdown(signal, EXIT_CODE.into(), Arc::clone(&asked))
                .and_then(|_| flag::register(signal, Arc::clone(&asked)))
                .context("cannot wait for signals")?;
        }
        Ok(Self(asked))
    }

    /// Fails if an end was asked for.
    pub(super) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Interrupted.into());
        }
        Ok(())
    }

    /// Waits until something is so; whether it was before `deadline`.
    pub(super) fn wait(
        &self,
        deadline: Instant,
        mut is_so: impl FnMut() -> Result<bool>,
    ) -> Result<bool> {
        loop {
            self.check()?;
            if is_so()? {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            thread::sleep(POLL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_when_it_is_so_or_too_late_or_interrupted() {
        let interrupt = Interrupt(Arc::default());
        let soon = Instant::now() + Duration::from_millis(30);
        assert!(interrupt.wait(soon, || Ok(true)).unwrap());
        assert!(!interrupt.wait(soon, || Ok(false)).unwrap());
        interrupt.0.store(true, Ordering::Relaxed);
        let error = interrupt.wait(soon, || Ok(true)).unwrap_err();
        assert!(error.is::<Interrupted>());
    }
}
