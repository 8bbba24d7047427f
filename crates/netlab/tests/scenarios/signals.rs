//! Signals that end or lie.

use std::time::Duration;

use netlab::sim::scenarios::{self, SOURCE_DIES};
use netlab::sim::{EndManner, Outcome, SignalConfig};

use crate::figures::{AtLeast, AtMost, KINDS, Table, lost_ratio, name, ratio, summary};
use crate::senders::{Base, Pair};

/// With every fault at once: nothing but the seed decides.
#[test]
fn a_governed_run_repeats_to_the_byte() {
    let run = |seed| {
        let mut scenario =
            scenarios::four_flows(scenarios::Kind::Bucket, &Base::cubic().governed());
        scenario.duration = Duration::from_secs(4);
        scenario.seed = seed;
        scenario.trace_interval = Some(Duration::from_millis(10));
        scenario.record_steps = true;
        scenario.signals.delay = Duration::from_millis(2);
        scenario.signals.loss = 0.1;
        scenario.signals.noise = 0.1;
        scenario.signals.reordering = 0.001;
        scenario.run()
    };
    let first = run(1);
    assert_eq!(first, run(1));
    assert_ne!(first.trace, run(2).trace);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn source_dies() {
    for manner in [EndManner::Dead, EndManner::Frozen, EndManner::QueueUnknown] {
        for base in Base::all() {
            for kind in KINDS {
                source_dies_so(manner, &base, kind);
            }
        }
    }
}

fn source_dies_so(manner: EndManner, base: &Base, kind: scenarios::Kind) {
    let mut table = Table::new(name("source-dies", (manner, base.name, kind)));
    let pair = Pair::run(base, |control| {
        let mut scenario = scenarios::source_dies(kind, control, manner);
        scenario.trace_interval = Some(Duration::from_millis(1));
        scenario
    });
    table.note(summary("stock", &pair.stock));
    table.note(summary("governed", &pair.governed));
    let after = |outcome: &Outcome| outcome.trace.goodput(0, SOURCE_DIES, outcome.duration);
    table.holds(
        "goodput of stock's from then on",
        after(&pair.governed) / after(&pair.stock),
        AtLeast(0.98),
    );
    table.holds(
        "burst: in flight after five round trips",
        burst(&pair.governed),
        AtMost(2.0),
    );
    table.finish();
}

/// The most in flight within five round trips of the signals' end, by what it was before.
fn burst(outcome: &Outcome) -> f64 {
    let end = SOURCE_DIES.as_secs_f64();
    let window = 5.0 * scenarios::ROUND_TRIP.as_secs_f64();
    let most = |from: f64, to: f64| {
        let rows = outcome.trace.of_flow(0);
        rows.filter(|row| (from..to).contains(&row.time))
            .map(|row| row.in_flight)
            .max()
            .unwrap_or_default() as f64
    };
    most(end, end + window) / most(end - window, end)
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn bad_signals() {
    type Change = fn(&mut SignalConfig);
    // A sample that comes twice is one that misses an update.
    let faults: [(&str, Change); 9] = [
        ("1 ms late", |signals| {
            signals.delay = Duration::from_millis(1)
        }),
        ("10 ms late", |signals| {
            signals.delay = Duration::from_millis(10)
        }),
        ("100 ms late", |signals| {
            signals.delay = Duration::from_millis(100)
        }),
        ("a tenth lost or doubled", |signals| signals.loss = 0.1),
        ("half lost or doubled", |signals| signals.loss = 0.5),
        ("10% noise", |signals| signals.noise = 0.1),
        ("50% noise", |signals| signals.noise = 0.5),
        ("1% reordered", |signals| signals.reordering = 0.01),
        ("1% contradictory", |signals| signals.contradiction = 0.01),
    ];
    for (title, change) in faults {
        for kind in KINDS {
            let mut table = Table::new(name("bad-signals", (title, kind)));
            let pair = Pair::run(&Base::cubic(), |control| {
                let mut signals = SignalConfig::default();
                change(&mut signals);
                scenarios::bad_signals(kind, control, signals)
            });
            table.note(summary("stock", &pair.stock));
            table.note(summary("governed", &pair.governed));
            let goodput = pair.governed.total_goodput() / pair.stock.total_goodput();
            // Of a source that misses every second update all that is said of the queue is old at
            // every second sample, and only what was sent meanwhile can be allowed for.
            let least = if title.starts_with("half") {
                0.93
            } else {
                0.98
            };
            table.aims("goodput of stock's", goodput, AtLeast(0.98), AtLeast(least));
            let lost = lost_ratio(&pair.governed, &pair.stock);
            // A source that is not believed leaves base alone, in slow start too. Stock's own is
            // cut short here when its send buffer is full, which a moment's difference decides.
            table.aims("lost of stock's", lost, AtMost(1.0), AtMost(20.0));
            let part = ratio(
                pair.governed.lost_packets() as f64,
                pair.governed.flows[0].sent_packets as f64,
            );
            table.holds("lost of sent", part, AtMost(0.02));
            table.finish();
        }
    }
}
