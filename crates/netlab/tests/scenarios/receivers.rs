//! Receivers that are the bottleneck, without and with a governor of their own.

use std::time::Duration;

use netlab::sim::scenarios;
use netlab::sim::{Outcome, Scenario};
use quinn_governor::ReceiveGovernor;

use crate::figures::{AtLeast, AtMost, Table, name, summary};
use crate::senders::Base;
use crate::window::governed;

/// Stock senders; the receiver's governor alone is what differs.
fn pair(scenario: &Scenario) -> (Outcome, Outcome) {
    let mut with = scenario.clone();
    with.window_control = Some(governed(ReceiveGovernor::new));
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
        // A sender that a window holds back ends each announced credit with a datagram that is not
        // full, which takes as long to read as a full one: so with every window this small.
        table.aims("goodput of stock's", goodput, AtLeast(1.0), AtLeast(0.97));
        // As with a window set in hindsight, to what the path and the buffer hold.
        let mut fixed = scenarios::slow_receiver(base.stock());
        fixed.receiver.window = 163_000;
        let fixed = fixed.run();
        table.note(summary("fixed", &fixed));
        let goodput = governed.total_goodput() / fixed.total_goodput();
        table.holds("goodput of a fitting window's", goodput, AtLeast(0.99));
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
