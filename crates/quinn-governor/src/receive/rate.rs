//! How fast a socket receives.

use std::time::{Duration, Instant};

/// What arrives a second: the greater of the last two spans.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    began: Option<(Instant, u64)>,
    spans: [Option<f64>; 2],
}

impl Rate {
    /// A rate is reported from samples at least `span` apart.
    pub(super) fn on_received(&mut self, now: Instant, received: u64, span: Duration) {
        let Some((began, before)) = self.began else {
            self.began = Some((now, received));
            return;
        };
        let time = now.saturating_duration_since(began);
        if time >= span {
            let bytes = received.saturating_sub(before) as f64;
            self.spans = [Some(bytes / time.as_secs_f64()), self.spans[0]];
            self.began = Some((now, received));
        }
    }

    /// What arrives in so long; `None` before anything is known.
    pub(super) fn bytes_in(&self, time: Duration) -> Option<u64> {
        let rate = self.spans.iter().flatten().copied().reduce(f64::max)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative; the greatest u64 where it is more"
        )]
        let bytes = (rate * time.as_secs_f64()) as u64;
        Some(bytes)
    }
}
