//! A mocked flow as it is read.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::flow_id::FlowId;
use crate::sample::{FlowSample, LocalCongestion};
use crate::source::{FlowReader, WatchTarget};
use crate::version::{Change, Version};

/// A flow's sample, and counters of its changes.
#[derive(Debug)]
pub(super) struct MockState {
    pub(super) id: FlowId,
    /// `None` for a flow without a socket.
    pub(super) target: Option<MockTarget>,
    pub(super) sample: Mutex<FlowSample>,
    /// Raised by every change but that of observed packets and of backlog.
    of_flow: AtomicU32,
    /// Raised by each change.
    changes: AtomicU64,
}

impl MockState {
    pub(super) fn new(id: FlowId, target: Option<MockTarget>, sample: FlowSample) -> Self {
        Self {
            id,
            target,
            sample: Mutex::new(sample),
            of_flow: AtomicU32::new(0),
            changes: AtomicU64::new(0),
        }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut FlowSample)) {
        let mut sample = self.sample.lock();
        let before = sample.congestion;
        change(&mut sample);
        let after = &sample.congestion;
        if before == *after {
            return;
        }
        let rest = |of: &LocalCongestion| {
            let queue = of.queue.map(|queue| queue.id);
            (of.live, queue, of.queue_drops, of.policy_drops)
        };
        if rest(&before) != rest(after) {
            self.of_flow.fetch_add(1, Ordering::Release);
        }
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn version(&self) -> Version {
        let of_flow = self.of_flow.load(Ordering::Acquire);
        Version::in_queue(of_flow, self.changes.load(Ordering::Acquire), 0, 0)
    }

    pub(super) fn observe_sent(&self, packets: u64, bytes: u64) {
        self.change(|sample| {
            *sample.congestion.observed_packets.get_or_insert_default() += packets;
            *sample.sent_packets.get_or_insert_default() += packets;
            *sample.sent_bytes.get_or_insert_default() += bytes;
        });
    }
}

impl FlowReader for MockState {
    fn id(&self) -> FlowId {
        self.id
    }

    fn congestion(&self) -> LocalCongestion {
        self.sample.lock().congestion
    }

    fn sample(&self) -> FlowSample {
        *self.sample.lock()
    }

    fn versioned(&self) -> (LocalCongestion, Version) {
        let version = self.version();
        (self.congestion(), version)
    }

    fn change_since(&self, version: &Version) -> Change {
        let now = self.version();
        if now == *version {
            Change::Nothing
        } else if now.of_flow() == version.of_flow() {
            Change::Traffic
        } else {
            Change::Any
        }
    }
}

/// The socket, and the peer if any, of a watched flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MockTarget {
    /// Device and inode, which all descriptors of a socket share.
    pub(super) socket: (u64, u64),
    pub(super) peer: Option<SocketAddr>,
}

impl MockTarget {
    /// `None` on systems whose sockets have no inode.
    #[cfg(unix)]
    pub(super) fn of(target: &WatchTarget<'_>) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;

        let socket = target.fd().try_clone_to_owned().ok()?;
        let socket = std::fs::File::from(socket).metadata().ok()?;
        Some(Self {
            socket: (socket.dev(), socket.ino()),
            peer: target.peer_address(),
        })
    }

    #[cfg(not(unix))]
    pub(super) fn of(_target: &WatchTarget<'_>) -> Option<Self> {
        None
    }
}
