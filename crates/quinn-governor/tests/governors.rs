//! The public API over a mock source.

use std::any::Any;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{
    Direction, DropClass, DropCounters, MockFlow, MockSource, QueueId, QueueSample, SourceKind,
};
use quinn_governor::testing::rtt_estimator;
use quinn_governor::{
    BaseKind, ConfigError, Factory, GovernedController, GovernorConfig, Governors,
};
use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory, CubicConfig};

const RTT: Duration = Duration::from_millis(20);

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a zero for virtual time")]
    Instant::now()
}

fn setup() -> (Arc<MockSource>, MockFlow, Governors) {
    let source = Arc::new(MockSource::new());
    let flow = source.add_flow();
    let governors = Governors::new(Arc::clone(&source) as _);
    (source, flow, governors)
}

fn drop_one(flow: &MockFlow) {
    let one = DropCounters {
        skbs: 1,
        packets: 1,
        bytes: 1242,
    };
    flow.drop_packets(Direction::Egress, DropClass::QueueFull, "QDISC_DROP", one);
}

/// A queue without competing traffic.
fn queue(own: u64, drained: u64) -> Option<QueueSample> {
    let id = QueueId::new(0)?;
    Some(
        QueueSample::new(id)
            .with_own(own)
            .with_shared(own)
            .with_total(own)
            .with_drained(drained),
    )
}

#[test]
fn a_governed_controller_looks_like_its_base_where_nothing_happens_here() {
    let (_, flow, governors) = setup();
    let start = now();
    let rtt = rtt_estimator(start, RTT);
    let mut governed = governors.watch(flow.watch()).build(start, 1200);
    let mut stock = Arc::new(CubicConfig::default()).build(start, 1200);
    assert_eq!(governed.initial_window(), stock.initial_window());
    for round in 0..100u32 {
        let (sent, now) = (start + round * RTT, start + (round + 1) * RTT);
        flow.observe_sent(10, 12_000);
        for each in [&mut governed, &mut stock] {
            each.on_sent(sent, 12_000, u64::from(round) * 10 + 9);
            each.on_ack(now, sent, 12_000, round % 7 == 0, &rtt);
            each.on_end_acks(now, 0, false, Some(u64::from(round) * 10 + 9));
            if round % 30 == 29 {
                each.on_congestion_event(now, sent, false, 1200);
            }
            if round == 50 {
                each.on_mtu_update(1452);
            }
        }
        assert_eq!(governed.window(), stock.window());
        let (ours, theirs) = (governed.metrics(), stock.metrics());
        assert_eq!(ours.congestion_window, theirs.congestion_window);
        assert_eq!(ours.ssthresh, theirs.ssthresh);
    }
    assert_eq!(governors.report().local_drop_reductions, 0);
}

#[test]
fn a_local_drop_reduces_at_once_and_is_told() {
    let (_, flow, governors) = setup();
    let governor = governors.watch(flow.watch());
    let start = now();
    let mut controller = Arc::clone(&governor).build(start, 1200);
    let before = controller.window();
    flow.observe_sent(10, 12_000);
    controller.on_sent(start, 12_000, 9);
    drop_one(&flow);
    controller.on_sent(start + RTT, 1200, 10);
    assert!(controller.window() < before);
    // The same loss, found by acknowledgements.
    let reduced = controller.window();
    controller.on_congestion_event(start + 2 * RTT, start, false, 1200);
    assert_eq!(controller.window(), reduced);
    assert_eq!(governor.report().local_drop_reductions, 1);
    assert_eq!(governors.report().local_drop_reductions, 1);
}

/// A base that reduces at every congestion event, and counts them.
#[derive(Clone)]
struct Eager(Arc<AtomicU64>);

impl ControllerFactory for Eager {
    fn build(self: Arc<Self>, _: Instant, _: u16) -> Box<dyn Controller> {
        Box::new(self.as_ref().clone())
    }
}

impl Controller for Eager {
    fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, _: u64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn on_ack(&mut self, _: Instant, _: Instant, _: u64, _: bool, _: &RttEstimator) {}
    fn on_mtu_update(&mut self, _: u16) {}
    fn window(&self) -> u64 {
        100_000
    }
    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }
    fn initial_window(&self) -> u64 {
        100_000
    }
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

fn eager(config: GovernorConfig) -> (Arc<AtomicU64>, MockFlow, Governors) {
    let source = Arc::new(MockSource::new());
    let flow = source.add_flow();
    let events = Arc::new(AtomicU64::new(0));
    let governors = Governors::builder(source)
        .base(Arc::new(Eager(Arc::clone(&events))))
        .config(config)
        .build()
        .expect("the configuration is valid");
    (events, flow, governors)
}

#[test]
fn a_base_that_does_not_filter_by_itself_hears_of_a_loss_once() {
    let (events, flow, governors) = eager(GovernorConfig::default());
    let start = now();
    let mut controller = governors.watch(flow.watch()).build(start, 1200);
    controller.on_sent(start, 12_000, 9);
    drop_one(&flow);
    controller.on_sent(start + RTT, 12_000, 19);
    assert_eq!(events.load(Ordering::Relaxed), 1);
    controller.on_congestion_event(start + 2 * RTT, start, false, 1200);
    assert_eq!(events.load(Ordering::Relaxed), 1);
    controller.on_congestion_event(start + 2 * RTT, start + RTT + RTT / 2, false, 1200);
    assert_eq!(events.load(Ordering::Relaxed), 2);
}

#[test]
fn a_base_that_models_the_path_hears_of_losses_only_as_they_are_reported() {
    let mut config = GovernorConfig::default();
    config.base_kind(BaseKind::ModelBased);
    let (events, flow, governors) = eager(config);
    let start = now();
    let mut controller = governors.watch(flow.watch()).build(start, 1200);
    controller.on_sent(start, 12_000, 9);
    drop_one(&flow);
    controller.on_sent(start + RTT, 12_000, 19);
    assert_eq!(events.load(Ordering::Relaxed), 0);
    controller.on_congestion_event(start + 2 * RTT, start, false, 1200);
    assert_eq!(events.load(Ordering::Relaxed), 1);
}

#[test]
fn one_connection_of_a_shared_socket_answers_a_drop() {
    let (events, flow, governors) = eager(GovernorConfig::default());
    let governor = governors.watch(flow.watch());
    let start = now();
    let mut both = [0, 1].map(|_| Arc::clone(&governor).build(start, 1200));
    assert_eq!(governor.report().controllers, 2);
    for controller in &mut both {
        controller.on_sent(start, 12_000, 9);
    }
    drop_one(&flow);
    for controller in &mut both {
        controller.on_sent(start + RTT, 12_000, 19);
    }
    assert_eq!(events.load(Ordering::Relaxed), 1);
    drop(both);
    assert_eq!(governor.report().controllers, 0);
}

#[test]
fn a_standing_queue_caps_the_window_until_the_source_dies() {
    let (events, flow, governors) = eager(GovernorConfig::default());
    let governor = governors.watch(flow.watch());
    let start = now();
    let rtt = rtt_estimator(start, RTT);
    let mut controller = Arc::clone(&governor).build(start, 1200);
    flow.set_queue(queue(20_000, 0));
    for step in 0..10u32 {
        let now = start + step * Duration::from_millis(1);
        flow.observe_sent(4, 4800);
        controller.on_sent(now, 4800, u64::from(step));
        controller.on_end_acks(now, u64::from(step + 1) * 4800, false, None);
    }
    // 48,000 in flight, and more in the queue than its limit.
    assert_eq!(controller.window(), 48_000);
    assert_eq!(controller.metrics().congestion_window, 48_000);
    assert!(
        governor.report().capped.is_zero(),
        "reported with the next call"
    );

    flow.set(|sample| sample.congestion.live = false);
    let mut now = start + RTT;
    for round in 0..33 {
        controller.on_ack(now, start, 36_000, false, &rtt);
        controller.on_end_acks(now, 36_000, false, Some(round));
        now += RTT;
    }
    assert_eq!(controller.window(), 100_000);
    let report = governor.report();
    assert_eq!(report.stale_periods, 1);
    assert!(report.capped > Duration::ZERO);
    assert_eq!(events.load(Ordering::Relaxed), 0);
}

#[test]
fn a_clone_is_for_a_new_path_and_governs_like_the_first() {
    let (_, flow, governors) = setup();
    let governor = governors.watch(flow.watch());
    let start = now();
    let mut first = Arc::clone(&governor).build(start, 1200);
    first.on_sent(start, 12_000, 9);
    let mut second = first.clone_box();
    assert_eq!(second.window(), first.window());
    assert_eq!(governor.report().controllers, 1);
    second.on_sent(start, 1_200, 10);
    assert_eq!(governor.report().controllers, 2);
    drop(first);
    let second = second.into_any().downcast::<GovernedController>().unwrap();
    assert_eq!(second.base().window(), second.window());
    assert_eq!(governor.report().controllers, 1);
}

#[test]
fn a_governor_without_signals_builds_its_base_and_nothing_around_it() {
    let governor = Factory::ungoverned(Arc::new(CubicConfig::default()));
    assert!(!governor.is_governed());
    assert_eq!(governor.report(), quinn_governor::GovernorReport::default());
    let controller = governor.build(now(), 1200).into_any();
    assert!(controller.is::<quinn_proto::congestion::Cubic>());
}

#[test]
fn a_report_tells_the_source_and_how_long_ago_it_saw_something() {
    let (source, flow, governors) = setup();
    let governor = governors.watch(flow.watch());
    assert_eq!(governor.report().source, Some(SourceKind::Mock));
    assert_eq!(governor.report().observation_age, None);
    flow.at(Duration::from_millis(30), |sample| {
        sample.sent_packets = Some(1);
    });
    source.advance(Duration::from_millis(30));
    source.advance(Duration::from_millis(12));
    let age = Some(Duration::from_millis(12));
    assert_eq!(governor.report().observation_age, age);
    assert_eq!(governors.report().observation_age, age);
}

#[test]
fn a_configuration_out_of_range_is_refused() {
    let mut config = GovernorConfig::default();
    config.max_backlog(u64::MAX);
    let refused = Governors::builder(Arc::new(MockSource::new()))
        .config(config)
        .build();
    assert!(matches!(refused, Err(ConfigError::OutOfRange { .. })));
}

#[test]
fn a_socket_asked_for_twice_has_one_flow() {
    let (_, _, governors) = setup();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let remote: SocketAddr = "192.0.2.1:4433".parse().unwrap();
    let id = |governor: Arc<Factory>| governor.watch().unwrap().id();
    let first = governors.socket(&socket).unwrap();
    assert_eq!(
        id(governors.socket(&socket).unwrap()),
        id(Arc::clone(&first))
    );
    let peer = governors.peer(&socket, remote).unwrap();
    assert_eq!(
        id(governors.peer(&socket, remote).unwrap()),
        id(Arc::clone(&peer))
    );
    assert_ne!(id(first), id(peer));
}

#[test]
fn observing_a_controller_counts_nothing() {
    let (_, flow, governors) = setup();
    let start = now();
    let governed = governors.watch(flow.watch()).build(start, 1200);
    for _ in 0..3 {
        let copy = governed.clone_box();
        assert_eq!(copy.window(), governed.window());
        assert_eq!(copy.metrics().congestion_window, governed.window());
    }
    assert_eq!(governors.report().controllers, 1);
    drop(governed);
    assert_eq!(governors.report().controllers, 0);
}
