//! Sends that are in progress: while one is, the kernel counts as unsent what does not wait.

use std::sync::atomic::{AtomicU32, Ordering};

/// Sends of one socket.
#[derive(Debug, Default)]
pub(super) struct InProgress {
    /// That have begun so far, as far as reported.
    begun: AtomicU32,
    /// That have not ended yet.
    now: AtomicU32,
}

impl InProgress {
    /// A send begins.
    pub(super) fn begins(&self) {
        self.begun.fetch_add(1, Ordering::AcqRel);
        self.now.fetch_add(1, Ordering::AcqRel);
    }

    /// A send has ended, whether or not its beginning was reported.
    pub(super) fn ends(&self) {
        let one_less = |sends: u32| sends.checked_sub(1);
        let _ = self
            .now
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less);
    }

    /// Whether one is in progress.
    pub(super) fn any(&self) -> bool {
        self.now.load(Ordering::Acquire) > 0
    }

    /// Sends that have begun so far.
    pub(super) fn begun(&self) -> u32 {
        self.begun.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_that_ends_without_a_beginning_hides_no_other() {
        let sends = InProgress::default();
        sends.begins();
        sends.begins();
        sends.ends();
        assert!(sends.any());
        sends.ends();
        sends.ends();
        assert!(!sends.any());
        sends.begins();
        assert!(sends.any());
        assert_eq!(sends.begun(), 3);
    }
}
