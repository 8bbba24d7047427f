//! Transfers on fresh connections.

use std::time::Duration;

use netlab::sim::scenarios::{self, Bottleneck};
use netlab::sim::{App, FlowSpec};

use crate::field::{COMPETITORS, percentile, times};
use crate::figures::{AtMost, KINDS, Table, name, ratio};
use crate::senders::{Base, Pair};

/// Alone, on three paths.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn short_transfers() {
    let paths = [(10_000_000, 40), (50_000_000, 20), (200_000_000, 5)];
    for (rate, millis) in paths {
        for bytes in [50_000, 200_000, 1_000_000, 5_000_000] {
            let mut table = Table::new(name("transfers", (rate / 1_000_000, bytes / 1000)));
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for seed in 1..=24 {
                let round_trip = Duration::from_millis(millis);
                let bottleneck = Bottleneck::of_products(rate, round_trip, 1.2);
                let pair = Pair::run(&Base::cubic(), |control| {
                    let flow = FlowSpec::new(control).sending(App::Transfer(bytes));
                    let mut scenario = bottleneck.local().flow(flow);
                    scenario.seed = seed;
                    scenario
                });
                ours.extend(times(&pair.governed));
                theirs.extend(times(&pair.stock));
            }
            ours.sort_by(f64::total_cmp);
            theirs.sort_by(f64::total_cmp);
            let sum = |times: &[f64]| times.iter().sum::<f64>();
            table.note(format!("stock's p50 {:.1} ms", percentile(&theirs, 50)));
            table.holds(
                "p50 of stock's",
                percentile(&ours, 50) / percentile(&theirs, 50),
                AtMost(1.02),
            );
            table.holds(
                "mean time of stock's",
                ratio(sum(&ours), sum(&theirs)),
                AtMost(1.03),
            );
            assert_eq!(ours.len(), theirs.len());
            table.finish();
        }
    }
}

/// Beside a TCP flow that fills the queue, and beside one that keeps little in it.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn fresh_transfers_beside_tcp() {
    for (title, competitor) in COMPETITORS {
        for bytes in [50_000, 200_000, 1_000_000] {
            let mut table = Table::new(name("transfers beside tcp", (title, bytes / 1000)));
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for seed in 1..=24 {
                let start = scenarios::ARRIVAL + Duration::from_millis(37 * seed);
                let pair = Pair::run(&Base::cubic(), |control| {
                    let tcp = competitor();
                    let mut scenario =
                        scenarios::transfer_beside_tcp(KINDS[0], control, tcp, bytes, start);
                    scenario.seed = seed;
                    scenario
                });
                ours.extend(times(&pair.governed));
                theirs.extend(times(&pair.stock));
            }
            ours.sort_by(f64::total_cmp);
            theirs.sort_by(f64::total_cmp);
            let at = |times: &[f64], percent| percentile(times, percent);
            table.note(format!(
                "stock's time {:.0} {:.0} {:.0} ms, governed's {:.0} {:.0} {:.0} ms (p10 p50 p90)",
                at(&theirs, 10),
                at(&theirs, 50),
                at(&theirs, 90),
                at(&ours, 10),
                at(&ours, 50),
                at(&ours, 90),
            ));
            let sum = |times: &[f64]| times.iter().sum::<f64>();
            // A stock sender takes nine tenths of the link from Linux's TCP: half takes longer.
            let most = if title == "linux" { 1.55 } else { 1.2 };
            for (what, part) in [
                ("p50 of stock's", at(&ours, 50) / at(&theirs, 50)),
                ("mean time of stock's", ratio(sum(&ours), sum(&theirs))),
            ] {
                table.aims(what, part, AtMost(1.2), AtMost(most));
            }
            assert_eq!(ours.len(), theirs.len());
            table.finish();
        }
    }
}
