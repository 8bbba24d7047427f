//! Flows that share the queue of their host with others.

use std::time::Duration;

use netlab::sim::scenarios::{self, Kind};
use netlab::sim::{Outcome, TcpLaw, TcpSpec, Watching, fairness};

use crate::figures::{
    AtLeast, AtMost, KINDS, Table, Within, idle, lost_ratio, ms, name, summary, use_of_link,
};
use crate::senders::{Base, Pair};

/// From here on shares are compared: all have come.
const SETTLED: Duration = Duration::from_secs(5);

/// What each flow received from then on, as a part of all.
pub(crate) fn shares(outcome: &Outcome) -> Vec<f64> {
    let flows = outcome.flows.len() + outcome.competitors.len();
    let rates: Vec<f64> = (0..flows)
        .map(|flow| outcome.trace.goodput(flow, SETTLED, outcome.duration))
        .collect();
    let sum: f64 = rates.iter().sum();
    rates.iter().map(|rate| rate / sum).collect()
}

pub(crate) fn traced(mut scenario: netlab::sim::Scenario) -> netlab::sim::Scenario {
    scenario.trace_interval = Some(Duration::from_millis(10));
    scenario
}

fn compare(table: &Table, pair: &Pair) {
    for (who, outcome) in [("stock", &pair.stock), ("governed", &pair.governed)] {
        table.note(summary(who, outcome));
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn beside_tcp() {
    let competitors = [
        ("linux", TcpSpec::local(TcpLaw::Cubic)),
        ("plain cubic", TcpSpec::plain(TcpLaw::Cubic)),
        ("plain newreno", TcpSpec::plain(TcpLaw::NewReno)),
    ];
    for (title, competitor) in competitors {
        for kind in KINDS {
            for count in [1, 3] {
                for hides_limit in [false, true] {
                    beside_tcp_of(title, competitor, kind, count, hides_limit);
                }
            }
        }
    }
}

fn beside_tcp_of(title: &str, competitor: TcpSpec, kind: Kind, count: usize, hides_limit: bool) {
    let limit = if hides_limit { ", limit hidden" } else { "" };
    let who = format!("{title}{limit}");
    let mut table = Table::new(name("beside-tcp", (who, count, kind)));
    let pair = Pair::run(&Base::cubic(), |control| {
        let competitors = vec![competitor; count];
        let mut scenario = traced(scenarios::beside_tcp(kind, control, &competitors));
        scenario.signals.hides_limit = hides_limit;
        scenario
    });
    compare(&table, &pair);
    let share = shares(&pair.governed)[0];
    table.note(format!("stock's share {:.3}", shares(&pair.stock)[0]));
    let goal = if count == 1 {
        Within(0.4, 0.6)
    } else {
        Within(0.2, 0.5)
    };
    if title == "linux" || !hides_limit {
        table.holds("share", share, goal);
    } else {
        // These fill the queue until it overflows. A governed flow that does not know the limit
        // learns of that at once and makes room; they learn a round trip later, and take it.
        let least = if count == 1 { 0.3 } else { 0.15 };
        table.aims("share", share, goal, Within(least, 0.6));
    }
    let used = use_of_link(&pair.governed, scenarios::RATE);
    table.holds("use of the link", used, AtLeast(0.97));
    table.finish();
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn beside_stock() {
    for base in Base::all() {
        for kind in KINDS {
            let mut table = Table::new(name("beside-stock", (base.name, kind)));
            let pair = Pair::run(&Base::cubic(), |control| {
                traced(scenarios::beside(kind, control, &[base.stock()]))
            });
            compare(&table, &pair);
            table.note(format!("stock's share {:.3}", shares(&pair.stock)[0]));
            let share = shares(&pair.governed)[0];
            // Stock BBR sends several times what the link takes and does not mind the losses:
            // stock Cubic starves beside it. What waits for room does not.
            table.holds("share", share, Within(0.35, 0.6));
            table.finish();
        }
    }
}

/// Two governed programs: each with probes of its own, so that the other's flows are others'; or
/// with a broker's, so that they count as sharing but each finds a limit of its own.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn beside_another_process() {
    for broker in [false, true] {
        for kind in KINDS {
            let title = if broker { "broker" } else { "own probes" };
            let mut table = Table::new(name("beside-governed", (title, kind)));
            let base = Base::cubic();
            let scenario = scenarios::beside(kind, base.governed(), &[base.governed()]);
            let mut scenario = traced(scenario);
            scenario.host.broker = broker;
            let outcome = scenario.run();
            table.note(summary("governed", &outcome));
            let shares = shares(&outcome);
            table.holds("share", shares[0], Within(0.4, 0.6));
            let idle = idle(&scenarios::beside(kind, base.stock(), &[]), base.stock());
            let p50 = ms(outcome.flows[0].rtt.p50);
            table.holds("p50 over idle, ms", p50 - idle, AtMost(4.0));
            table.finish();
        }
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn four_flows() {
    for kind in KINDS {
        let mut table = Table::new(name("four-flows", kind));
        let base = Base::cubic();
        let pair = Pair::run(&base, |control| {
            traced(scenarios::four_flows(kind, &control))
        });
        compare(&table, &pair);
        let idle = idle(&scenarios::four_flows(kind, &base.stock()), base.stock());
        let governed = &pair.governed;
        let lost = lost_ratio(governed, &pair.stock);
        table.note(format!(
            "stock's Jain {:.3}",
            fairness(&shares(&pair.stock))
        ));
        table.holds("Jain's index", fairness(&shares(governed)), AtLeast(0.95));
        table.holds("lost of stock's", lost, AtMost(0.02));
        let p50 = ms(governed.flows[0].rtt.p50);
        table.holds("p50 over idle, ms", p50 - idle, AtMost(4.0));
        let used = use_of_link(governed, scenarios::RATE);
        table.holds("use of the link", used, AtLeast(0.98));
        table.finish();
    }
}

/// The queue drops one datagram of one of fifty peers of a socket: that one is held back, in the
/// next second the others get no less for it.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn a_drop_of_one_peer_does_not_slow_the_others() {
    const PEER: usize = 7;
    const AT: Duration = Duration::from_secs(5);
    for kind in KINDS {
        let mut table = Table::new(name("fifty-peers", ("one drop", kind)));
        let run = |drop_at| {
            let control = Base::cubic().governed();
            let mut scenario = traced(scenarios::fifty_peers(kind, &control, Watching::Peer));
            scenario.flows[PEER].drop_at = drop_at;
            scenario.lasting(AT + Duration::from_secs(1)).run()
        };
        let (without, with) = (run(None), run(Some(AT)));
        assert_eq!(without.flows[PEER].local_drops, 0);
        assert_eq!(with.flows[PEER].local_drops, 1);
        let after = |outcome: &Outcome, flow| outcome.trace.goodput(flow, AT, outcome.duration);
        let others = |outcome| -> f64 {
            let flows = (0..50).filter(|flow| *flow != PEER);
            flows.map(|flow| after(outcome, flow)).sum()
        };
        let kept = others(&with) / others(&without);
        table.holds("others' goodput by what it was", kept, AtLeast(0.99));
        let worst = (0..50)
            .filter(|flow| *flow != PEER)
            .map(|flow| after(&with, flow) / after(&without, flow))
            .fold(f64::INFINITY, f64::min);
        table.note(format!(
            "the worst of the others {worst:.3}, the peer itself {:.3}",
            after(&with, PEER) / after(&without, PEER)
        ));
        table.finish();
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn fifty_peers() {
    for watching in [Watching::Peer, Watching::Socket] {
        for kind in [Kind::Bucket, Kind::Device] {
            let mut table = Table::new(name("fifty-peers", (watching, kind)));
            let pair = Pair::run(&Base::cubic(), |control| {
                traced(scenarios::fifty_peers(kind, &control, watching))
            });
            compare(&table, &pair);
            table.note(format!(
                "stock's Jain {:.3}",
                fairness(&shares(&pair.stock))
            ));
            let jain = fairness(&shares(&pair.governed));
            table.holds("Jain's index", jain, AtLeast(0.9));
            let lost = lost_ratio(&pair.governed, &pair.stock);
            table.holds("lost of stock's", lost, AtMost(0.02));
            table.holds(
                "goodput of stock's",
                pair.governed.total_goodput() / pair.stock.total_goodput(),
                AtLeast(0.98),
            );
            table.finish();
        }
    }
}
