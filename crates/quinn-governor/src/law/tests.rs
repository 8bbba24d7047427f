use super::*;

const MTU: u64 = 1200;
const MS: Duration = Duration::from_millis(1);
const RTT: Duration = Duration::from_millis(20);

const QUEUE: QueueSignals = QueueSignals {
    id: 0,
    own: 0,
    own_flow: 0,
    shared: 0,
    total: 0,
    drained: 0,
    limit: 5_000,
    others_share: 0,
    mean_rate: 0,
};

/// A law, the signals it sees and a clock.
struct Scene {
    law: Law,
    signals: Signals,
    now: Instant,
    base: Base,
    marks: Marks,
    sent: u64,
}

impl Scene {
    /// A connection with 100 datagrams in flight and a round trip of 20 ms, in congestion
    /// avoidance.
    fn new() -> Self {
        Self::with(GovernorConfig::default(), BaseKind::LossBased)
    }

    fn with(config: GovernorConfig, kind: BaseKind) -> Self {
        let signals = Signals {
            live: true,
            observed: 0,
            drops: 0,
            queue: Some(QUEUE),
        };
        #[expect(clippy::disallowed_methods, reason = "a zero for virtual time")]
        let now = Instant::now();
        let mut scene = Self {
            law: Law::new(config, kind, 1200, &signals),
            signals,
            now,
            base: Base {
                window: 200_000,
                slow_start: false,
            },
            marks: Marks::default(),
            sent: 0,
        };
        scene.law.srtt = RTT;
        scene.send(100);
        scene.law.end_acks(scene.now, 100 * MTU, scene.base);
        scene
    }

    fn queue(&mut self) -> &mut QueueSignals {
        self.signals.queue.get_or_insert(QUEUE)
    }

    /// This flow alone keeps so much in the queue.
    fn backlog(&mut self, bytes: u64) {
        let queue = self.queue();
        (queue.own, queue.own_flow, queue.shared, queue.total) = (bytes, bytes, bytes, bytes);
    }

    fn look(&mut self) -> Decision {
        let (base, marks) = (self.base, self.marks);
        self.law
            .look(self.now, &self.signals, base, marks, Occasion::Other)
    }

    fn look_at_acks(&mut self) -> Decision {
        let (base, marks) = (self.base, self.marks);
        let occasion = Occasion::Acks { app_limited: false };
        self.law
            .look(self.now, &self.signals, base, marks, occasion)
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// Sends datagrams, which the source observes at once.
    fn send(&mut self, datagrams: u64) {
        self.send_unobserved(datagrams);
        self.signals.observed = self.sent;
    }

    fn send_unobserved(&mut self, datagrams: u64) {
        self.look();
        self.sent += datagrams;
        self.law
            .on_sent(self.now, datagrams * MTU, self.sent, self.base);
    }

    fn ack(&mut self, datagrams: u64, sent: Instant) {
        self.look_at_acks();
        for _ in 0..datagrams {
            self.law.on_ack(self.now, sent, MTU, RTT);
        }
        let in_flight = self.law.in_flight;
        self.law.end_acks(self.now, in_flight, self.base);
    }

    fn window(&self) -> Verdict {
        self.law.window(self.base.window, &self.signals)
    }

    /// The queue stands until the law is in force.
    fn engage(&mut self, backlog: u64) {
        self.backlog(backlog);
        for _ in 0..6 {
            self.look();
            self.wait(MS);
        }
        assert_eq!(self.law.mode, Mode::Engaged);
    }
}

#[test]
fn without_a_standing_queue_the_window_is_bases() {
    let mut scene = Scene::new();
    for drained in 0..100 {
        // A burst passes, and the queue runs empty.
        scene.backlog(20_000);
        scene.look();
        scene.wait(MS);
        scene.backlog(0);
        scene.queue().drained = drained;
        scene.look();
        scene.wait(MS);
        assert_eq!(scene.window().window, 200_000);
    }
}

#[test]
fn a_burst_that_is_being_sent_off_is_no_standing_queue() {
    let mut scene = Scene::new();
    for left in (1..20).rev() {
        scene.backlog(left * 1000);
        scene.look();
        scene.wait(MS);
    }
    assert_eq!(scene.law.mode, Mode::Free);
}

#[test]
fn a_standing_queue_is_filled_up_to_its_limit_and_no_further() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    let verdict = scene.window();
    assert_eq!(verdict.window, 120_000 + 2_000);
    assert!(verdict.capped && !verdict.held);

    scene.backlog(4_900);
    let verdict = scene.window();
    assert_eq!(verdict.window, 120_000 + 100);
    assert!(verdict.held);
    assert_eq!(verdict.held_by_limit, Some(0));
}

#[test]
fn the_window_is_never_above_bases_nor_under_the_least() {
    let mut scene = Scene::new();
    scene.engage(30_000);
    scene.base.window = 100_000;
    assert_eq!(scene.window().window, 100_000);
    scene.base.window = 200_000;
    scene.law.in_flight = 0;
    assert_eq!(scene.window().window, 4 * MTU);
    scene.base.window = 3 * MTU;
    assert_eq!(scene.window().window, 3 * MTU);
}

#[test]
fn a_drop_engages_at_once_and_reduces_once_a_round_trip() {
    let mut scene = Scene::new();
    scene.backlog(50_000);
    scene.signals.drops = 3;
    assert!(scene.look().local_drop);
    scene.law.on_local_reduction(scene.now);
    assert_eq!(scene.law.mode, Mode::Engaged);

    scene.wait(RTT / 2);
    scene.signals.drops = 4;
    assert!(!scene.look().local_drop);
    scene.wait(RTT);
    assert!(!scene.look().local_drop, "nothing new was dropped");
    scene.signals.drops = 5;
    assert!(scene.look().local_drop);
}

#[test]
fn drops_before_the_controller_was_built_are_not_its_own() {
    let mut scene = Scene::new();
    scene.signals.drops = 100;
    let signals = scene.signals;
    scene.law = Law::new(
        GovernorConfig::default(),
        BaseKind::LossBased,
        1200,
        &signals,
    );
    assert!(!scene.look().local_drop);
}

#[test]
fn the_report_of_a_loss_that_was_answered_is_withheld() {
    let mut scene = Scene::new();
    let before = scene.now;
    scene.wait(MS);
    scene.law.on_local_reduction(scene.now);
    let reduced = scene.now;
    scene.wait(RTT);
    let report = |sent, persistent, lost_bytes| Report {
        sent,
        persistent,
        lost_bytes,
    };
    let mut passes = |report| scene.law.on_report(scene.now, &report);
    assert!(!passes(report(before, false, MTU)));
    assert!(!passes(report(reduced, false, MTU)));
    assert!(
        passes(report(before, true, MTU)),
        "persistent congestion is more"
    );
    assert!(
        passes(report(before, false, 0)),
        "a mark comes from the path"
    );
    assert!(passes(report(reduced + MS, false, MTU)), "a later loss");
}

#[test]
fn base_does_not_grow_behind_the_cap() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.marks.capped = true;
    scene.look_at_acks();
    assert!(scene.law.hides_growth(scene.base));

    // Not capped: in flight is base's window.
    scene.base.window = 121_000;
    scene.marks.capped = false;
    scene.look_at_acks();
    assert!(!scene.law.hides_growth(scene.base));

    // Capped at any time since the last acknowledgements is capped.
    scene.marks.capped = true;
    scene.look_at_acks();
    assert!(scene.law.hides_growth(scene.base));
}

#[test]
fn slow_start_goes_on_until_base_covers_the_cap_twice() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.base = Base {
        window: 200_000,
        slow_start: true,
    };
    scene.marks.capped = true;
    // The cap is 122,000 now.
    scene.look_at_acks();
    assert!(!scene.law.hides_growth(scene.base));
    scene.base.window = 244_000;
    assert!(scene.law.hides_growth(scene.base));
}

#[test]
fn slow_start_ends_when_the_queue_stood_and_the_flight_did_not_grow_for_a_round_trip() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.base = Base {
        window: 250_000,
        slow_start: true,
    };
    scene.marks.capped = true;
    let mut rounds = 0;
    let mut datagrams = 100;
    loop {
        rounds += 1;
        scene.wait(RTT + MS);
        scene.look_at_acks();
        if rounds < 5 {
            // It still grows by a third in each round trip.
            datagrams = datagrams * 4 / 3;
            scene.base.window = datagrams * MTU * 3;
        }
        let ends = scene.law.end_acks(scene.now, datagrams * MTU, scene.base);
        if ends {
            break;
        }
        assert!(rounds < 20);
    }
    assert_eq!(rounds, 5);

    // Not while the queue runs empty now and then.
    scene.queue().drained += 1;
    scene.wait(RTT);
    scene.look_at_acks();
    assert!(!scene.law.end_acks(scene.now, 200 * MTU, scene.base));
}

#[test]
fn a_base_that_models_the_path_is_only_capped() {
    let mut scene = Scene::with(GovernorConfig::default(), BaseKind::ModelBased);
    scene.engage(3_000);
    scene.marks.capped = true;
    scene.signals.drops = 1;
    assert!(!scene.look_at_acks().local_drop);
    assert!(!scene.law.hides_growth(scene.base));
    assert!(scene.window().capped);
    let report = Report {
        sent: scene.now,
        persistent: false,
        lost_bytes: MTU,
    };
    assert!(scene.law.on_report(scene.now, &report));
}

#[test]
fn a_queue_that_ran_dry_after_the_limit_held_something_back_asks_for_more() {
    let mut scene = Scene::new();
    scene.engage(4_900);
    scene.queue().drained = 1;
    assert!(!scene.look_at_acks().ran_dry, "nothing was held back");
    scene.marks.held = true;
    scene.marks.held_by_limit = Some(1);
    assert!(!scene.look_at_acks().ran_dry, "it did not run dry since");
    scene.queue().drained = 2;
    assert!(scene.look_at_acks().ran_dry);

    let (base, marks) = (scene.base, scene.marks);
    let occasion = Occasion::Acks { app_limited: true };
    let decision = scene
        .law
        .look(scene.now, &scene.signals, base, marks, occasion);
    assert!(!decision.ran_dry, "the application had nothing to send");
}

#[test]
fn the_cap_goes_when_it_held_nothing_back_for_two_round_trips_and_the_queue_ran_empty() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.backlog(0);
    scene.queue().drained = 1;
    scene.wait(RTT);
    scene.look();
    assert_eq!(scene.law.mode, Mode::Engaged);
    scene.wait(RTT * 2);
    scene.look();
    assert_eq!(scene.law.mode, Mode::Free);
    assert_eq!(scene.window().window, 200_000);
}

#[test]
fn the_cap_waits_for_the_first_acknowledgement_after_a_pause() {
    let mut scene = Scene::new();
    scene.law.in_flight = 0;
    scene.send(100);
    scene.backlog(30_000);
    for _ in 0..20 {
        scene.look();
        scene.wait(MS);
    }
    assert_eq!(scene.law.mode, Mode::Free, "nothing would wake the sender");
    scene.law.end_acks(scene.now, 100 * MTU, scene.base);
    scene.look();
    assert_eq!(scene.law.mode, Mode::Engaged);
}

#[test]
fn a_sender_that_paused_starts_again_with_bases_window() {
    let mut scene = Scene::new();
    scene.engage(4_900);
    scene.marks.held = true;
    scene.marks.held_by_limit = Some(0);
    scene.look_at_acks();
    scene.law.in_flight = 0;
    scene.backlog(0);
    scene.queue().drained = 1;
    // Not while others of this process want to send.
    scene.queue().others_share = 1;
    scene.marks = Marks::default();
    scene.look();
    assert_eq!(scene.law.mode, Mode::Engaged);
    scene.queue().others_share = 0;
    scene.look();
    assert_eq!(scene.window().window, 200_000);
}

#[test]
fn a_source_that_stopped_lets_the_cap_go_in_step_with_acknowledgements() {
    let mut scene = Scene::new();
    scene.engage(4_900);
    scene.signals.live = false;
    assert_eq!(scene.window().window, 120_100, "until the law has the time");
    assert!(scene.look().went_blind);
    assert_eq!(scene.window().window, 120_000);
    let sent = scene.now;
    scene.wait(RTT);
    scene.ack(50, sent);
    assert_eq!(scene.window().window, 180_000);
    assert!(scene.law.hides_growth(scene.base));
    scene.ack(50, sent);
    scene.look();
    assert!(scene.law.is_free());

    // And it governs again when the source is back.
    scene.signals.live = true;
    scene.engage(4_900);
}

#[test]
fn an_acknowledged_datagram_that_was_never_observed_proves_the_source_blind() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.look();
    scene.send_unobserved(1);
    let sent = scene.now;
    scene.wait(RTT);
    scene.ack(1, sent);
    assert!(scene.look().went_blind);

    // One packet observed, and it is believed again.
    scene.signals.observed += 1;
    scene.look();
    assert!(scene.law.trusted);
}

#[test]
fn sends_that_stay_unobserved_prove_it_without_acknowledgements() {
    let mut scene = Scene::new();
    scene.send_unobserved(1);
    scene.wait(MS * 50);
    scene.send_unobserved(1);
    assert!(!scene.look().went_blind);
    scene.wait(MS * 50);
    scene.send_unobserved(1);
    assert!(scene.look().went_blind);
}

#[test]
fn a_sender_that_waits_proves_nothing() {
    let mut scene = Scene::new();
    scene.send_unobserved(1);
    scene.wait(Duration::from_secs(10));
    assert!(!scene.look().went_blind);
}

#[test]
fn more_of_the_flow_than_of_everybody_is_a_contradiction() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    // A packet in one gauge and not yet in the other.
    scene.queue().own_flow = 5_000;
    assert!(!scene.look().went_blind);
    scene.wait(MS * 11);
    assert!(scene.look().went_blind, "but not for long");

    let mut scene = Scene::new();
    scene.queue().own_flow = 100_000;
    assert!(scene.look().went_blind);
    // Not believed for a while, then again.
    scene.queue().own_flow = 0;
    scene.wait(MS * 99);
    scene.look();
    assert!(!scene.law.trusted);
    scene.wait(MS);
    scene.look();
    assert!(scene.law.trusted);
}

#[test]
fn counters_that_go_back_are_a_contradiction() {
    type Change = fn(&mut Signals);
    let changes: [Change; 3] = [
        |signals| signals.observed -= 1,
        |signals| signals.drops -= 1,
        |signals| {
            if let Some(queue) = &mut signals.queue {
                queue.drained -= 1;
            }
        },
    ];
    for change in changes {
        let mut scene = Scene::new();
        scene.signals.observed = 1000;
        scene.signals.drops = 5;
        scene.queue().drained = 5;
        scene.look();
        change(&mut scene.signals);
        assert!(scene.look().went_blind);
    }

    // Another queue has its own counter.
    let mut scene = Scene::new();
    scene.queue().drained = 5;
    scene.look();
    (scene.queue().id, scene.queue().drained) = (1, 0);
    assert!(!scene.look().went_blind);
}

#[test]
fn batches_that_are_observed_too_late_three_times_in_a_row_are_not_believed() {
    let mut scene = Scene::new();
    let late = |scene: &mut Scene| {
        scene.send_unobserved(1);
        scene.wait(RTT / 2 + MS);
        let blind = scene.look().went_blind;
        scene.signals.observed = scene.sent;
        blind
    };
    assert!(!late(&mut scene));
    assert!(!late(&mut scene));
    assert!(late(&mut scene));
    scene.send(1);
    scene.look();
    assert!(scene.law.trusted, "one in time is enough");
}

#[test]
fn a_sample_that_stands_still_does_not_let_the_flight_shrink() {
    let mut scene = Scene::new();
    scene.engage(5_000);
    let sent = scene.now;
    scene.look();
    scene.ack(20, sent);
    assert_eq!(scene.window().window, 96_000);
    scene.wait(MS * 11);
    scene.look();
    assert_eq!(scene.window().window, 120_000);
    // It moves again.
    scene.backlog(4_990);
    scene.look();
    assert_eq!(scene.window().window, 96_010);
}

#[test]
fn without_a_queue_there_is_no_cap_but_drops_count() {
    let mut scene = Scene::new();
    scene.signals.queue = None;
    for _ in 0..20 {
        scene.wait(MS);
        scene.look();
    }
    assert!(scene.law.is_free());
    scene.signals.drops = 1;
    assert!(scene.look().local_drop);
    assert!(scene.law.is_free());
}

#[test]
fn each_part_can_be_switched_off() {
    let mut config = GovernorConfig::default();
    config.backlog_cap(false);
    let mut scene = Scene::with(config, BaseKind::LossBased);
    scene.backlog(100_000);
    for _ in 0..20 {
        scene.wait(MS);
        scene.look();
    }
    assert!(scene.law.is_free());

    let mut config = GovernorConfig::default();
    config.local_drops(false);
    let mut scene = Scene::with(config, BaseKind::LossBased);
    scene.signals.drops = 1;
    assert!(!scene.look().local_drop);

    let mut config = GovernorConfig::default();
    config.slow_start_exit(false);
    let mut scene = Scene::with(config, BaseKind::LossBased);
    scene.engage(3_000);
    scene.base.slow_start = true;
    scene.marks.capped = true;
    scene.look_at_acks();
    assert!(scene.law.hides_growth(scene.base));
}

#[test]
fn another_controller_that_is_held_back_here_is_reason_enough() {
    let mut scene = Scene::new();
    scene.queue().others_share = 1;
    scene.look();
    assert_eq!(scene.law.mode, Mode::Engaged);
    assert_eq!(scene.window().window, 120_000 + 2_500);
}

#[test]
fn acknowledgements_alone_do_not_count_as_in_flight_without_bound() {
    let mut scene = Scene::new();
    for _ in 0..1_000_000 {
        scene.law.on_sent(scene.now, 40, scene.sent, scene.base);
    }
    assert_eq!(scene.law.in_flight, scene.base.window);
}
