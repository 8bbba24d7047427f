//! Signals that are invented: what `--source mock` shows.

use std::time::Duration;

use ebpf_congestion_signals::{
    Direction, DropClass, DropCounters, MockFlow, MockSource, SendCounters, Watch,
};
use quinn::Connection;

/// A datagram, as the mock counts bytes.
const DATAGRAM: u64 = 1452;

/// How often a datagram of each flow is said to be dropped.
const DROP_INTERVAL: Duration = Duration::from_secs(1);

/// Tells a mock what real probes would have told of a connection's sends, and of a drop at the
/// local queue now and then that never happened.
#[derive(Debug)]
pub struct Invention {
    flow: MockFlow,
    told: u64,
    next_drop: Duration,
}

impl Invention {
    /// For a flow that `source` watches.
    pub fn new(source: &MockSource, watch: &Watch) -> Option<Self> {
        Some(Self {
            flow: source.flow(watch.id())?,
            told: 0,
            next_drop: DROP_INTERVAL,
        })
    }

    /// Brings the mock up to date, this long after the upload began.
    pub fn tell(&mut self, source: &MockSource, connection: &Connection, elapsed: Duration) {
        let sent = connection.stats().udp_tx.datagrams;
        let more = sent.saturating_sub(self.told);
        self.told = sent;
        self.flow.observe_sent(more, more * DATAGRAM);
        source.set_host(|host| {
            let sends = host.udp_send.get_or_insert(SendCounters::default());
            sends.bytes += more * DATAGRAM;
            sends.calls += more;
        });
        if elapsed >= self.next_drop {
            self.next_drop += DROP_INTERVAL;
            let dropped = DropCounters {
                skbs: 1,
                packets: 1,
                bytes: DATAGRAM,
            };
            self.flow.drop_packets(
                Direction::Leaving,
                DropClass::QueueFull,
                "QDISC_DROP",
                dropped,
            );
        }
    }
}
