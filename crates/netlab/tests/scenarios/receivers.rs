//! Receivers that are the bottleneck, without and with a governor of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use netlab::sim::scenarios;
use netlab::sim::{Outcome, ReceiverState, Scenario, WindowControl};
use parking_lot::Mutex;
use quinn_governor::{ReceiveGovernor, Receiving};
use quinn_proto::VarInt;

use crate::figures::{AtLeast, AtMost, Table, name, summary};
use crate::senders::Base;

/// What a simulated connection says, and the window that it is given.
#[derive(Clone, Default)]
struct Connection {
    state: Arc<Mutex<Option<ReceiverState>>>,
    /// 0: not set anew.
    window: Arc<AtomicU64>,
}

impl Receiving for Connection {
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

/// A governor at every receiver.
fn governed() -> WindowControl {
    WindowControl::new(ReceiveGovernor::INTERVAL, |watch, window| {
        let most = VarInt::from_u64(window).expect("a window is a varint");
        let governor = ReceiveGovernor::new(watch, most);
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

/// Stock senders; the receiver's governor alone is what differs.
fn pair(scenario: &Scenario) -> (Outcome, Outcome) {
    let mut with = scenario.clone();
    with.window_control = Some(governed());
    (scenario.run(), with.run())
}

/// The receiver's socket overflows. Nothing in the sender's host tells of that: it is for the
/// receiver to close its window.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn slow_receiver() {
    for base in Base::all() {
        let mut table = Table::new(name("slow-receiver", base.name));
        let (stock, governed) = pair(&scenarios::slow_receiver(base.stock()));
        table.note(summary("stock", &stock));
        table.note(summary("governed", &governed));
        let goodput = governed.total_goodput() / stock.total_goodput();
        // A window below what a greedy sender takes leaves the socket empty now and then.
        table.aims("goodput of stock's", goodput, AtLeast(1.0), AtLeast(0.97));
        let drops = |outcome: &Outcome| outcome.flows[0].receive_drops as f64;
        table.note(format!("dropped {} / {}", drops(&stock), drops(&governed)));
        let dropped = drops(&governed) / drops(&stock);
        // Most of Cubic's and NewReno's drops are those of the first overflow, in slow start, which
        // comes before the credit that was given is used up. BBR's never end.
        table.aims("dropped of stock's", dropped, AtMost(0.99), AtMost(1.02));
        if base.name == "bbr" {
            table.holds("dropped of stock's", dropped, AtMost(0.05));
        }
        table.finish();
    }
}

/// A receiver that keeps up: its governor changes nothing, step by step.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn a_receiver_that_keeps_up_is_left_alone() {
    let mut scenario = scenarios::remote_queue(Base::cubic().stock());
    scenario.receiver.buffer = 1 << 20;
    scenario.receiver.per_datagram = Duration::from_micros(20);
    let (stock, governed) = pair(&scenario);
    assert!(stock.lost_packets() > 0);
    assert_eq!(stock.flows[0].receive_drops, 0);
    assert_eq!(stock.flows[0].digest, governed.flows[0].digest);
}
