//! How a hop of the path is set up, and what it counts.

use std::time::Duration;

use crate::sim::loss::Loss;

/// How a queue decides what to drop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discipline {
    /// What finds no room.
    #[default]
    TailDrop,
    /// That too, and what has waited too long (RFC 8289).
    CoDel {
        /// The sojourn time that is aimed at.
        target: Duration,
        /// How long it must be exceeded before something is dropped.
        interval: Duration,
    },
    /// What finds no room; what has waited for longer than this is marked, if it can be (the
    /// `ce_threshold` of Linux's fq_codel).
    Marks {
        /// The sojourn time that is not marked.
        after: Duration,
    },
}

impl Discipline {
    /// CoDel as RFC 8289 recommends for the Internet: 5 ms, 100 ms.
    pub fn codel() -> Self {
        Self::CoDel {
            target: Duration::from_millis(5),
            interval: Duration::from_millis(100),
        }
    }
}

/// A hop of the path: a queue drained at a rate, then a delay.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LinkConfig {
    /// Bits per second, link-layer headers included. `None`: whatever comes leaves at once, and
    /// there is no queue.
    pub rate: Option<u64>,
    /// Rates from later times on.
    pub rate_changes: Vec<(Duration, u64)>,
    /// Bytes that may leave at once after idleness, as a token bucket allows. 0: packets leave one
    /// after the other, as a device sends them; what it is sending has left the queue.
    pub burst: u64,
    /// Bytes on the wire that may wait; a batch that finds less room is dropped whole.
    pub limit: u64,
    /// Packets that may wait, batches counted as one each.
    pub packets: usize,
    /// What is dropped.
    pub discipline: Discipline,
    /// Propagation delay.
    pub delay: Duration,
    /// Up to as much is added to the delay of each packet, uniformly; packets stay in order.
    pub jitter: Duration,
    /// Loss behind the queue.
    pub loss: Loss,
}

impl LinkConfig {
    /// A hop that only delays.
    pub fn wire(delay: Duration) -> Self {
        Self {
            rate: None,
            rate_changes: Vec::new(),
            burst: 0,
            limit: u64::MAX,
            packets: usize::MAX,
            discipline: Discipline::TailDrop,
            delay,
            jitter: Duration::ZERO,
            loss: Loss::None,
        }
    }

    /// A device of `rate` bits per second behind a queue of `limit` bytes.
    pub fn device(rate: u64, limit: u64) -> Self {
        Self {
            rate: Some(rate),
            limit,
            ..Self::wire(Duration::ZERO)
        }
    }

    /// A token bucket of `rate` bits per second and `burst` bytes with a queue of `limit` bytes.
    pub fn token_bucket(rate: u64, burst: u64, limit: u64) -> Self {
        Self {
            burst,
            ..Self::device(rate, limit)
        }
    }

    /// With this propagation delay.
    #[must_use]
    pub fn delayed(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// With this loss.
    #[must_use]
    pub fn losing(self, loss: Loss) -> Self {
        Self { loss, ..self }
    }

    /// With this jitter.
    #[must_use]
    pub fn jittering(self, jitter: Duration) -> Self {
        Self { jitter, ..self }
    }
}

/// What a link did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkStats {
    /// Datagrams that left the queue.
    pub sent_packets: u64,
    /// Their bytes on the wire.
    pub sent_bytes: u64,
    /// Datagrams that the queue dropped.
    pub dropped_packets: u64,
    /// Datagrams that the queue marked (ECN-CE).
    pub marked_packets: u64,
    /// Datagrams lost behind the queue.
    pub lost_packets: u64,
    /// Times the queue ran empty.
    pub drained: u64,
    /// The most that ever waited, bytes on the wire.
    pub backlog_peak: u64,
}
