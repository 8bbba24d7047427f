//! The simulator itself, with stock controllers: it shows what live kernels and networks show.

use std::time::Duration;

use netlab::sim::scenarios::{self, Bottleneck, Kind};
use netlab::sim::{
    App, Control, Discipline, FlowOutcome, FlowSpec, Loss, Outcome, Scenario, TcpLaw, TcpSpec,
};
use quinn_proto::congestion::{BbrConfig, CubicConfig, NewRenoConfig};

const RATE: u64 = scenarios::RATE;

fn cubic() -> Control {
    Control::stock(CubicConfig::default())
}

fn local(control: Control) -> Scenario {
    scenarios::local_queue(Kind::Bucket.into(), control)
}

fn only(outcome: &Outcome) -> &FlowOutcome {
    let [flow] = outcome.flows.as_slice() else {
        panic!("one flow")
    };
    assert_eq!(flow.error, None);
    flow
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn the_same_seed_gives_the_same_trace_to_the_byte() {
    let controls = [
        cubic(),
        Control::stock(NewRenoConfig::default()),
        Control::stock(BbrConfig::default()),
    ];
    for control in controls {
        let run = |seed| {
            let mut scenario = local(control.clone())
                .flow(FlowSpec::new(control.clone()).starting(ms(300)))
                .competitor(TcpSpec::local(TcpLaw::Cubic))
                .lasting(Duration::from_secs(2));
            scenario.seed = seed;
            scenario.hops[0].loss = Loss::Random(0.001);
            scenario.hops[0].jitter = ms(1);
            scenario.trace_interval = Some(ms(10));
            scenario.record_steps = true;
            let outcome = scenario.run();
            let mut csv = Vec::new();
            outcome
                .trace
                .write_csv(&mut csv)
                .expect("a vector takes it");
            (outcome, csv)
        };
        let (first, second, other) = (run(1), run(1), run(2));
        assert_eq!(first, second);
        assert_ne!(first.1, other.1);
    }
}

/// What the same senders did over a kernel's token bucket of these figures: Cubic lost 345 of
/// 34,233, round trips 37.6 ms (p50) and 42.6 ms (p99); NewReno lost 298, 32.9 and 43.0 ms.
#[test]
fn loss_based_controllers_fill_the_queue_and_lose_hundreds() {
    let new_reno = Control::stock(NewRenoConfig::default());
    for (control, p50) in [(cubic(), 33..39), (new_reno, 29..36)] {
        let outcome = local(control).run();
        let flow = only(&outcome);
        assert!((150..400).contains(&flow.lost_packets), "{flow:?}");
        assert_eq!(flow.lost_packets, flow.local_drops);
        assert!(p50.contains(&flow.rtt.p50.as_millis()), "{:?}", flow.rtt);
        assert!(
            (41..45).contains(&flow.rtt.p99.as_millis()),
            "{:?}",
            flow.rtt
        );
        assert!(flow.goodput > 0.93 * RATE as f64);
    }
}

/// There it lost 35,379 of 68,790.
#[test]
fn bbr_loses_as_much_as_it_delivers() {
    let outcome = local(Control::stock(BbrConfig::default())).run();
    let flow = only(&outcome);
    let lost = flow.lost_packets as f64 / flow.sent_packets as f64;
    assert!((0.4..0.7).contains(&lost), "{flow:?}");
}

/// There TCP was left 3 of 50 Mbit/s.
#[test]
fn cubic_leaves_next_to_nothing_to_a_tcp_flow_of_its_host() {
    let tcp = TcpSpec::local(TcpLaw::Cubic);
    let outcome = scenarios::beside_tcp(Kind::Bucket, cubic(), &[tcp]).run();
    assert!(outcome.competitors[0].goodput < 8e6);
    assert!(outcome.flows[0].goodput > 38e6);
}

#[test]
fn a_queue_larger_than_the_send_buffer_blocks_the_socket_and_drops_nothing() {
    let bottleneck = Bottleneck::default().holding(2_000_000);
    let outcome = scenarios::local_queue(bottleneck, cubic()).run();
    let flow = only(&outcome);
    assert_eq!(flow.lost_packets, 0);
    assert!(flow.blocked_sends > 100);
    assert!(outcome.links[0].backlog_peak < 230_000, "the send buffer");
    assert!(flow.peak_window > 10_000_000, "it grows behind EAGAIN");
}

#[test]
fn a_remote_bottleneck_leaves_the_own_queue_empty() {
    let outcome = scenarios::remote_queue(cubic()).run();
    let flow = only(&outcome);
    let [egress, bottleneck, _wire] = outcome.links.as_slice() else {
        panic!("three links")
    };
    assert_eq!(flow.local_drops, 0);
    assert_eq!(flow.lost_packets, flow.remote_drops);
    assert!((150..400).contains(&flow.lost_packets));
    assert!(egress.backlog_peak < 30_000);
    assert!(bottleneck.backlog_peak > 140_000);
    assert!(flow.steps.is_sorted_by_key(|step| step.time));
}

#[test]
fn a_slow_receiver_drops_what_its_buffer_cannot_hold() {
    let outcome = scenarios::slow_receiver(cubic()).run();
    let flow = only(&outcome);
    assert!(flow.receive_drops > 50, "{flow:?}");
    assert_eq!(flow.lost_packets, flow.receive_drops);
    assert!((30e6..40e6).contains(&flow.goodput), "{}", flow.goodput);
}

#[test]
fn losses_on_the_way_are_neither_queue_nor_host() {
    let burst = Loss::bursts(0.001, 5.0);
    for loss in [Loss::Random(0.001), burst] {
        let mut scenario = local(cubic());
        scenario.hops[0].loss = loss;
        let outcome = scenario.run();
        let flow = only(&outcome);
        assert!(flow.path_losses > 5, "{flow:?}");
        assert_eq!(flow.lost_packets, flow.path_losses + flow.local_drops);
    }
}

#[test]
fn a_rule_of_the_host_drops_batches_before_the_queue() {
    let outcome = scenarios::policy_drops(local(cubic()), 0.01).run();
    let flow = only(&outcome);
    assert!(flow.policy_drops > 10);
    assert!(flow.lost_packets >= flow.policy_drops);
}

#[test]
fn controlled_delay_keeps_the_queue_short() {
    let mut scenario = Bottleneck::default().remote().flow(FlowSpec::new(cubic()));
    scenario.hops[0].discipline = Discipline::codel();
    let outcome = scenario.lasting(Duration::from_secs(20)).run();
    let flow = only(&outcome);
    assert!(flow.rtt.p50 < ms(30), "{:?}", flow.rtt);
    assert!(flow.remote_drops > 10);
    assert!(flow.goodput > 0.85 * RATE as f64);
}

#[test]
fn a_change_of_rate_is_followed() {
    let mut scenario = scenarios::rate_step(Kind::Device, cubic());
    scenario.trace_interval = Some(ms(50));
    let outcome = scenario.run();
    let [fall, rise] = scenarios::RATE_STEPS;
    let second = Duration::from_secs(1);
    let between = |from, to| outcome.trace.goodput(0, from, to);
    assert!(between(fall - second, fall) > 46e6);
    let slow = between(fall + second, rise);
    assert!((9e6..10e6).contains(&slow), "{slow}");
    assert!(between(rise + 2 * second, outcome.duration) > 44e6);
}

#[test]
fn a_transfer_takes_the_time_of_its_bytes() {
    let scenario = Bottleneck::default()
        .local()
        .flow(FlowSpec::new(cubic()).sending(App::Transfer(10_000_000)));
    let outcome = scenario.run();
    let flow = only(&outcome);
    let [transfer] = flow.completions.as_slice() else {
        panic!("one transfer")
    };
    assert_eq!(flow.received_bytes, 10_000_000);
    let seconds = transfer.took.as_secs_f64();
    assert!((1.68..2.2).contains(&seconds), "{seconds}");
}

#[test]
fn a_tcp_flow_by_itself_uses_the_link() {
    for law in [TcpLaw::Cubic, TcpLaw::NewReno] {
        for competitor in [TcpSpec::plain(law), TcpSpec::local(law)] {
            let scenario = Bottleneck::default().local().competitor(competitor);
            let outcome = scenario.lasting(Duration::from_secs(20)).run();
            let tcp = &outcome.competitors[0];
            assert!(tcp.goodput > 0.9 * RATE as f64, "{tcp:?}");
            assert_eq!(tcp.stats.timeouts, 0, "{tcp:?}");
            assert_eq!(tcp.stats.lost_packets, tcp.stats.dropped_packets);
            if competitor.small_queue {
                assert_eq!(tcp.stats.dropped_packets, 0);
                assert!(outcome.links[0].backlog_peak < 20_000);
            }
        }
    }
}

#[test]
fn a_competitor_may_come_in_behind_the_host() {
    let mut scenario = Bottleneck::default().remote().flow(FlowSpec::new(cubic()));
    let competitor = TcpSpec::plain(TcpLaw::Cubic).starting(ms(500)).at_hop(1);
    scenario.competitors = vec![competitor];
    let outcome = scenario.lasting(Duration::from_secs(10)).run();
    assert!(outcome.competitors[0].goodput > 5e6);
    assert!(outcome.total_goodput() > 0.9 * RATE as f64);
}
