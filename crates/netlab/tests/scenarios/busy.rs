//! Senders whose processor others want too.

use std::time::Duration;

use netlab::sim::scenarios::{self, Bottleneck};
use netlab::sim::{Control, Outcome};

use crate::figures::{AtLeast, AtMost, KINDS, Table, lost_ratio, ms, name, summary};
use crate::senders::{Base, Pair};

#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn busy_host() {
    for seed in 1..=3 {
        for kind in KINDS {
            busy_host_of(Bottleneck::from(kind), seed, "busy-host");
            busy_host_of(Bottleneck::fast(kind), seed, "busy-host 300M");
        }
    }
}

fn busy_host_of(bottleneck: Bottleneck, seed: u64, title: &str) {
    let base = Base::cubic();
    let mut table = Table::new(name(title, (bottleneck.kind, seed)));
    let pair = Pair::run(&base, |control: Control| {
        let mut scenario = scenarios::busy_host(bottleneck, control);
        scenario.trace_interval = Some(Duration::from_millis(1));
        scenario.seed = seed;
        scenario
    });
    table.note(summary("stock", &pair.stock));
    table.note(summary("governed", &pair.governed));
    let (stock, governed) = (&pair.stock, &pair.governed);
    table.note(format!(
        "stock: {:.1} ms of queue in 1% of the time",
        waiting(stock, bottleneck.rate)
    ));
    table.holds("lost of stock's", lost_ratio(governed, stock), AtMost(0.01));
    let p50 = ms(bottleneck.round_trip) + 3.0;
    table.holds("p50, ms", ms(governed.flows[0].rtt.p50), AtMost(p50));
    // Signals are right all the time: a sender that comes late has no reason to fill the queue.
    // What the pause left out is made up for until the queue holds two bursts of the pacer, 2 ms at
    // 5/4 of the rate each; a third may be in flight.
    table.aims(
        "ms of queue in 1% of the time",
        waiting(governed, bottleneck.rate),
        AtMost(5.0),
        AtMost(7.5),
    );
    let goodput = governed.total_goodput() / stock.total_goodput();
    // The sender is away for a ninth of the time, and what keeps the link busy meanwhile must wait
    // in the queue before: all of it would be 20 ms.
    table.aims(
        "goodput of stock's",
        goodput,
        AtLeast(0.98),
        AtLeast(8.0 / 9.0),
    );
    table.finish();
}

/// What the queue took to send, milliseconds, in the worst hundredth of the time once flows have
/// found the rate.
fn waiting(outcome: &Outcome, rate: u64) -> f64 {
    let rows = outcome.trace.of_flow(0).filter(|row| row.time >= 1.0);
    let mut backlogs: Vec<u64> = rows.map(|row| row.backlog).collect();
    backlogs.sort_unstable();
    let worst = backlogs[backlogs.len() * 99 / 100];
    worst as f64 * 8.0 / rate as f64 * 1e3
}
