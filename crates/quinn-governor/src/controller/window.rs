//! The window while the law is in force.

use ebpf_congestion_signals::{Version, Watch};

use super::GovernedController;
use crate::law::CappedWindow;

impl GovernedController {
    /// The capped window, and the version of the sample that it was computed from.
    pub(super) fn governed_window(&self, watch: &Watch) -> Option<(CappedWindow, Version)> {
        let (sample, version) = watch.versioned();
        let signals = self.flow.signals_of(&sample, self.law.mtu())?;
        Some((self.law.window(self.base.window(), &signals), version))
    }

    /// The window while the law is in force.
    #[inline(never)]
    pub(super) fn capped_window(&self) -> u64 {
        let Some(watch) = self.flow.watch() else {
            return self.base.window();
        };
        if let Some(window) = self.cache.window(watch) {
            return window;
        }
        let Some((governed, version)) = self.governed_window(watch) else {
            return self.base.window();
        };
        self.effects.note(&governed);
        self.cache.store(governed.window, version);
        governed.window
    }
}
