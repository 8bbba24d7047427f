//! Many bottlenecks, local and remote.

use std::time::Duration;

use netlab::sim::FlowSpec;
use netlab::sim::scenarios::{self, Bottleneck};

use crate::figures::{AtLeast, Table, lost_ratio, ms, reports};
use crate::senders::{Base, Pair};

/// Long enough for slow start and what follows it, without simulating more packets than needed.
fn duration(cell: &Bottleneck) -> Duration {
    let rounds = 60 * cell.round_trip;
    let least = if cell.rate >= 1_000_000_000 { 3 } else { 8 };
    rounds.max(Duration::from_secs(least))
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn grid() {
    let mut table = Table::new("grid");
    let mut cells = scenarios::grid();
    if reports() {
        // An ablation runs it many times: the slow and short ones, that are simulated soon.
        let short = Duration::from_millis(50);
        cells.retain(|cell| cell.rate <= 50_000_000 && cell.round_trip <= short);
    }
    let (mut few_lost, mut full, mut identical) = (0, 0, 0);
    for cell in &cells {
        let local = Pair::run(&Base::cubic(), |control| {
            let scenario = cell.local().flow(FlowSpec::new(control));
            scenario.lasting(duration(cell))
        });
        let remote = Pair::run(&Base::cubic(), |control| {
            let scenario = cell.remote().flow(FlowSpec::new(control));
            scenario.lasting(duration(cell))
        });
        let (stock, governed) = (&local.stock, &local.governed);
        let lost = lost_ratio(governed, stock);
        let goodput = governed.total_goodput() / stock.total_goodput();
        let same = remote.stock.flows[0].digest == remote.governed.flows[0].digest;
        few_lost += usize::from(lost <= 0.05);
        full += usize::from(goodput >= 0.98);
        identical += usize::from(same);
        table.note(format!(
            "{:>4} Mbit/s {:>3} ms {:>9} B  lost {:>5} / {:>5}  goodput {:.3}  p50 {:>7.2} / \
             {:>7.2} ms  remote {}",
            cell.rate / 1_000_000,
            cell.round_trip.as_millis(),
            cell.queue,
            governed.lost_packets(),
            stock.lost_packets(),
            goodput,
            ms(governed.flows[0].rtt.p50),
            ms(stock.flows[0].rtt.p50),
            if same { "same" } else { "DIFFERS" },
        ));
    }
    let share = |count: usize| count as f64 / cells.len() as f64;
    table.holds(
        "cells with 5% of stock's losses",
        share(few_lost),
        AtLeast(0.9),
    );
    table.holds(
        "cells with 98% of stock's goodput",
        share(full),
        AtLeast(1.0),
    );
    table.holds("remote cells identical", share(identical), AtLeast(1.0));
    table.finish();
}
