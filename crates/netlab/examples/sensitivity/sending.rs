//! The sending law: Cubic in the simulator's scenarios of a sender whose own host is the bottleneck.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use netlab::sim::scenarios::{self, Bottleneck, Kind};
use netlab::sim::{
    Control, EndManner, Outage, Outcome, Process, Scenario, SharedFactory, SignalConfig, Stalls,
    TcpLaw, TcpSpec, Watching,
};
use quinn_governor::{GovernorConfig, Governors, Mechanism, Tuning};
use quinn_proto::congestion::{BbrConfig, CubicConfig};

use super::measure::{Figure, Subject, Variation};

impl Subject for GovernorConfig {
    type Control = Control;

    fn control(&self) -> Control {
        let base: SharedFactory = Arc::new(CubicConfig::default());
        let config = *self;
        Control::Governed(Process::new(move |context| {
            let governors = Governors::builder(context.source())
                .base(Arc::clone(&base))
                .config(config)
                .build()
                .expect("the configuration is valid");
            Box::new(move |watch| governors.watch(watch))
        }))
    }
}

/// The standard, and then each number halved and doubled.
pub(crate) fn variations() -> Vec<Variation<GovernorConfig>> {
    let standard = GovernorConfig::default();
    let mut variations = vec![Variation::standard(standard)];
    for datagrams in [2, 8] {
        let mut config = standard;
        config.initial_backlog_datagrams(datagrams);
        variations.push(Variation {
            name: "initial_backlog_datagrams".into(),
            value: "4".into(),
            subject: config,
        });
    }
    for name in Tuning::NAMES {
        for factor in [0.5, 2.0] {
            let tuning = Tuning::scaled(name, factor).expect("its own name");
            let mut config = standard;
            config.tuning(Box::leak(Box::new(tuning)));
            variations.push(Variation {
                name: (*name).to_owned(),
                value: Tuning::STANDARD.text(name).expect("its own name"),
                subject: config,
            });
        }
    }
    variations
}

/// The standard, and then each mechanism switched off.
pub(crate) fn ablations() -> Vec<Variation<GovernorConfig>> {
    let standard = GovernorConfig::default();
    let without = Mechanism::ALL.iter().map(|mechanism| {
        let mut config = standard;
        config.without(*mechanism);
        Variation {
            name: mechanism.name().into(),
            value: mechanism.without().into(),
            subject: config,
        }
    });
    std::iter::once(Variation::standard(standard))
        .chain(without)
        .collect()
}

/// What is measured.
pub(crate) fn figures() -> Vec<Figure<Control>> {
    let figure = Figure::of_one_run;
    vec![
        figure("local p50", "ms", 0.1, local_bucket, p50),
        figure("device p50", "ms", 0.1, local_device, p50),
        figure("device goodput", "Mbit/s", 0.2, local_device, goodput),
        figure("300M goodput", "Mbit/s", 1.5, fast, goodput),
        figure("short lost", "", 4.0, short, lost),
        figure("short goodput", "Mbit/s", 0.5, short, goodput),
        figure("tiny lost", "", 4.0, tiny, lost),
        figure("5 ms goodput", "Mbit/s", 0.5, near, goodput),
        figure("beside TCP", "share", 0.03, beside_tcp, share),
        figure("four p50", "ms", 0.2, four, p50),
        figure("four Jain", "", 0.01, four, |outcome| outcome.fairness()),
        figure("fifty p50", "ms", 2.0, fifty, p50),
        figure("3 processes p50", "ms", 2.0, processes, p50),
        figure("TCP of 3", "share", 0.05, processes_beside_tcp, tcp_share),
        figure("others unseen", "share", 0.05, unseen, share),
        figure("moves on lost", "", 10.0, moves_on, remote_drops),
        figure("responses", "ms", 5.0, responses, completion),
        figure("fresh", "ms", 5.0, fresh, completion),
        figure("fall p50", "ms", 1.0, rate_step, after_the_fall),
        figure("bursts", "ms", 1.5, bursts, completion),
        figure("death burst", "times", 0.1, dies, burst),
        figure("busy host", "Mbit/s", 0.4, busy, goodput),
        Figure {
            // What is lost is a matter of luck.
            runs: 20,
            ..figure("policy drops", "Mbit/s", 0.5, policy, goodput)
        },
        figure("fiftieth missed", "Mbit/s", 0.4, missing, goodput),
        figure("tenth missed", "Mbit/s", 0.4, missing_more, goodput),
        figure("10 ms late", "Mbit/s", 0.4, late, goodput),
        figure("contradictory", "Mbit/s", 0.4, contradictory, goodput),
        figure("sibling p50", "ms", 1.0, sibling, p50),
        figure("beside BBR", "share", 0.05, beside_bbr, share),
        figure(
            "moves to 60M lost",
            "",
            10.0,
            moves_to_a_short_queue,
            remote_drops,
        ),
        figure("upload", "ms", 5.0, upload, completion),
        figure("after an outage", "Mbit/s", 0.4, outage, goodput),
        figure("one product lost", "", 4.0, one_product, lost),
        figure("limit hidden lost", "", 4.0, limit_hidden, lost),
        figure("3 stalled p50", "ms", 2.0, stalled_processes, late_p50),
        figure("100 ms late", "Mbit/s", 1.0, very_late, goodput),
    ]
}

fn local_bucket(control: Control) -> Scenario {
    scenarios::local_queue(Kind::Bucket.into(), control)
}

fn local_device(control: Control) -> Scenario {
    scenarios::local_queue(Kind::Device.into(), control)
}

fn fast(control: Control) -> Scenario {
    scenarios::local_queue(Bottleneck::fast(Kind::Bucket), control).lasting(Duration::from_secs(3))
}

fn short(control: Control) -> Scenario {
    scenarios::local_queue(Bottleneck::default().holding(20_000), control)
}

fn cell(rate: u64, products: f64, control: Control) -> Scenario {
    let round_trip = Duration::from_millis(5);
    scenarios::local_queue(Bottleneck::of_products(rate, round_trip, products), control)
}

fn tiny(control: Control) -> Scenario {
    cell(50_000_000, 0.2, control)
}

fn near(control: Control) -> Scenario {
    cell(100_000_000, 5.0, control)
}

fn beside_tcp(control: Control) -> Scenario {
    scenarios::beside_tcp(Kind::Bucket, control, &[TcpSpec::local(TcpLaw::Cubic)])
}

fn processes(control: Control) -> Scenario {
    let others = [control.another(), control.another()];
    scenarios::beside(Kind::Bucket, control, &others).lasting(Duration::from_secs(8))
}

fn processes_beside_tcp(control: Control) -> Scenario {
    let another = control.another();
    scenarios::beside(Kind::Bucket, control, &[another]).competitor(TcpSpec::local(TcpLaw::Cubic))
}

fn unseen(control: Control) -> Scenario {
    let tcp = TcpSpec::plain(TcpLaw::Cubic);
    let mut scenario = scenarios::beside_tcp(Kind::Bucket, control, &[tcp]);
    scenario.signals.hides_others = true;
    scenario
}

fn moves_on(control: Control) -> Scenario {
    scenarios::moves_on(Kind::Bucket, control, 80_000_000, 200_000)
}

/// The next hop's queue is overrun by what a round trip adds.
fn moves_to_a_short_queue(control: Control) -> Scenario {
    scenarios::moves_on(Kind::Bucket, control, 60_000_000, 100_000)
}

fn sibling(control: Control) -> Scenario {
    scenarios::sibling(Kind::Device, control)
}

fn beside_bbr(control: Control) -> Scenario {
    let bbr = Control::stock(BbrConfig::default());
    scenarios::beside(Kind::Bucket, control, &[bbr]).lasting(Duration::from_secs(8))
}

fn upload(control: Control) -> Scenario {
    scenarios::ack_flood(Kind::Bucket, control)
}

fn outage(control: Control) -> Scenario {
    let outage = Outage {
        at: scenarios::OUTAGE,
        lasting: Duration::from_secs(2),
        passes: 1_232,
        deaf: false,
    };
    scenarios::outage(Kind::Bucket, control, outage)
}

fn one_product(control: Control) -> Scenario {
    cell(50_000_000, 1.0, control)
}

/// A queue of a few packets that tells nothing of its limit.
fn limit_hidden(control: Control) -> Scenario {
    let mut scenario = tiny(control);
    scenario.signals.hides_limit = true;
    scenario
}

/// Processes whose processors are wanted by others, after a TCP flow has gone.
fn stalled_processes(control: Control) -> Scenario {
    let others = [control.another(), control.another()];
    let mut tcp = TcpSpec::plain(TcpLaw::Cubic);
    tcp.end = Some(Duration::from_secs(4));
    let mut scenario = scenarios::beside(Kind::Bucket, control, &others).competitor(tcp);
    let ms = Duration::from_millis;
    scenario.host.stalls = Some(Stalls::new(ms(20), ms(1), ms(4)));
    scenario.trace_interval = Some(ms(10));
    scenario.lasting(Duration::from_secs(10))
}

fn very_late(control: Control) -> Scenario {
    faulty(control, |signals| {
        signals.delay = Duration::from_millis(100);
    })
}

fn responses(control: Control) -> Scenario {
    scenarios::responses(Kind::Device, control, TcpSpec::plain(TcpLaw::Cubic))
}

fn fresh(control: Control) -> Scenario {
    let (tcp, start) = (TcpSpec::local(TcpLaw::Cubic), Duration::from_secs(2));
    scenarios::transfer_beside_tcp(Kind::Bucket, control, tcp, 200_000, start)
}

fn four(control: Control) -> Scenario {
    scenarios::four_flows(Kind::Bucket, &control).lasting(Duration::from_secs(8))
}

fn fifty(control: Control) -> Scenario {
    scenarios::fifty_peers(Kind::Bucket, &control, Watching::Peer).lasting(Duration::from_secs(5))
}

fn rate_step(control: Control) -> Scenario {
    let mut scenario = scenarios::rate_step(Kind::Bucket, control).lasting(Duration::from_secs(7));
    scenario.trace_interval = Some(Duration::from_millis(1));
    scenario
}

fn bursts(control: Control) -> Scenario {
    scenarios::app_limited(Kind::Device, control, 500_000)
}

fn dies(control: Control) -> Scenario {
    let scenario = scenarios::source_dies(Kind::Device, control, EndManner::Frozen);
    let mut scenario = scenario.lasting(scenarios::SOURCE_DIES + Duration::from_secs(1));
    scenario.trace_interval = Some(Duration::from_millis(1));
    scenario
}

fn busy(control: Control) -> Scenario {
    scenarios::busy_host(Kind::Device.into(), control)
}

fn policy(control: Control) -> Scenario {
    scenarios::policy_drops(local_bucket(control), 0.01)
}

fn faulty(control: Control, change: impl FnOnce(&mut SignalConfig)) -> Scenario {
    let mut signals = SignalConfig::default();
    change(&mut signals);
    scenarios::bad_signals(Kind::Device, control, signals)
}

fn missing(control: Control) -> Scenario {
    faulty(control, |signals| signals.loss = 0.02)
}

fn missing_more(control: Control) -> Scenario {
    faulty(control, |signals| signals.loss = 0.1)
}

fn late(control: Control) -> Scenario {
    faulty(control, |signals| signals.delay = Duration::from_millis(10))
}

fn contradictory(control: Control) -> Scenario {
    faulty(control, |signals| signals.contradiction = 0.01)
}

fn p50(outcome: &Outcome) -> f64 {
    outcome.flows[0].rtt.p50.as_secs_f64() * 1e3
}

fn goodput(outcome: &Outcome) -> f64 {
    outcome.total_goodput() / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
fn lost(outcome: &Outcome) -> f64 {
    outcome.lost_packets() as f64
}

fn tcp_share(outcome: &Outcome) -> f64 {
    outcome.competitors[0].goodput / outcome.total_goodput()
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
fn remote_drops(outcome: &Outcome) -> f64 {
    outcome.flows[0].remote_drops as f64
}

fn share(outcome: &Outcome) -> f64 {
    outcome.flows[0].goodput / outcome.total_goodput()
}

/// Ten round trips after the rate fell, for a second.
fn after_the_fall(outcome: &Outcome) -> f64 {
    let from = scenarios::RATE_STEPS[0] + 10 * scenarios::ROUND_TRIP;
    traced_p50(outcome, from.as_secs_f64()..from.as_secs_f64() + 1.0)
}

fn late_p50(outcome: &Outcome) -> f64 {
    traced_p50(outcome, 6.0..10.0)
}

fn traced_p50(outcome: &Outcome, range: Range<f64>) -> f64 {
    let rows = outcome.trace.of_flow(0);
    let mut rtts: Vec<f64> = rows
        .filter(|row| range.contains(&row.time))
        .map(|row| row.rtt)
        .collect();
    rtts.sort_by(f64::total_cmp);
    rtts.get(rtts.len() / 2).copied().unwrap_or(f64::NAN)
}

fn completion(outcome: &Outcome) -> f64 {
    let times = outcome.flows[0].completions.iter();
    let times: Vec<f64> = times.map(|burst| burst.took.as_secs_f64() * 1e3).collect();
    times.iter().sum::<f64>() / f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX))
}

/// The most in flight in five round trips after the signals' end, by what it was in five before.
fn burst(outcome: &Outcome) -> f64 {
    let end = scenarios::SOURCE_DIES.as_secs_f64();
    let span = 5.0 * scenarios::ROUND_TRIP.as_secs_f64();
    let most = |from: f64, to: f64| {
        let rows = outcome.trace.of_flow(0);
        let rows = rows.filter(|row| (from..to).contains(&row.time));
        let most = rows.map(|row| row.in_flight).max().unwrap_or_default();
        f64::from(u32::try_from(most).unwrap_or(u32::MAX))
    };
    most(end, end + span) / most(end - span, end)
}
