//! Brings the governor of the receiving side into a scenario.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ebpf_congestion_signals::Watch;
use netlab::sim::{ReceiverState, WindowControl};
use parking_lot::Mutex;
use quinn_governor::{ReceiveGovernor, ReceivingConnection};
use quinn_proto::VarInt;

/// What a simulated connection says, and the window that it is given.
#[derive(Clone, Default)]
struct Connection {
    state: Arc<Mutex<Option<ReceiverState>>>,
    /// 0: not set anew.
    window: Arc<AtomicU64>,
}

impl ReceivingConnection for Connection {
    fn received(&self) -> u64 {
        self.state.lock().map_or(0, |state| state.received)
    }

    fn round_trip(&self) -> Duration {
        self.state
            .lock()
            .map_or(Duration::ZERO, |state| state.round_trip)
    }

    fn datagram(&self) -> u16 {
        self.state.lock().map_or(1200, |state| state.datagram)
    }

    fn set_window(&self, window: VarInt) {
        self.window.store(window.into_inner(), Ordering::Relaxed);
    }
}

/// A governor at every receiver, made of its watched socket and the window that its connection
/// begins with.
pub(crate) fn governed(
    make: impl Fn(Watch, VarInt) -> ReceiveGovernor + Send + Sync + 'static,
) -> WindowControl {
    WindowControl::new(ReceiveGovernor::INTERVAL, move |watch, window| {
        let most = VarInt::from_u64(window).expect("a window is a varint");
        let governor = make(watch, most);
        let connection = Connection::default();
        let mut guard = None;
        Box::new(move |state| {
            *connection.state.lock() = Some(*state);
            guard.get_or_insert_with(|| governor.govern(connection.clone()));
            governor.poll(state.now);
            Some(connection.window.swap(0, Ordering::Relaxed)).filter(|window| *window > 0)
        })
    })
}
