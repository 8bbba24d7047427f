//! What calls of `window(&self)` store: the window, and that it was capped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ebpf_congestion_signals::{Change, Version, Watch};

use crate::law::{CapEffects, CappedWindow};

/// The window, valid while nothing has changed that it depends on.
///
/// quinn asks for the window twice before each datagram, far more often than the queue changes. Its
/// calls are made one after the other: concurrent ones could store a window of the sample before.
#[derive(Debug, Default)]
pub(crate) struct WindowCache {
    /// 0: none is stored.
    window: AtomicU64,
    /// The version of the last sample taken.
    version: [AtomicU64; 3],
    /// When an uncapped connection takes another sample, whether or not anything has changed.
    due: Option<Instant>,
}

impl WindowCache {
    fn version(&self) -> Version {
        let words = self.version.each_ref();
        Version::from_words(words.map(|word| word.load(Ordering::Relaxed)))
    }

    fn set_version(&self, version: Version) {
        for (stored, word) in self.version.iter().zip(version.to_words()) {
            stored.store(word, Ordering::Relaxed);
        }
    }

    /// The stored window, if it is still valid.
    #[inline]
    pub(crate) fn window(&self, watch: &Watch) -> Option<u64> {
        let window = self.window.load(Ordering::Relaxed);
        if window != 0 && self.is_current(watch) {
            Some(window)
        } else {
            None
        }
    }

    /// Stores a window, and the version of the sample that it was computed from.
    pub(crate) fn store(&self, window: u64, version: Version) {
        self.set_version(version);
        self.window.store(window, Ordering::Relaxed);
    }

    /// The window has to be computed again.
    #[inline]
    pub(crate) fn invalidate(&mut self) {
        *self.window.get_mut() = 0;
    }

    /// The law has processed the sample of this version.
    pub(crate) fn on_sample(&mut self, version: Version) {
        self.invalidate();
        self.set_version(version);
    }

    /// Another sample is due then.
    pub(crate) fn set_due(&mut self, due: Instant) {
        self.due = Some(due);
    }

    /// Whether a sample is to be taken even if nothing has changed since the last one.
    #[inline]
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| now >= due)
    }

    /// Whether nothing has changed since the last sample.
    #[inline]
    pub(crate) fn is_current(&self, watch: &Watch) -> bool {
        watch.change_since(&self.version()) == Change::Nothing
    }
}

/// [`CapEffects`] that `window(&self)` can store: 0 for none, 1 for a capped window, and from 2 on the
/// `drained` of the queue whose limit limited sending.
#[derive(Debug, Default)]
pub(crate) struct AtomicCapEffects(AtomicU64);

impl AtomicCapEffects {
    pub(crate) fn load(&self) -> CapEffects {
        let effects = self.0.load(Ordering::Relaxed);
        CapEffects {
            capped: effects > 0,
            limited_at: effects.checked_sub(2),
        }
    }

    pub(crate) fn note(&self, governed: &CappedWindow) {
        let limited_at = governed.limited_at.map(|drained| drained.saturating_add(2));
        if governed.capped && self.0.load(Ordering::Relaxed) < 2 {
            self.0.store(limited_at.unwrap_or(1), Ordering::Relaxed);
        }
    }

    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
