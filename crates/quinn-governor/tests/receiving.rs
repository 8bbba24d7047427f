//! The receiving side over a mock source.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{
    BufferSample, Direction, DropClass, DropCounters, KernelTime, MockFlow, MockSource,
};
use proptest::prelude::*;
use quinn_governor::{
    ReceiveControl, ReceiveGovernor, ReceiveProgress, ReceiveSignals, ReceivingConnection,
};
use quinn_proto::VarInt;

const WINDOW: u32 = 1 << 20;
const DATAGRAM: u64 = 1452;

/// A connection that receives what the test says.
#[derive(Clone, Default)]
struct Connection {
    state: Arc<(AtomicU64, AtomicU64)>,
}

impl Connection {
    fn receive(&self, bytes: u64) {
        self.state.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// `None`: never set.
    fn window(&self) -> Option<u64> {
        Some(self.state.1.load(Ordering::Relaxed)).filter(|window| *window > 0)
    }
}

impl ReceivingConnection for Connection {
    fn received(&self) -> u64 {
        self.state.0.load(Ordering::Relaxed)
    }

    fn round_trip(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn datagram(&self) -> u16 {
        1452
    }

    fn set_window(&self, window: VarInt) {
        self.state.1.store(window.into_inner(), Ordering::Relaxed);
    }
}

/// A socket with 64 kB of buffer, half of which is payload.
struct Setup {
    flow: MockFlow,
    governor: ReceiveGovernor,
    now: Instant,
    seen: u64,
}

impl Setup {
    fn new() -> Self {
        let flow = MockSource::new().add_flow();
        flow.set(|sample| {
            let mut buffers = BufferSample::default();
            buffers.rcvbuf = 64_000;
            sample.buffers = Some(buffers);
        });
        let governor = ReceiveGovernor::new(flow.watch(), VarInt::from_u32(WINDOW));
        #[expect(clippy::disallowed_methods, reason = "a zero for virtual time")]
        let now = Instant::now();
        Self {
            flow,
            governor,
            now,
            seen: 0,
        }
    }

    fn drop_some(&self) {
        let some = DropCounters {
            skbs: 3,
            packets: 3,
            bytes: 3 * DATAGRAM,
        };
        let class = DropClass::ReceiveBuffer;
        self.flow
            .drop_packets(Direction::Ingress, class, "SOCKET_RCVBUFF", some);
    }

    /// Time passes, in which each connection receives this much, and the kernel sees it.
    fn pass(&mut self, time: Duration, connections: &[&Connection], bytes: u64) {
        self.now += time;
        self.seen += 1;
        let updated = KernelTime::from_nanos(self.seen);
        self.flow.set(|sample| sample.updated = Some(updated));
        for connection in connections {
            connection.receive(bytes);
        }
        self.governor.poll(self.now);
    }

    /// The same at 2 MB a second, and then the buffer overflows.
    fn overflow(&mut self, connections: &[&Connection]) {
        for _ in 0..5 {
            self.pass(Duration::from_millis(50), connections, 100_000);
        }
        self.drop_some();
        self.pass(Duration::from_millis(5), connections, 10_000);
    }
}

#[test]
fn nothing_is_set_while_nothing_overflows() {
    let mut setup = Setup::new();
    let connection = Connection::default();
    let _window = setup.governor.govern(connection.clone());
    for _ in 0..100 {
        setup.pass(Duration::from_millis(50), &[&connection], 1_000_000);
    }
    assert_eq!(connection.window(), None);
    assert_eq!(setup.governor.limit(), None);
}

#[test]
fn an_overflow_comes_down_to_what_the_buffer_holds() {
    let mut setup = Setup::new();
    let connection = Connection::default();
    let _window = setup.governor.govern(connection.clone());
    setup.overflow(&[&connection]);
    // 2 kB are on the path.
    assert_eq!(connection.window(), Some(34_000));
    assert_eq!(setup.governor.reductions(), 1);
}

#[test]
fn drops_of_what_was_on_the_way_count_once() {
    let mut setup = Setup::new();
    let connection = Connection::default();
    let _window = setup.governor.govern(connection.clone());
    setup.overflow(&[&connection]);
    for _ in 0..10 {
        setup.drop_some();
        setup.pass(Duration::from_millis(5), &[&connection], 10_000);
    }
    assert_eq!(setup.governor.reductions(), 1);
    // The credit that was given is used up: what overflows now should not have.
    for _ in 0..150 {
        setup.pass(Duration::from_millis(5), &[&connection], 10_000);
    }
    setup.drop_some();
    setup.pass(Duration::from_millis(5), &[&connection], 10_000);
    assert_eq!(connection.window(), Some(2_000 + 22_400));
}

#[test]
fn connections_that_receive_share_and_those_that_do_not_are_free() {
    let mut setup = Setup::new();
    let (one, other, idle) = <(Connection, Connection, Connection)>::default();
    let all = [&one, &other, &idle];
    let _windows = all.map(|connection| setup.governor.govern(connection.clone()));
    for _ in 0..30 {
        setup.pass(Duration::from_millis(50), &[&one, &other], 50_000);
    }
    setup.overflow(&[&one, &other]);
    assert_eq!(one.window(), Some(18_000));
    assert_eq!(other.window(), Some(18_000));
    assert_eq!(idle.window(), None);
}

#[test]
fn a_connection_that_waits_is_let_go() {
    let mut setup = Setup::new();
    let connection = Connection::default();
    let _window = setup.governor.govern(connection.clone());
    setup.overflow(&[&connection]);
    setup.pass(Duration::from_secs(1), &[], 0);
    assert_eq!(connection.window(), Some(WINDOW.into()));
}

#[test]
fn the_window_comes_back_but_not_at_once_to_what_overflowed() {
    let mut setup = Setup::new();
    let connection = Connection::default();
    let _window = setup.governor.govern(connection.clone());
    setup.overflow(&[&connection]);
    // Windows were wide open: twice what should fit is taken for what overflowed.
    for _ in 0..95 {
        setup.pass(Duration::from_millis(100), &[&connection], 100_000);
    }
    let level = 2 * 34_000;
    assert_eq!(setup.governor.limit(), Some(level - level / 8));
    for _ in 0..20 {
        setup.pass(Duration::from_millis(100), &[&connection], 100_000);
    }
    assert!(setup.governor.limit() > Some(level));
    for _ in 0..500 {
        setup.pass(Duration::from_millis(100), &[&connection], 100_000);
    }
    assert_eq!(setup.governor.limit(), None);
    assert_eq!(connection.window(), Some(WINDOW.into()));
}

#[test]
fn without_signals_windows_are_as_configured() {
    type Change = fn(&MockFlow);
    let changes: [Change; 2] = [
        |flow| flow.set(|sample| sample.congestion.live = false),
        |flow| flow.set(|sample| sample.buffers = None),
    ];
    for change in changes {
        let mut setup = Setup::new();
        let connection = Connection::default();
        let _window = setup.governor.govern(connection.clone());
        setup.overflow(&[&connection]);
        change(&setup.flow);
        setup.pass(Duration::from_millis(100), &[&connection], 10_000);
        assert_eq!(connection.window(), Some(WINDOW.into()));
    }
}

#[test]
fn a_source_that_sees_nothing_of_what_arrives_is_not_believed() {
    let mut setup = Setup::new();
    let connection = Connection::default();
    let _window = setup.governor.govern(connection.clone());
    setup.overflow(&[&connection]);
    for _ in 0..12 {
        connection.receive(10_000);
        setup.now += Duration::from_millis(100);
        setup.governor.poll(setup.now);
    }
    assert_eq!(connection.window(), Some(WINDOW.into()));
}

#[test]
fn a_guard_that_is_dropped_lets_the_connection_go() {
    let setup = Setup::new();
    let connection = Connection::default();
    let window = setup.governor.govern(connection.clone());
    assert_eq!(Arc::strong_count(&connection.state), 2);
    drop(window);
    assert_eq!(Arc::strong_count(&connection.state), 1);
}

#[test]
fn on_a_long_path_the_window_stays_above_what_the_path_holds() {
    #[expect(clippy::disallowed_methods, reason = "a zero for virtual time")]
    let start = Instant::now();
    let mut law = ReceiveControl::new(64 << 20);
    let mut signals = ReceiveSignals {
        live: true,
        buffer: Some(212_992),
        ..ReceiveSignals::default()
    };
    let mut progress = ReceiveProgress {
        round_trip: Duration::from_millis(100),
        ..ReceiveProgress::default()
    };
    // 100 MB/s: 10 MB on the path.
    for step in 1..=100u32 {
        progress.received = u64::from(step) * 5_000_000;
        signals.updated = Some(KernelTime::from_nanos(step.into()));
        signals.drops = u64::from(step / 100);
        law.update(
            start + step * Duration::from_millis(50),
            &signals,
            &progress,
        );
    }
    let limit = law.limit().unwrap();
    // With what quinn has not announced yet.
    assert!((10_000_000..11_500_000).contains(&limit), "{limit}");
}

fn signals() -> impl Strategy<Value = ReceiveSignals> {
    (
        prop::bool::weighted(0.9),
        prop::option::of(any::<u64>()),
        prop_oneof![0..50u64, any::<u64>()],
        prop::option::weighted(0.9, any::<u32>()),
        prop::option::of(prop_oneof![0.0..2.0, any::<f64>()]),
    )
        .prop_map(
            |(live, updated, drops, buffer, payload_share)| ReceiveSignals {
                live,
                updated: updated.map(KernelTime::from_nanos),
                drops,
                buffer,
                payload_share,
            },
        )
}

fn progress() -> impl Strategy<Value = ReceiveProgress> {
    let received = prop_oneof![0..1_000_000u64, any::<u64>()];
    (received, 0..1000u64, 0..100_000u64).prop_map(|(received, millis, least)| ReceiveProgress {
        received,
        round_trip: Duration::from_millis(millis),
        least,
    })
}

proptest! {
    #[test]
    fn the_limit_is_below_what_is_configured_and_none_without_signals(
        most in 1..u64::from(u32::MAX),
        steps in prop::collection::vec((0..3000u64, signals(), progress()), 1..100),
    ) {
        #[expect(clippy::disallowed_methods, reason = "a zero for virtual time")]
        let mut now = Instant::now();
        let mut law = ReceiveControl::new(most);
        for (millis, signals, progress) in steps {
            now += Duration::from_millis(millis);
            let before = law.limit();
            let limit = law.update(now, &signals, &progress);
            prop_assert_eq!(limit, law.limit());
            if !signals.live || signals.buffer.is_none() {
                prop_assert_eq!(limit, None);
            }
            if let Some(limit) = limit {
                prop_assert!(limit < most);
                // A reduction never goes below what the connections need.
                if before.is_none_or(|before| limit < before) {
                    prop_assert!(limit >= progress.least);
                }
            }
        }
    }
}
