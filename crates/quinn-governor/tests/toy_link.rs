//! The law on a toy of a link.

mod toy;

use std::time::Duration;

use quinn_governor::testing::BaseChoice;
use toy::{Link, Toy};

const SECOND: Duration = Duration::from_secs(1);
const BASES: [BaseChoice; 3] = [BaseChoice::Cubic, BaseChoice::NewReno, BaseChoice::Bbr];

fn toy(mbit: u64, queue: u64, rtt_ms: u64, base: BaseChoice) -> Toy {
    let rtt = Duration::from_millis(rtt_ms);
    Toy::new(Link { mbit, queue, rtt }, base.factory())
}

/// Jain's index: 1 when all are equal, 1/n when one has everything.
fn fairness(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / squares / shares.len() as f64
}

#[test]
fn a_single_flow_fills_the_link_and_not_the_queue() {
    for base in BASES {
        for (mbit, queue, rtt) in [
            (50, 150_000, 20),
            (50, 20_000, 20),
            (50, 2_000_000, 20),
            (300, 300_000, 10),
            (1000, 1_000_000, 5),
            (10, 50_000, 50),
        ] {
            let mut toy = toy(mbit, queue, rtt, base);
            toy.add_flow(true);
            toy.run(2 * SECOND);
            let lost = toy.lost();
            let share = toy.run(2 * SECOND)[0];
            let case = format!("{base:?}, {mbit} Mbit/s, {queue} bytes, {rtt} ms");
            assert!(share >= 0.99, "{case}: {share}");
            assert_eq!(toy.lost(), lost, "{case}");
            // Four datagrams of standing queue: 4 ms at 10 Mbit/s, 0.8 ms at 50.
            let standing = toy.rtt(0, 2 * SECOND, 50) - rtt as f64;
            assert!(
                standing <= (5.0 * 9.936 / mbit as f64).max(0.1),
                "{case}: {standing} ms"
            );
        }
    }
}

#[test]
fn slow_start_ends_without_a_loss_and_leaves_a_window_that_covers_the_cap() {
    for base in [BaseChoice::Cubic, BaseChoice::NewReno] {
        let mut toy = toy(50, 150_000, 20, base);
        toy.add_flow(true);
        toy.run(2 * SECOND);
        assert_eq!(toy.lost(), 0);
        let report = toy.governors.report();
        assert_eq!(report.slow_start_exits, 1);
        assert_eq!(report.local_drop_reductions, 0);
        // In flight at the full rate: 50 Mbit/s times 20 ms.
        let window = toy.connections[0].controller.window();
        assert!(window >= 120_000, "{window}");
        assert!(report.capped > SECOND);
    }
}

#[test]
fn four_flows_share_the_link_equally_and_one_limit() {
    for base in BASES {
        for sockets in [4, 1] {
            let mut toy = toy(50, 150_000, 20, base);
            for number in 0..4 {
                match number < sockets {
                    true => toy.add_flow(true),
                    false => toy.add_connection(),
                }
                toy.run(SECOND / 2);
            }
            toy.run(2 * SECOND);
            let since = toy.now;
            let shares = toy.run(4 * SECOND);
            let case = format!("{base:?} on {sockets} sockets: {shares:?}");
            assert!(fairness(&shares) >= 0.95, "{case}");
            assert!(shares.iter().sum::<f64>() >= 0.99, "{case}");
            assert_eq!(toy.lost(), 0, "{case}");
            assert!(toy.rtt(0, since, 50) <= 22.0, "{case}");
        }
    }
}

/// Each keeps three datagrams in flight at least, which together is more than the link needs: here
/// the limit finds out by how much only when the queue overflows.
#[test]
fn fifty_connections_lose_hardly_anything_and_share_equally() {
    let [governed, stock] = [true, false].map(|governed| {
        let mut toy = toy(50, 150_000, 20, BaseChoice::Cubic);
        for _ in 0..50 {
            toy.add_flow(governed);
            toy.run(SECOND / 25);
        }
        toy.run(2 * SECOND);
        let shares = toy.run(4 * SECOND);
        (shares, toy.lost())
    });
    let (shares, lost) = governed;
    assert!(fairness(&shares) >= 0.95, "{shares:?}");
    assert!(shares.iter().sum::<f64>() >= 0.98, "{shares:?}");
    assert!(lost * 50 <= stock.1, "{lost} lost of stock's {}", stock.1);
}

#[test]
fn beside_others_it_keeps_a_fair_part() {
    for base in BASES {
        let mut toy = toy(50, 300_000, 20, base);
        toy.other = 100_000;
        toy.add_flow(true);
        toy.run(3 * SECOND);
        let share = toy.run(3 * SECOND)[0];
        assert!((0.33..=0.55).contains(&share), "{base:?}: {share}");
        assert_eq!(toy.lost(), 0, "{base:?}");
    }
}

#[test]
fn it_follows_a_rate_that_falls_and_rises() {
    for base in BASES {
        let mut toy = toy(50, 150_000, 20, base);
        toy.add_flow(true);
        toy.run(3 * SECOND);
        toy.link.mbit = 10;
        toy.run(10 * toy.link.rtt);
        let since = toy.now;
        toy.run(SECOND);
        assert!(toy.rtt(0, since, 50) <= 30.0, "{base:?}");
        toy.link.mbit = 50;
        toy.run(SECOND / 2);
        let share = toy.run(SECOND)[0];
        assert!(share >= 0.97, "{base:?}: {share}");
        assert_eq!(toy.lost(), 0, "{base:?}");
    }
}

#[test]
fn a_source_that_lags_is_allowed_for_and_one_that_lags_too_long_is_not_used() {
    for (delay_ms, standing_ms) in [(1, 1.0), (5, 1.0), (10, 1.0), (40, 25.0)] {
        let mut toy = toy(50, 150_000, 20, BaseChoice::Cubic);
        toy.delay = Duration::from_millis(delay_ms);
        // A source that is always late by two round trips cannot be told from one that is never late.
        toy.sampled = delay_ms > 20;
        toy.add_flow(true);
        toy.run(2 * SECOND);
        let since = toy.now;
        let share = toy.run(4 * SECOND)[0];
        assert!(share >= 0.99, "{delay_ms} ms late: {share}");
        let standing = toy.rtt(0, since, 50) - 20.0;
        assert!(standing <= standing_ms, "{delay_ms} ms late: {standing}");
    }
}

#[test]
fn a_source_that_dies_costs_less_than_two_round_trips() {
    for base in BASES {
        let mut toy = toy(50, 150_000, 20, base);
        toy.add_flow(true);
        toy.run(3 * SECOND);
        toy.signals = false;
        let share = toy.run(SECOND)[0];
        assert!(share >= 0.96, "{base:?}: {share}");
        assert_eq!(toy.governors.report().stale_periods, 1, "{base:?}");
    }
}

#[test]
fn where_the_queue_is_elsewhere_every_step_is_that_of_base() {
    for base in [BaseChoice::Cubic, BaseChoice::NewReno] {
        let [governed, stock] = [true, false].map(|governed| {
            let mut toy = toy(50, 150_000, 20, base);
            toy.remote = true;
            toy.add_flow(governed);
            let windows: Vec<u64> = (0..2000)
                .map(|_| {
                    toy.run(Duration::from_millis(2));
                    toy.connections[0].controller.window()
                })
                .collect();
            (windows, toy.lost())
        });
        assert!(stock.1 > 0, "the comparison includes losses");
        assert!(governed == stock, "{base:?}");
    }
}
