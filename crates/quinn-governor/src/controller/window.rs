//! The window while the law is in force.

use ebpf_congestion_signals::{Version, Watch};

use super::GovernedController;
use crate::law::Verdict;

impl GovernedController {
    /// What the law makes of the window now, and the version of the sample that it goes by.
    pub(super) fn verdict(&self, watch: &Watch) -> Option<(Verdict, Version)> {
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
        let Some((verdict, version)) = self.verdict(watch) else {
            return self.base.window();
        };
        self.marks.note(&verdict);
        self.cache.store(verdict.window, version);
        verdict.window
    }
}
