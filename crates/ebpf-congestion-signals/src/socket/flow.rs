//! What is counted for a flow: a socket, or one remote address of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ebpf_congestion_signals_common::DropCounters;

use super::truesize::Weight;
use crate::flow_id::FlowId;
use crate::observer::SocketSend;

/// Counters of a flow. Written under the lock of its socket's books, read without.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) id: FlowId,
    /// Whether it is watched as sharing.
    sharing: AtomicBool,
    /// Bytes on the wire that are still in this host. Gauge.
    own: AtomicU64,
    /// What the kernel accepted, and what a full queue dropped of it.
    calls: AtomicU64,
    packets: AtomicU64,
    bytes: AtomicU64,
    /// What a full queue dropped.
    pub(super) queue_full: Drops,
    /// What a firewall dropped.
    pub(super) policy: Drops,
}

impl Flow {
    pub(super) fn new(id: FlowId) -> Self {
        Self {
            id,
            sharing: AtomicBool::new(false),
            own: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            queue_full: Drops::default(),
            policy: Drops::default(),
        }
    }

    pub(super) fn own(&self) -> u64 {
        self.own.load(Ordering::Relaxed)
    }

    /// Successful calls, packets and payload bytes that came to a device.
    pub(super) fn sent(&self) -> (u64, u64, u64) {
        (
            self.calls.load(Ordering::Relaxed),
            self.packets.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }

    pub(super) fn is_sharing(&self) -> bool {
        self.sharing.load(Ordering::Relaxed)
    }

    pub(super) fn share(&self) {
        self.sharing.store(true, Ordering::Relaxed);
    }

    /// Counts what came to a device.
    pub(super) fn count_sent(&self, send: &SocketSend) {
        add(&self.calls, 1);
        add(&self.packets, send.datagrams() as u64);
        add(&self.bytes, send.bytes as u64);
    }

    pub(super) fn enters(&self, bytes: u64) {
        add(&self.own, bytes);
    }

    pub(super) fn leaves(&self, bytes: u64) {
        let own = self.own();
        self.own.store(own.saturating_sub(bytes), Ordering::Relaxed);
    }
}

/// Dropped packets.
#[derive(Debug, Default)]
pub(super) struct Drops {
    skbs: AtomicU64,
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Drops {
    pub(super) fn get(&self) -> DropCounters {
        DropCounters {
            skbs: self.skbs.load(Ordering::Relaxed),
            packets: self.packets.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// Counts a send that was dropped whole.
    pub(super) fn count(&self, send: &SocketSend) {
        add(&self.skbs, 1);
        add(&self.packets, send.datagrams() as u64);
        add(&self.bytes, Weight::of(send).wire);
    }
}

/// Adds to a counter that only one writer at a time changes.
pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(more),
        Ordering::Relaxed,
    );
}
