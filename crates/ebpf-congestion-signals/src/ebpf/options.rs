//! How to load the probes.

use std::num::NonZeroU32;

use crate::error::LoadError;

/// A group of signals that can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// Bytes, packets and calls that sockets send.
    Sends,
    /// Dropped packets.
    Drops,
    /// Occupancy of socket buffers.
    Buffers,
    /// Time in network softirqs.
    Softirqs,
    /// The backlog of outgoing queues. Without it, a drop at dequeue for which a kernel before 6.14
    /// has no reason (CoDel's) counts as [`DropClass::Other`](crate::DropClass::Other).
    Queues,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 5] = [
        Self::Sends,
        Self::Drops,
        Self::Buffers,
        Self::Softirqs,
        Self::Queues,
    ];
}

/// How to load the probes.
#[derive(Clone, Debug)]
pub struct EbpfOptions {
    pub(super) flows: u32,
    pub(super) events_per_second: u32,
    pub(super) ring_bytes: u32,
    pub(super) off: Vec<Signal>,
    pub(super) governing: bool,
    pub(super) send_sampling: u32,
    pub(super) function_probes: bool,
    pub(super) calibration: bool,
}

/// Flows by default: a server with a thousand peers, in one megabyte.
const DEFAULT_FLOWS: u32 = 1024;

/// Most flows: 64 MB of slots.
const MOST_FLOWS: u32 = 65_536;

/// Events a second of one CPU by default: each is one wake-up at most, so this bounds what a
/// flood of drops costs its readers.
const DEFAULT_EVENTS_PER_SECOND: u32 = 1000;

/// Size of the ring by default: over a second of events of eight CPUs.
const DEFAULT_RING_BYTES: u32 = 512 * 1024;

impl Default for EbpfOptions {
    fn default() -> Self {
        Self {
            flows: DEFAULT_FLOWS,
            events_per_second: DEFAULT_EVENTS_PER_SECOND,
            ring_bytes: DEFAULT_RING_BYTES,
            off: Vec::new(),
            governing: false,
            send_sampling: 1,
            function_probes: false,
            calibration: false,
        }
    }
}

impl EbpfOptions {
    /// How many flows can be watched at the same time, 1 to 65,536; each takes a kilobyte of locked
    /// memory.
    pub fn flows(mut self, flows: u32) -> Self {
        self.flows = flows;
        self
    }

    /// How many events each CPU may write in a second; 0 writes none. Counters stay exact.
    pub fn events_per_second(mut self, events: u32) -> Self {
        self.events_per_second = events;
        self
    }

    /// Size of the ring buffer of events in bytes: a power of two, 4 KiB to 64 MiB.
    pub fn ring_bytes(mut self, bytes: u32) -> Self {
        self.ring_bytes = bytes;
        self
    }

    /// Leaves out a signal: probes that only it needs are not attached, and its figures are absent.
    pub fn without(mut self, signal: Signal) -> Self {
        self.off.push(signal);
        self
    }

    /// Only what governors read: drops, queues and packets, without the probes that run at every
    /// call of a socket and every softirq. The occupancy of a socket's buffers is then that of the
    /// time when one of its packets last left a queue, or was dropped for a full receive buffer.
    pub fn governing(mut self) -> Self {
        self.governing = true;
        self.without(Signal::Sends)
            .without(Signal::Buffers)
            .without(Signal::Softirqs)
    }

    /// Counts one in `one_in` sends, chosen at random, and scales the counts: for hosts where some
    /// tens of nanoseconds a call matter. 1, the default, counts exactly. Can be changed later:
    /// [`EbpfSource::sample_sends`](crate::EbpfSource::sample_sends).
    pub fn sample_sends(mut self, one_in: NonZeroU32) -> Self {
        self.send_sampling = one_in.get();
        self
    }

    /// Counts sends and receives with probes on the protocols' functions (`udp_sendmsg`) even where
    /// the kernel has tracepoints for them. Kernels before 6.3 have no such tracepoints; this is to
    /// test the function probes on others.
    pub fn function_probes(mut self, function_probes: bool) -> Self {
        self.function_probes = function_probes;
        self
    }

    /// Also attaches a program that does nothing, which [`EbpfSource::costs`] lists as `nothing`:
    /// its cost is the cost of accounting, which every other program's figure includes.
    ///
    /// [`EbpfSource::costs`]: crate::EbpfSource::costs
    pub fn calibration(mut self, calibration: bool) -> Self {
        self.calibration = calibration;
        self
    }

    pub(super) fn has(&self, signal: Signal) -> bool {
        !self.off.contains(&signal)
    }

    pub(super) fn validate(&self) -> Result<(), LoadError> {
        let refuse = |option, value: u32, limits| {
            Err(LoadError::Option {
                option,
                value: u64::from(value),
                limits,
            })
        };
        if self.flows == 0 || self.flows > MOST_FLOWS {
            return refuse("flows", self.flows, "1 to 65536");
        }
        if !self.ring_bytes.is_power_of_two() || !(4096..=64 << 20).contains(&self.ring_bytes) {
            return refuse(
                "ring_bytes",
                self.ring_bytes,
                "a power of two, 4096 to 67108864",
            );
        }
        Ok(())
    }
}
