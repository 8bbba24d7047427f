//! Programs at a receiver that set its window of flow control by its kernel's signals.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::Watch;

/// What a receiving connection says of itself.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ReceiverState {
    /// When it is asked.
    pub now: Instant,
    /// What it received so far, bytes of datagrams.
    pub received: u64,
    /// Its round trip, as it knows it.
    pub round_trip: Duration,
    /// The size of its full datagrams, bytes.
    pub datagram: u16,
}

/// Says, again and again, what a connection's window is to be, bytes; `None`: as it is.
pub type Windows = Box<dyn FnMut(&ReceiverState) -> Option<u64>>;

/// Watches a receiving socket and sets the window of its connection.
#[derive(Clone)]
pub struct WindowControl {
    pub(super) interval: Duration,
    start: Arc<dyn Fn(Watch, u64) -> Windows + Send + Sync>,
}

impl WindowControl {
    /// Asks what `start` makes so often. It is called once for each flow, with the flow's receiving
    /// socket and the window that its connection begins with, bytes.
    pub fn new(
        interval: Duration,
        start: impl Fn(Watch, u64) -> Windows + Send + Sync + 'static,
    ) -> Self {
        Self {
            interval,
            start: Arc::new(start),
        }
    }

    pub(super) fn start(&self, watch: Watch, window: u64) -> Windows {
        (self.start)(watch, window)
    }
}

impl fmt::Debug for WindowControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowControl")
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}
