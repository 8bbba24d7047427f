//! quinn's connections, and the task that samples their socket.

use std::time::Duration;

use quinn_proto::VarInt;
use tokio::time::{MissedTickBehavior, interval};

use super::{ReceiveGovernor, ReceivingConnection};

impl ReceivingConnection for quinn::Connection {
    fn received(&self) -> u64 {
        self.stats().udp_rx.bytes
    }

    fn round_trip(&self) -> Duration {
        self.rtt()
    }

    fn datagram(&self) -> u16 {
        self.stats().path.current_mtu
    }

    fn set_window(&self, window: VarInt) {
        self.set_receive_window(window);
    }
}

impl ReceiveGovernor {
    /// Samples the socket periodically, until aborted. Spawn it once for each governor, on a tokio
    /// runtime with its time driver enabled.
    pub async fn run(self) {
        let mut ticks = interval(Self::INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            self.poll(now.into_std());
        }
    }
}
