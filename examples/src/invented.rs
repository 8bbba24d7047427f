//! Signals that are invented: what `--source mock` shows.

use std::time::Duration;

use ebpf_congestion_signals::{Direction, DropClass, DropCounters, MockFlow, MockSource, Watch};

/// A datagram, as the mock counts bytes.
const DATAGRAM: u64 = 1452;

/// How often a datagram of each flow is said to be dropped.
const DROP_INTERVAL: Duration = Duration::from_secs(1);

/// Reports invented drops at the local queue to a mock, now and then.
#[derive(Debug)]
pub struct Invention {
    flow: MockFlow,
    next_drop: Duration,
}

impl Invention {
    /// For a flow that `source` watches.
    pub fn new(source: &MockSource, watch: &Watch) -> Option<Self> {
        Some(Self {
            flow: source.flow(watch.id())?,
            next_drop: DROP_INTERVAL,
        })
    }

    /// The mock's end of the flow.
    pub fn flow(&self) -> &MockFlow {
        &self.flow
    }

    /// Reports what is due this long after the upload began.
    pub fn tell(&mut self, elapsed: Duration) {
        if elapsed >= self.next_drop {
            self.next_drop += DROP_INTERVAL;
            let dropped = DropCounters {
                skbs: 1,
                packets: 1,
                bytes: DATAGRAM,
            };
            self.flow.drop_packets(
                Direction::Egress,
                DropClass::QueueFull,
                "QDISC_DROP",
                dropped,
            );
        }
    }
}
