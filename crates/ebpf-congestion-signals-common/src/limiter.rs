//! How many events one CPU may write in a second.

/// Length of the window that events are counted in, nanoseconds.
const WINDOW_NS: u64 = 1_000_000_000;

/// A fixed window: at most so many events in a second of kernel time. Simple enough for a probe,
/// and bounded at twice the limit over any second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EventWindow {
    /// Kernel time at which the window began, nanoseconds.
    pub since: u64,
    /// Events admitted in it.
    pub admitted: u64,
}

impl EventWindow {
    /// Whether one more event may be written at `now_ns`, with at most `per_second` a second.
    #[inline(always)]
    pub fn admit(&mut self, now_ns: u64, per_second: u32) -> bool {
        if now_ns.wrapping_sub(self.since) >= WINDOW_NS {
            self.since = now_ns;
            self.admitted = 0;
        }
        if self.admitted >= per_second as u64 {
            return false;
        }
        self.admitted += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_admits_the_limit_and_the_next_second_again() {
        let mut window = EventWindow::default();
        let start = 5 * WINDOW_NS;
        let admitted = |window: &mut EventWindow, at: u64| {
            (0..10).filter(|step| window.admit(at + step, 4)).count()
        };
        assert_eq!(admitted(&mut window, start), 4);
        assert_eq!(admitted(&mut window, start + WINDOW_NS / 2), 0);
        assert_eq!(admitted(&mut window, start + WINDOW_NS), 4);
    }

    #[test]
    fn a_limit_of_zero_admits_nothing() {
        let mut window = EventWindow::default();
        assert!(!window.admit(WINDOW_NS, 0));
    }
}
