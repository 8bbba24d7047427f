//! Whether what was read of a flow still holds.

/// The version of a flow's [`LocalCongestion`](crate::LocalCongestion), as
/// [`Watch::versioned`](crate::Watch::versioned) gives it. To compare it costs less than to read
/// the flow again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    sent: u64,
    of_queue: u64,
    of_flow: u32,
    /// Index of the queue, or one of the numbers below.
    queue: u32,
}

/// There is no queue. Only probes report which queue a flow is in, if any.
#[cfg(all(feature = "ebpf", target_os = "linux"))]
const NO_QUEUE: u32 = u32::MAX - 1;
/// What was read cannot be compared.
const UNKNOWN: u32 = u32::MAX;

impl Version {
    /// Never holds: what has this version is always read again.
    pub const UNKNOWN: Self = Self {
        sent: 0,
        of_queue: 0,
        of_flow: 0,
        queue: UNKNOWN,
    };

    /// Of a flow in a queue of this index.
    pub(crate) const fn in_queue(of_flow: u32, sent: u64, of_queue: u64, queue: u32) -> Self {
        Self {
            sent,
            of_queue,
            of_flow,
            queue,
        }
    }

    #[inline]
    pub(crate) const fn of_flow(&self) -> u32 {
        self.of_flow
    }

    /// As numbers, for storage in atomics.
    #[inline]
    pub const fn to_words(self) -> [u64; 3] {
        let (queue, of_flow) = (self.queue as u64, self.of_flow as u64);
        [self.sent, self.of_queue, queue << 32 | of_flow]
    }

    /// What [`to_words`](Self::to_words) gave.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "two numbers are taken apart"
    )]
    #[inline]
    pub const fn from_words([sent, of_queue, last]: [u64; 3]) -> Self {
        Self {
            sent,
            of_queue,
            of_flow: last as u32,
            queue: (last >> 32) as u32,
        }
    }
}

/// What only the source with probes asks.
#[cfg(all(feature = "ebpf", target_os = "linux"))]
impl Version {
    /// Of a flow that is in no queue.
    pub(crate) const fn without_queue(of_flow: u32, sent: u64) -> Self {
        Self::in_queue(of_flow, sent, 0, NO_QUEUE)
    }

    #[inline]
    pub(crate) const fn is_unknown(&self) -> bool {
        self.queue == UNKNOWN
    }

    #[inline]
    pub(crate) const fn sent(&self) -> u64 {
        self.sent
    }

    #[inline]
    pub(crate) const fn of_queue(&self) -> u64 {
        self.of_queue
    }

    /// Index of the queue.
    #[inline]
    pub(crate) const fn queue(&self) -> Option<u32> {
        if self.queue < NO_QUEUE {
            Some(self.queue)
        } else {
            None
        }
    }
}

/// What has changed of a flow since a [`Version`] of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Nothing.
    Nothing,
    /// Packets entered or left the queue, or were observed. None was dropped.
    Traffic,
    /// Anything: packets of the flow may have been dropped, it may be in another queue, or the
    /// source does not know.
    Any,
}
