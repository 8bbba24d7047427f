//! Why connections have no governor of their own: counted, and logged.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Why a connection runs without a governor of its own. Each is counted in
/// [`GovernorReport::fallbacks`](crate::GovernorReport::fallbacks).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fallback {
    /// The source has no free slot for another peer: its connections run under their socket's
    /// governor. Counted once a second for each connection that waits for a slot.
    PeerNotWatched,
    /// The source does not see what is sent to a peer (address translation between the socket and
    /// the device, for example): its connections run under their socket's governor.
    PeerNotSeen,
    /// The source refuses to watch a socket: its connections run under the base controller.
    SocketNotWatched,
    /// The transport configuration is shared, so the governor could not be set in it: its
    /// connections run under the controller that was set before.
    TransportShared,
}

impl Fallback {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::PeerNotWatched,
        Self::PeerNotSeen,
        Self::SocketNotWatched,
        Self::TransportShared,
    ];

    const fn message(self) -> &'static str {
        match self {
            Self::PeerNotWatched => {
                "a peer is not watched: its connections run under their socket's governor"
            }
            Self::PeerNotSeen => {
                "the kernel's probes do not see what is sent to a peer: its connections run under \
                 their socket's governor"
            }
            Self::SocketNotWatched => {
                "a socket is not watched: its connections run under the base controller"
            }
            Self::TransportShared => {
                "the server's TransportConfig is shared, so the governor could not be set in it: \
                 call Governors::govern on it before it is put into an Arc"
            }
        }
    }
}

/// How often each [`Fallback`] happened. Counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fallbacks {
    counts: [u64; Fallback::ALL.len()],
}

impl Fallbacks {
    /// How often this happened.
    pub fn get(&self, fallback: Fallback) -> u64 {
        self.counts[fallback as usize]
    }

    /// How often any of them happened.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Counts, and warns at most once a minute for each cause.
#[derive(Debug, Default)]
pub(crate) struct FallbackLog {
    counts: [AtomicU64; Fallback::ALL.len()],
    warned: Mutex<[Option<Instant>; Fallback::ALL.len()]>,
}

/// At most one warning of a kind in this time: as quinn-udp does for failed sends.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

impl FallbackLog {
    pub(crate) fn note(&self, now: Instant, fallback: Fallback, cause: &dyn fmt::Display) {
        let index = fallback as usize;
        let count = self.counts[index].fetch_add(1, Ordering::Relaxed) + 1;
        let warned = &mut self.warned.lock()[index];
        if warned.is_none_or(|at| now.saturating_duration_since(at) >= WARNING_INTERVAL) {
            *warned = Some(now);
            tracing::warn!(%cause, count, "{}", fallback.message());
        }
    }

    pub(crate) fn counts(&self) -> Fallbacks {
        Fallbacks {
            counts: std::array::from_fn(|index| self.counts[index].load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_counted_apart() {
        let log = FallbackLog::default();
        #[expect(clippy::disallowed_methods, reason = "a zero for virtual time")]
        let now = Instant::now();
        log.note(now, Fallback::PeerNotSeen, &"a test");
        log.note(now, Fallback::PeerNotSeen, &"a test");
        log.note(now, Fallback::SocketNotWatched, &"a test");
        let counts = log.counts();
        assert_eq!(counts.get(Fallback::PeerNotSeen), 2);
        assert_eq!(counts.get(Fallback::SocketNotWatched), 1);
        assert_eq!(counts.get(Fallback::PeerNotWatched), 0);
        assert_eq!(counts.total(), 3);
    }

    #[test]
    fn every_cause_has_an_index_of_its_own() {
        for (index, fallback) in Fallback::ALL.into_iter().enumerate() {
            assert_eq!(fallback as usize, index);
        }
    }
}
