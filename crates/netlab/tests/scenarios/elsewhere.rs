//! Flows whose host is not the bottleneck: a governor has to do nothing, exactly.

use netlab::sim::scenarios;
use netlab::sim::{Control, LinkConfig, Scenario};

use crate::figures::{AtLeast, AtMost, KINDS, Table, lost_ratio, name, summary};
use crate::senders::{Base, Pair};

/// Every call of the controller and every window are the same, in the same order.
fn is_identical(title: &str, scenario: impl Fn(Control) -> Scenario) {
    for base in Base::all() {
        let table = Table::new(name(title, base.name));
        let pair = Pair::run(&base, &scenario);
        table.note(summary("both", &pair.governed));
        let (stock, governed) = (&pair.stock.flows[0], &pair.governed.flows[0]);
        let differs = stock.steps.iter().zip(&governed.steps);
        let first = differs.clone().find(|(stock, governed)| stock != governed);
        assert_eq!(first, None, "{title} {}: the first that differs", base.name);
        assert_eq!(stock.steps.len(), governed.steps.len());
        assert_eq!(stock.digest, governed.digest);
        table.note(format!("{} windows, the same", stock.steps.len()));
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn remote_queue() {
    is_identical("remote-queue", scenarios::remote_queue);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn random_loss() {
    for rate in [0.001, 0.01] {
        is_identical(&format!("random-loss {rate}"), |control| {
            scenarios::random_loss(scenarios::remote_queue(control), rate)
        });
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn policy_drops() {
    is_identical("policy-drops", |control| {
        scenarios::policy_drops(scenarios::remote_queue(control), 0.01)
    });
}

/// A device of the host that is only twice as fast as the bottleneck behind it: slow start fills
/// its queue for moments, which is no lie.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn remote_queue_behind_a_slow_device() {
    for base in Base::all() {
        let mut table = Table::new(name("remote-queue slow-device", base.name));
        let pair = Pair::run(&base, |control| {
            let mut scenario = scenarios::remote_queue(control);
            scenario.egress = LinkConfig::device(2 * scenarios::RATE, scenarios::QUEUE);
            scenario
        });
        table.note(summary("stock", &pair.stock));
        table.note(summary("governed", &pair.governed));
        let goodput = pair.governed.total_goodput() / pair.stock.total_goodput();
        table.holds("goodput of stock's", goodput, AtLeast(0.98));
        let lost = lost_ratio(&pair.governed, &pair.stock);
        // BBR loses half of what it sends here, whoever looks on: 49.3% governed and 49.5% alone, but
        // governed it sends more, as the stock sender's buffer is full now and then.
        table.aims("lost of stock's", lost, AtMost(1.0), AtMost(1.16));
        table.finish();
    }
}

/// Drops that are no congestion, where the host is the bottleneck besides. What is lost is a
/// matter of luck, so many runs count together.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn policy_drops_at_a_local_queue() {
    for kind in KINDS {
        let mut table = Table::new(name("policy-drops local", kind));
        let (mut stock, mut governed) = (0.0, 0.0);
        for seed in 1..=20 {
            let pair = Pair::run(&Base::cubic(), |control| {
                let scenario = scenarios::local_queue(kind.into(), control);
                let mut scenario = scenarios::policy_drops(scenario, 0.01);
                scenario.seed = seed;
                scenario
            });
            stock += pair.stock.total_goodput();
            governed += pair.governed.total_goodput();
        }
        table.note(format!("mean of 20 runs, stock {:.2} Mbit/s", stock / 20e6));
        table.holds("goodput of stock's", governed / stock, AtLeast(0.98));
        table.finish();
    }
}
