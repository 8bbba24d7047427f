//! What a congestion controller reads at every call.

use super::KernelTime;

/// Identifies a queue of a source. Two samples with equal identifiers are of one queue: an
/// identifier is not used again while its source lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueueId {
    index: u32,
    generation: u32,
}

impl QueueId {
    /// Queues that a source can distinguish at a time.
    pub const COUNT: usize = ebpf_congestion_signals_common::QUEUE_SLOTS as usize;

    /// The first queue that has this index; `None` from [`QueueId::COUNT`] on.
    pub const fn new(index: usize) -> Option<Self> {
        Self::with_generation(index, 0)
    }

    /// The queue that has this index after `generation` others have had it; `None` from
    /// [`QueueId::COUNT`] on.
    pub const fn with_generation(index: usize, generation: u32) -> Option<Self> {
        if index < Self::COUNT {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "below COUNT, which is a u32"
            )]
            let index = index as u32;
            Some(Self { index, generation })
        } else {
            None
        }
    }

    /// A number below [`QueueId::COUNT`] that no other queue of the source has at the same time,
    /// for use as a table index. A later queue can get the same index: compare the whole
    /// identifier.
    #[inline]
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// How many queues had this index before.
    #[inline]
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

/// The egress queue of a flow, in bytes as the queue discipline counts them: on-wire length, with
/// what a size table adds. `None` where the source does not know a figure, or knows that it would
/// be wrong.
///
/// The figures are read one after the other while the kernel continues to count: a packet may be in
/// one and not in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueSample {
    /// Which queue; if the flow is in several, the one that holds most of it.
    pub id: QueueId,
    /// Queued bytes of this flow: in this queue, and in others that it is in at the same time
    /// (`mq`, a shaper above another). Gauge.
    pub own: Option<u64>,
    /// Bytes of all flows watched as [sharing](crate::WatchTarget::sharing) in this queue, this
    /// flow included as in `own` when it is one of them. Gauge.
    pub shared: Option<u64>,
    /// Bytes of all senders in this queue, this flow included as in `own`. Gauge.
    pub total: Option<u64>,
    /// Times the queue ran empty. Counter.
    pub drained: Option<u64>,
    /// Bytes that the queue holds before it drops; `None` where that is not known or not counted in
    /// bytes.
    pub limit: Option<u64>,
}

impl QueueSample {
    /// A queue of which nothing else is known.
    pub const fn new(id: QueueId) -> Self {
        Self {
            id,
            own: None,
            shared: None,
            total: None,
            drained: None,
            limit: None,
        }
    }

    /// With this many bytes of the flow's own.
    pub const fn with_own(mut self, bytes: u64) -> Self {
        self.own = Some(bytes);
        self
    }

    /// With this many bytes of flows that share.
    pub const fn with_shared(mut self, bytes: u64) -> Self {
        self.shared = Some(bytes);
        self
    }

    /// With this many bytes of all senders.
    pub const fn with_total(mut self, bytes: u64) -> Self {
        self.total = Some(bytes);
        self
    }

    /// Having run empty this many times.
    pub const fn with_drained(mut self, times: u64) -> Self {
        self.drained = Some(times);
        self
    }

    /// With this limit in bytes.
    pub const fn with_limit(mut self, bytes: Option<u64>) -> Self {
        self.limit = bytes;
        self
    }
}

/// What a congestion controller needs to know of its flow, small enough to read at every call.
/// `None` where the source does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalCongestion {
    /// Whether the source still observes this flow, as far as it knows. If `false`, all other
    /// fields are outdated. A source can stop observing without knowing: compare
    /// [`LocalCongestion::seen_packets`] with what was sent.
    pub live: bool,
    /// When these figures were taken; `None` where they are those at the time of the call.
    pub taken: Option<KernelTime>,
    /// Packets that the source saw at a network device. Counter.
    pub observed_packets: Option<u64>,
    /// The flow's egress queue; `None` while no queue is known (loopback has none).
    pub queue: Option<QueueSample>,
    /// Egress packets of this flow that a full queue of this host dropped
    /// ([`Direction::Egress`](super::Direction::Egress),
    /// [`DropClass::QueueFull`](super::DropClass::QueueFull)), segments counted. Counter.
    pub queue_drops: Option<u64>,
    /// Egress packets of this flow that a firewall or a BPF program of this host dropped before
    /// they reached a device ([`DropClass::Policy`](super::DropClass::Policy)), segments counted.
    /// `None` on kernels that report no reasons (before 5.17). Counter.
    pub policy_drops: Option<u64>,
}

impl LocalCongestion {
    /// A flow of which nothing else is known; `live`: whether it is observed.
    pub fn new(live: bool) -> Self {
        Self {
            live,
            ..Self::default()
        }
    }

    /// With this many packets observed.
    pub const fn with_observed(mut self, packets: u64) -> Self {
        self.observed_packets = Some(packets);
        self
    }

    /// With this queue.
    pub const fn with_queue(mut self, queue: Option<QueueSample>) -> Self {
        self.queue = queue;
        self
    }

    /// With this many packets dropped by full queues.
    pub const fn with_queue_drops(mut self, packets: u64) -> Self {
        self.queue_drops = Some(packets);
        self
    }

    /// With this many packets dropped by a firewall.
    pub const fn with_policy_drops(mut self, packets: u64) -> Self {
        self.policy_drops = Some(packets);
        self
    }

    /// Taken at this time.
    pub const fn with_taken(mut self, taken: KernelTime) -> Self {
        self.taken = Some(taken);
        self
    }

    /// Packets that the source saw leave the socket, including those that a firewall dropped;
    /// `None` from a source that does not see packets. Counter: if it does not grow while the flow
    /// sends, the signals are stale.
    #[inline]
    pub const fn seen_packets(&self) -> Option<u64> {
        let Some(observed) = self.observed_packets else {
            return None;
        };
        Some(match self.policy_drops {
            Some(drops) => observed.saturating_add(drops),
            None => observed,
        })
    }
}
