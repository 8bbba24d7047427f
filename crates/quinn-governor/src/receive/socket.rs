//! The governor of what a socket receives, shared by its connections.

use std::sync::{Arc, Weak};

use ebpf_congestion_signals::Watch;
use quinn_proto::VarInt;
use tokio::time::{MissedTickBehavior, interval};

use super::{Inner, ReceiveGovernor};
use crate::report::Counters;

/// The governor of what a socket receives, while there is a connection that asks for it.
#[derive(Default)]
pub(crate) struct SocketReceiving {
    inner: parking_lot::Mutex<Weak<Inner>>,
}

impl SocketReceiving {
    pub(super) fn governor(
        &self,
        watch: &Watch,
        sums: &Arc<Counters>,
        window: VarInt,
    ) -> ReceiveGovernor {
        let mut known = self.inner.lock();
        if let Some(inner) = known.upgrade() {
            return ReceiveGovernor { inner };
        }
        let governor = ReceiveGovernor::new(watch.clone(), window);
        *known = Arc::downgrade(&governor.inner);
        let sums = Arc::clone(sums);
        tokio::spawn(poll_while_used(Weak::clone(&known), sums));
        governor
    }
}

impl std::fmt::Debug for SocketReceiving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocketReceiving").finish_non_exhaustive()
    }
}

async fn poll_while_used(inner: Weak<Inner>, sums: Arc<Counters>) {
    let mut counted = 0;
    let mut ticks = interval(ReceiveGovernor::INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = ticks.tick().await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let governor = ReceiveGovernor { inner };
        governor.poll(now.into_std());
        let reductions = governor.reductions();
        sums.receive_reductions(reductions - counted);
        counted = reductions;
    }
}
