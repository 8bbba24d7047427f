//! Drives a controller with any sequence of what a connection, a link and a source may do, and
//! checks what must hold whatever they do.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{MockFlow, MockSource, QueueId, QueueSample};
use quinn_proto::congestion::{Controller, ControllerFactory};

use super::link::Link;
use super::{BaseChoice, Op, Rtts};
use crate::law::constants::Tuning;
use crate::{GovernedController, Governor, Governors};

/// Drives a controller over `base` through `ops`. Panics when something that must hold does not:
///
/// - the window is never above base's, and never below two datagrams unless base's is;
/// - behind the cap base does not grow, except that in slow start it may until its window is four
///   times the cap (quinn's BBR is bounded by its own model instead);
/// - a loss that the law has reduced for does not reduce again when it is reported;
/// - once the source is dead, the window becomes base's, and base does step by step what it does
///   without the law, but for the time in which it was not let grow.
pub fn drive(base: BaseChoice, ops: &[Op]) {
    let mut world = World::new(base);
    for op in ops {
        world.apply(op);
        world.check_window();
    }
    world.die();
}

/// Bytes of headers on the wire.
const HEADERS: u64 = 42;

struct World {
    base: BaseChoice,
    source: Arc<MockSource>,
    governor: Arc<Governor>,
    governors: Governors,
    controller: GovernedController,
    mock: MockFlow,
    now: Instant,
    mtu: u64,
    srtt: Duration,
    next_number: u64,
    /// In flight: when sent, and bytes.
    flight: VecDeque<(Instant, u64)>,
    in_flight: u64,
    deaf: bool,
    live: bool,
    /// Datagrams that the kernel will refuse, and whether the socket reports it.
    to_refuse: u64,
    reported: bool,
    link: Link,
    /// The window was under base's since the last acknowledgements.
    capped: bool,
    /// When the law last made base reduce for a local drop or the end of slow start.
    reduced: Option<Instant>,
    reductions: u64,
}

impl World {
    fn new(base: BaseChoice) -> Self {
        let source = Arc::new(MockSource::new());
        let mock = source.add_flow();
        let governors = Governors::builder(Arc::clone(&source) as _)
            .base(base.factory())
            .build()
            .expect("the default configuration is valid");
        let governor = governors.watch(mock.watch());
        let (now, _) = environment();
        let controller = Arc::clone(&governor).build(*now, 1200).into_any();
        let controller = *controller
            .downcast::<GovernedController>()
            .expect("it watches a flow");
        Self {
            base,
            source,
            governor,
            governors,
            controller,
            mock,
            now: *now,
            mtu: 1200,
            srtt: Duration::from_millis(20),
            next_number: 0,
            flight: VecDeque::new(),
            in_flight: 0,
            deaf: false,
            live: true,
            to_refuse: 0,
            reported: false,
            link: Link {
                queue: QueueId::new(0),
                ..Link::default()
            },
            capped: false,
            reduced: None,
            reductions: 0,
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Wait(tenths) => self.now += Duration::from_micros(u64::from(tenths) * 100),
            Op::Send(datagrams) => self.send(u64::from(datagrams)),
            Op::Ack {
                datagrams,
                app_limited,
            } => self.ack(usize::from(datagrams), app_limited),
            Op::Lose {
                datagrams,
                persistent,
            } => self.lose(usize::from(datagrams), persistent),
            Op::Mark => self.mark(),
            Op::Mtu(mtu) => {
                let mtu = mtu.max(1200);
                self.mtu = u64::from(mtu);
                self.controller.on_mtu_update(mtu);
            }
            Op::Migrate => {
                let moved = self.controller.clone_box().into_any();
                self.controller = *moved.downcast().expect("a clone is of the same type");
                self.flight.clear();
                self.in_flight = 0;
                self.capped = false;
            }
            Op::Observe => self.observe(),
            Op::Rebind => self.rebind(),
            Op::Refuse {
                datagrams,
                reported,
            } => {
                self.to_refuse = u64::from(datagrams);
                self.reported = reported;
            }
            Op::SendAck => {
                self.next_number += 1;
                self.controller.on_sent(self.now, 40, self.next_number - 1);
                self.note_reductions();
                self.link.enter(1, 40 + HEADERS);
                self.tell();
            }
            Op::Drain(hundreds) => self.drain(u64::from(hundreds) * 100),
            Op::Others(hundreds) => {
                self.link.others = u64::from(hundreds) * 100;
                self.tell();
            }
            Op::Drop(datagrams) => self.link.to_drop = u64::from(datagrams),
            Op::Limit(hundreds) => {
                self.link.limit = (hundreds > 0).then_some(u64::from(hundreds) * 100);
                self.tell();
            }
            Op::Rule(datagrams) => self.link.to_take = u64::from(datagrams),
            Op::Queue(index) => {
                self.link.queue = QueueId::new(usize::from(index));
                self.link.own = 0;
                self.tell();
            }
            Op::Deaf(deaf) => {
                self.deaf = deaf;
                self.tell();
            }
            Op::Live(live) => {
                self.live = live;
                self.tell();
            }
            Op::Say {
                observed,
                drops,
                policy_drops,
                own,
                shared,
                total,
                drained,
            } => {
                let id = self.link.queue;
                self.mock.set(|sample| {
                    sample.congestion.observed_packets = Some(observed);
                    sample.congestion.queue_drops = Some(drops);
                    sample.congestion.policy_drops = Some(policy_drops);
                    sample.congestion.queue = id.map(|id| {
                        QueueSample::new(id)
                            .with_own(own)
                            .with_shared(shared)
                            .with_total(total)
                            .with_drained(drained)
                    });
                });
            }
        }
    }

    fn base_window(&self) -> u64 {
        self.controller.base().window()
    }

    fn check_window(&mut self) {
        let (window, base) = (self.window(), self.base_window());
        assert!(window <= base, "{window} is over base's {base}");
        assert!(
            window >= base.min(2 * self.mtu),
            "{window} is under two datagrams of {}",
            self.mtu
        );
    }

    fn window(&mut self) -> u64 {
        let window = self.controller.window();
        self.capped |= window < self.base_window();
        window
    }

    fn send(&mut self, up_to: u64) {
        let mut left = up_to;
        while left > 0 {
            let in_flight = self.in_flight;
            let mut batch = 0;
            while batch < left.min(10) && in_flight + (batch + 1) * self.mtu < self.window() {
                batch += 1;
            }
            if batch == 0 {
                break;
            }
            left -= batch;
            self.next_number += batch;
            self.controller
                .on_sent(self.now, batch * self.mtu, self.next_number - 1);
            self.note_reductions();
            for _ in 0..batch {
                self.flight.push_back((self.now, self.mtu));
            }
            self.in_flight += batch * self.mtu;
            let refused = batch.min(self.to_refuse);
            self.to_refuse -= refused;
            if self.reported
                && let Some(governed) = self.governor.governed()
            {
                governed.flow.forget(refused);
            }
            self.link.enter(batch - refused, self.mtu + HEADERS);
            self.tell();
        }
    }

    fn ack(&mut self, datagrams: usize, app_limited: bool) {
        let datagrams = datagrams.min(self.flight.len());
        let window = self.window();
        let before = self.base_window();
        let capped = self.capped;
        let mut acked = 0;
        let (_, rtts) = environment();
        let estimator = *rtts.nearest(self.srtt);
        for (sent, bytes) in self.flight.drain(..datagrams) {
            let rtt = self.now - sent;
            self.srtt = (self.srtt * 7 + rtt) / 8;
            acked += bytes;
            self.in_flight -= bytes;
            self.controller
                .on_ack(self.now, sent, bytes, app_limited, &estimator);
        }
        let in_flight = self.in_flight;
        let largest = self.next_number.checked_sub(1);
        self.controller
            .on_end_acks(self.now, in_flight, app_limited, largest);
        self.note_reductions();
        self.capped = false;
        if capped && self.base != BaseChoice::Bbr {
            // What counts is the cap at the look that came with the acknowledgements: it may find
            // that the sample stands still or that the source is back. An acknowledgement may
            // cross the bound.
            let cap = window.max(self.controller.cap());
            let covered = cap.saturating_mul(Tuning::STANDARD.slow_start_cover);
            let bound = before.max(covered.saturating_add(acked.min(9_000)));
            let after = self.base_window();
            assert!(
                after <= bound,
                "base grew from {before} to {after} behind a cap of {window}"
            );
        }
    }

    fn lose(&mut self, datagrams: usize, persistent: bool) {
        let datagrams = datagrams.min(self.flight.len());
        let lost: Vec<_> = self.flight.drain(..datagrams).collect();
        let Some(&(sent, _)) = lost.last() else {
            return;
        };
        let bytes = lost.iter().map(|(_, bytes)| bytes).sum();
        self.in_flight -= bytes;
        let (before, reductions) = (self.base_window(), self.reductions);
        self.controller
            .on_congestion_event(self.now, sent, persistent, bytes);
        self.note_reductions();
        let known = self.reduced.is_some_and(|reduced| sent <= reduced);
        if known && !persistent && reductions == self.reductions && self.base != BaseChoice::Bbr {
            assert_eq!(self.base_window(), before, "reduced twice for one loss");
        }
    }

    fn mark(&mut self) {
        if let Some(&(sent, _)) = self.flight.back() {
            self.controller
                .on_congestion_event(self.now, sent, false, 0);
            self.note_reductions();
        }
    }

    fn note_reductions(&mut self) {
        let report = self.governor.report();
        let reductions = report.local_drop_reductions + report.slow_start_exits;
        if reductions > self.reductions {
            self.reductions = reductions;
            self.reduced = Some(self.now);
        }
    }

    /// The same connection on another socket, whose flow the source counts from the start.
    /// Observing changes nothing.
    fn observe(&mut self) {
        let (window, before) = (self.controller.window(), self.governor.report());
        let metrics = self.controller.metrics();
        assert_eq!(metrics.congestion_window, window);
        let copy = self.controller.clone_box();
        assert!(copy.window() <= copy.metrics().congestion_window);
        drop(copy);
        assert_eq!(self.governor.report(), before);
        assert_eq!(self.controller.window(), window);
    }

    fn rebind(&mut self) {
        self.mock = self.source.add_flow();
        self.link.rebind();
        self.tell();
        self.governor = self.governors.watch(self.mock.watch());
        // Its report begins with the new flow.
        self.reductions = 0;
        let governed = self.governor.governed().expect("it watches a flow");
        self.controller.move_to(self.now, Arc::clone(governed));
    }

    fn drain(&mut self, bytes: u64) {
        self.link.drain(bytes);
        self.tell();
    }

    fn tell(&mut self) {
        if self.deaf {
            return;
        }
        let (link, live) = (self.link, self.live);
        self.mock.set(|sample| {
            sample.congestion.live = live;
            sample.congestion.observed_packets = Some(link.observed);
            sample.congestion.queue_drops = Some(link.drops);
            sample.congestion.policy_drops = Some(link.taken);
            sample.congestion.queue = link.queue.map(|id| {
                QueueSample::new(id)
                    .with_own(link.own)
                    .with_shared(link.own)
                    .with_total(link.own + link.others)
                    .with_drained(link.drained)
                    .with_limit(link.limit)
            });
        });
    }

    /// The source dies; what then happens must be what happens without the law.
    fn die(&mut self) {
        (self.deaf, self.live) = (false, false);
        self.tell();
        // A cap that is being let go may already be over a base that has yet to grow: base decides
        // alone when it has been over it for as long as letting go takes at most.
        let (mut rounds, mut free) = (0, 0);
        while free < 24 {
            self.now += self.srtt.max(Duration::from_millis(20));
            self.ack(usize::MAX, false);
            free = if self.window() == self.base_window() {
                free + 1
            } else {
                0
            };
            rounds += 1;
            assert!(rounds < 200, "the cap is never let go");
            self.send(1000);
        }
        self.ack(usize::MAX, false);

        let mut twin = self.controller.base().clone_box();
        let (_, rtts) = environment();
        let estimator = *rtts.nearest(Duration::from_millis(20));
        for round in 0..40 {
            let sent = self.now;
            self.next_number += 10;
            let (bytes, number) = (10 * self.mtu, self.next_number - 1);
            self.controller.on_sent(sent, bytes, number);
            let sent_at = self.controller.base_time(sent);
            twin.on_sent(sent_at, bytes, number);
            self.now += Duration::from_millis(20);
            let now = self.now;
            if round % 16 == 7 {
                self.controller.on_congestion_event(now, sent, false, bytes);
                let time = self.controller.base_time(now);
                twin.on_congestion_event(time, time, false, bytes);
            } else {
                for _ in 0..10 {
                    self.controller
                        .on_ack(now, sent, self.mtu, false, &estimator);
                    let time = self.controller.base_time(now);
                    let sent_at = self.controller.base_time(sent);
                    twin.on_ack(time, sent_at, self.mtu, false, &estimator);
                }
                self.controller.on_end_acks(now, 0, false, Some(number));
                twin.on_end_acks(self.controller.base_time(now), 0, false, Some(number));
            }
            assert_eq!(self.controller.window(), twin.window(), "round {round}");
        }
        assert!(self.governors.report().controllers >= 1);
    }
}

/// Time zero and the estimators, made once.
fn environment() -> &'static (Instant, Rtts) {
    static ENVIRONMENT: OnceLock<(Instant, Rtts)> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        #[expect(clippy::disallowed_methods, reason = "a zero for virtual time")]
        let now = Instant::now();
        (now, Rtts::new(now))
    })
}
