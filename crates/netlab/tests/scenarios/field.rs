//! What happened to services in the field.

use std::time::Duration;

use netlab::sim::scenarios::{self, Bottleneck, MOVES_ON, OUTAGE, UPLOAD};
use netlab::sim::{
    Control, FlowSpec, Outage, Outcome, Scenario, Stalls, TcpLaw, TcpSpec, fairness,
};

use crate::figures::{
    AtLeast, AtMost, KINDS, Table, Within, idle, lost_ratio, ms, name, summary, use_of_link,
};
use crate::senders::{Base, Pair};
use crate::shared::{shares, traced};

fn compare(table: &Table, pair: &Pair) {
    table.note(summary("stock", &pair.stock));
    table.note(summary("governed", &pair.governed));
}

/// Sends fail for a while: trusted again within two round trips after they pass.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn outages() {
    let outages = [
        ("device down 20 ms", 20, 0, true),
        ("device down 200 ms", 200, 0, true),
        ("device down 1 s", 1_000, 0, true),
        ("device down 2 s", 2_000, 0, true),
        ("route away 100 ms", 100, 0, false),
        ("mtu 1280 for 2 s", 2_000, 1_232, false),
    ];
    for (title, millis, passes, deaf) in outages {
        for kind in KINDS {
            let mut table = Table::new(name("outage", (title, kind)));
            let pair = Pair::run(&Base::cubic(), |control| {
                let outage = Outage {
                    at: OUTAGE,
                    lasting: Duration::from_millis(millis),
                    passes,
                    deaf,
                };
                traced(scenarios::outage(kind, control, outage))
            });
            compare(&table, &pair);
            assert!(millis < 100 || pair.governed.flows[0].refused > 0);
            // The retransmission timeout may have doubled meanwhile.
            let back = OUTAGE + Duration::from_millis(millis) * 2 + Duration::from_secs(2);
            let idle = idle(&Bottleneck::from(kind).local(), Base::cubic().stock());
            let p50 = median_rtt(&pair.governed, back);
            table.holds("p50 over idle from then on, ms", p50 - idle, AtMost(3.0));
            let goodput = |outcome: &Outcome| outcome.trace.goodput(0, back, outcome.duration);
            let part = goodput(&pair.governed) / goodput(&pair.stock);
            table.holds("goodput of stock's from then on", part, AtLeast(0.98));
            table.finish();
        }
    }
}

fn median_rtt(outcome: &Outcome, from: Duration) -> f64 {
    let rows = outcome.trace.of_flow(0);
    let rows = rows.filter(|row| row.time >= from.as_secs_f64());
    let mut rtts: Vec<f64> = rows.map(|row| row.rtt).collect();
    rtts.sort_by(f64::total_cmp);
    rtts[rtts.len() / 2]
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn ack_flood() {
    for kind in KINDS {
        let mut table = Table::new(name("ack-flood", kind));
        let pair = Pair::run(&Base::cubic(), |control| {
            scenarios::ack_flood(kind, control)
        });
        compare(&table, &pair);
        let (stock, governed) = (&pair.stock.flows[0], &pair.governed.flows[0]);
        assert!(governed.local_drops > 0, "acknowledgements are dropped");
        let took = |outcome: &Outcome| {
            let upload = &outcome.flows[0].completions[0];
            assert_eq!(upload.began, UPLOAD);
            ms(upload.took)
        };
        let part = took(&pair.governed) / took(&pair.stock);
        table.holds("upload's time of stock's", part, AtMost(1.03));
        let window = |window: u64| window as f64 / 1e3;
        table.note(format!(
            "window {} of stock's {} kB",
            window(governed.last_window),
            window(stock.last_window)
        ));
        table.finish();
    }
}

pub(crate) type MakeTcp = fn() -> TcpSpec;

/// A TCP flow that learns nothing of its host for which a standing queue is home, and one of Linux.
pub(crate) const COMPETITORS: [(&str, MakeTcp); 2] = [
    ("linux", || TcpSpec::local(TcpLaw::Cubic)),
    ("plain cubic", || TcpSpec::plain(TcpLaw::Cubic)),
];

#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn responses_beside_tcp() {
    for (title, competitor) in COMPETITORS {
        for kind in KINDS {
            let mut table = Table::new(name("responses", (title, kind)));
            let pair = Pair::run(&Base::cubic(), |control| {
                scenarios::responses(kind, control, competitor())
            });
            compare(&table, &pair);
            let ours = times(&pair.governed);
            let theirs = times(&pair.stock);
            table.note(format!(
                "{} responses of stock's {}",
                ours.len(),
                theirs.len()
            ));
            for (who, times) in [("stock", &theirs), ("governed", &ours)] {
                let at = |percent| percentile(times, percent);
                let (p10, p50, p90, p99) = (at(10), at(50), at(90), at(99));
                table.note(format!(
                    "{who}'s time {p10:.0} {p50:.0} {p90:.0} {p99:.0} ms"
                ));
            }
            for percent in [50, 99] {
                let part = percentile(&ours, percent) / percentile(&theirs, percent);
                // A stock sender takes nine tenths of the link from Linux's TCP, which keeps little in
                // its queue: 50 ms where half of the link alone takes 64 ms and a round trip.
                let most = if title == "linux" { 2.5 } else { 1.5 };
                let what = format!("p{percent} of stock's");
                table.aims(&what, part, AtMost(1.2), AtMost(most));
            }
            table.holds(
                "lost of stock's",
                lost_ratio(&pair.governed, &pair.stock),
                AtMost(0.1),
            );
            table.finish();
        }
    }
}

pub(crate) fn times(outcome: &Outcome) -> Vec<f64> {
    let done = &outcome.flows[0].completions;
    let mut times: Vec<f64> = done.iter().map(|response| ms(response.took)).collect();
    times.sort_by(f64::total_cmp);
    times
}

pub(crate) fn percentile(times: &[f64], percent: usize) -> f64 {
    times[(times.len() - 1) * percent / 100]
}

/// Two and three programs with probes of their own, each of which takes the others' flows for
/// somebody else's.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn governed_processes() {
    for count in [2, 3, 4] {
        for kind in KINDS {
            let mut table = Table::new(name("processes", (count, kind)));
            let base = Base::cubic();
            let run = |control: fn(&Base) -> Control| {
                let mut scenario = scenarios::beside(kind, control(&base), &[]);
                for number in 1..count {
                    let start = Duration::from_millis(300) * number;
                    let flow = FlowSpec::new(control(&base)).starting(start);
                    scenario = scenario.flow(flow);
                }
                traced(scenario).run()
            };
            let (stock, governed) = (run(Base::stock), run(Base::governed));
            table.note(summary("stock", &stock));
            table.note(summary("governed", &governed));
            let idle = idle(&scenarios::beside(kind, base.stock(), &[]), base.stock());
            let p50 = ms(governed.flows[0].rtt.p50);
            table.holds("p50 over idle, ms", p50 - idle, AtMost(5.0));
            table.holds(
                "lost of stock's",
                lost_ratio(&governed, &stock),
                AtMost(0.01),
            );
            table.holds("Jain's index", fairness(&shares(&governed)), AtLeast(0.95));
            table.holds(
                "use of the link",
                use_of_link(&governed, scenarios::RATE),
                AtLeast(0.98),
            );
            table.finish();
        }
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn two_processes_beside_tcp() {
    for (title, competitor) in COMPETITORS {
        for kind in KINDS {
            let mut table = Table::new(name("processes beside TCP", (title, kind)));
            let base = Base::cubic();
            let mut of_tcp = Vec::new();
            for seed in 1..=5 {
                let scenario = scenarios::beside(kind, base.governed(), &[base.governed()]);
                let mut scenario = traced(scenario.competitor(competitor()));
                scenario.seed = seed;
                let outcome = scenario.run();
                of_tcp.push(shares(&outcome)[2]);
            }
            table.note(format!("TCP's shares in five runs {of_tcp:.3?}"));
            let mean = of_tcp.iter().sum::<f64>() / 5.0;
            let goal = Within(0.25, 0.42);
            // One that fills the queue drops less than is made room for it by two.
            table.aims("TCP's mean share", mean, goal, Within(0.25, 0.5));
            table.finish();
        }
    }
}

/// Processes that matched a TCP flow come to rest when that has gone, also while their processors are
/// wanted by others: each could take the rest for competitors that are to be matched.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn processes_after_tcp() {
    const GONE: Duration = Duration::from_secs(8);
    for stalled in [false, true] {
        for kind in KINDS {
            let title = if stalled { "stalls" } else { "calm" };
            let mut table = Table::new(name("processes after TCP", (title, kind)));
            let base = Base::cubic();
            let others = [base.governed(), base.governed()];
            let mut tcp = TcpSpec::plain(TcpLaw::Cubic);
            tcp.end = Some(GONE);
            let mut scenario = scenarios::beside(kind, base.governed(), &others).competitor(tcp);
            if stalled {
                let ms = Duration::from_millis;
                scenario.host.stalls = Some(Stalls::new(ms(20), ms(1), ms(4)));
            }
            let outcome = traced(scenario).run();
            table.note(summary("governed", &outcome));
            let idle = idle(&scenarios::beside(kind, base.stock(), &[]), base.stock());
            let p50 = median_rtt(&outcome, GONE + Duration::from_secs(2));
            // Each of three that all find a standing queue matches two others: it goes on standing
            // until a pause breaks it. Stock senders fill it always.
            let most = AtMost(25.0);
            table.aims(
                "p50 over idle from then on, ms",
                p50 - idle,
                AtMost(5.0),
                most,
            );
            table.finish();
        }
    }
}

/// What can go wrong beside TCP, alone and together.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn beside_tcp_with_faults() {
    type Change = fn(&mut Scenario);
    type Fault = (&'static str, Change, f64);
    let late = |scenario: &mut Scenario| scenario.signals.delay = Duration::from_millis(1);
    let stalls = |scenario: &mut Scenario| {
        scenario.host.stalls = Some(Stalls::new(
            Duration::from_millis(20),
            Duration::from_millis(1),
            Duration::from_millis(4),
        ));
        scenario.back.jitter = Duration::from_millis(3);
    };
    let faults: [Fault; 3] = [
        ("1 ms late", late, 0.42),
        ("stalls and jitter", stalls, 0.42),
        (
            "both",
            |scenario| {
                scenario.signals.delay = Duration::from_millis(1);
                scenario.host.stalls = Some(Stalls::new(
                    Duration::from_millis(20),
                    Duration::from_millis(1),
                    Duration::from_millis(4),
                ));
                scenario.back.jitter = Duration::from_millis(3);
            },
            0.38,
        ),
    ];
    for (title, competitor) in COMPETITORS {
        for (fault, change, least) in faults {
            for kind in KINDS {
                let mut table = Table::new(name("beside-tcp", (title, fault, kind)));
                let pair = Pair::run(&Base::cubic(), |control| {
                    let mut scenario = scenarios::beside_tcp(kind, control, &[competitor()]);
                    change(&mut scenario);
                    traced(scenario)
                });
                compare(&table, &pair);
                let share = shares(&pair.governed)[0];
                // One that fills the queue sees drops a round trip late, and takes the room.
                let reached = if title == "linux" { least } else { 0.3 };
                table.aims("share", share, Within(least, 0.6), Within(reached, 0.6));
                table.finish();
            }
        }
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn sibling() {
    for kind in KINDS {
        let mut table = Table::new(name("sibling", kind));
        let pair = Pair::run(&Base::cubic(), |control| scenarios::sibling(kind, control));
        compare(&table, &pair);
        let idle = idle(&Bottleneck::from(kind).local(), Base::cubic().stock());
        let p50 = ms(pair.governed.flows[0].rtt.p50);
        table.holds("p50 over idle, ms", p50 - idle, AtMost(3.0));
        let goodput = pair.governed.total_goodput() / pair.stock.total_goodput();
        table.holds("goodput of stock's", goodput, AtLeast(0.99));
        table.finish();
    }
}

/// A tree of queues may have others in the same class, too.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn classes_beside_tcp() {
    for (title, competitor) in COMPETITORS {
        for kind in KINDS {
            for sibling in [0, 1_000_000] {
                let mut table = Table::new(name("classes", (title, kind, sibling / 1_000)));
                let pair = Pair::run(&Base::cubic(), |control| {
                    let mut scenario = scenarios::beside_tcp(kind, control, &[competitor()]);
                    scenario.signals.kind = "htb";
                    scenario.signals.sibling = sibling;
                    traced(scenario)
                });
                compare(&table, &pair);
                let share = shares(&pair.governed)[0];
                table.holds("share", share, Within(0.35, 0.6));
                table.finish();
            }
        }
    }
}

/// The bottleneck was the host for long, and is the next hop from then on.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn the_bottleneck_moves_on() {
    for (rate, queue) in [
        (80_000_000, 200_000),
        (60_000_000, 100_000),
        (300_000_000, 400_000),
    ] {
        for kind in KINDS {
            let title = format!("{} Mbit/s", rate / 1_000_000);
            let mut table = Table::new(name("moves-on", (title, kind)));
            let pair = Pair::run(&Base::cubic(), |control| {
                traced(scenarios::moves_on(kind, control, rate, queue))
            });
            compare(&table, &pair);
            let lost = |outcome: &Outcome| outcome.flows[0].remote_drops as f64;
            let more = lost(&pair.governed) - lost(&pair.stock);
            // A queue of 100 kB is overrun by what a round trip adds before the first loss is reported:
            // a sixteenth of 250 kB are eleven datagrams.
            table.aims(
                "lost by the next hop less stock's",
                more,
                AtMost(10.0),
                AtMost(25.0),
            );
            let goodput = |outcome: &Outcome| {
                outcome
                    .trace
                    .goodput(0, MOVES_ON, MOVES_ON + Duration::from_secs(5))
            };
            let part = goodput(&pair.governed) / goodput(&pair.stock);
            table.holds("goodput of stock's from then on", part, AtLeast(0.98));
            table.finish();
        }
    }
}

/// A source that knows nothing but what the flow itself has in the queue.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimisation: --release")]
fn others_unseen() {
    for kind in KINDS {
        let mut table = Table::new(name("others-unseen", ("alone", kind)));
        let pair = Pair::run(&Base::cubic(), |control| {
            let mut scenario = scenarios::local_queue(kind.into(), control);
            scenario.signals.hides_others = true;
            scenario
        });
        compare(&table, &pair);
        let idle = idle(&Bottleneck::from(kind).local(), Base::cubic().stock());
        let p50 = ms(pair.governed.flows[0].rtt.p50);
        table.holds("p50 over idle, ms", p50 - idle, AtMost(3.0));
        table.holds(
            "lost of stock's",
            lost_ratio(&pair.governed, &pair.stock),
            AtMost(0.01),
        );
        let goodput = pair.governed.total_goodput() / pair.stock.total_goodput();
        table.holds("goodput of stock's", goodput, AtLeast(0.98));
        table.finish();

        for (title, competitor) in COMPETITORS {
            let mut table = Table::new(name("others-unseen", (title, kind)));
            let pair = Pair::run(&Base::cubic(), |control| {
                let mut scenario = scenarios::beside_tcp(kind, control, &[competitor()]);
                scenario.signals.hides_others = true;
                traced(scenario)
            });
            compare(&table, &pair);
            table.note(format!("stock's share {:.3}", shares(&pair.stock)[0]));
            let share = shares(&pair.governed)[0];
            table.holds("share", share, AtLeast(0.25));
            table.finish();
        }
    }
}
