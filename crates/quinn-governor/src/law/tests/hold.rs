//! When the cap ends, and when its limit is too small.

use super::*;

#[test]
fn a_queue_that_ran_dry_after_the_limit_held_something_back_asks_for_more() {
    let mut scene = Scene::new();
    scene.engage(4_900);
    scene.queue().drained = 1;
    assert!(!scene.look_at_acks().ran_dry, "nothing was held back");
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
fn the_cap_is_let_go_when_it_held_nothing_back_for_two_round_trips_and_the_queue_ran_empty() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.backlog(0);
    scene.queue().drained = 1;
    scene.wait(RTT);
    scene.look();
    assert_eq!(scene.law.mode, Mode::Engaged);
    scene.wait(RTT * 2);
    scene.look();
    assert!(matches!(scene.law.mode, Mode::Releasing { .. }));
    assert_eq!(scene.window().window, 120_000, "base would burst");
    scene.base.window = 120_000;
    scene.look();
    assert!(scene.law.is_free());
}

#[test]
fn the_cap_ends_at_once_when_the_application_limits_sending() {
    let mut scene = unused();
    scene.look_at_acks_of(true);
    assert!(scene.law.is_free());
    assert_eq!(scene.window().window, 200_000);
}

/// Engaged, and nothing was held back for three round trips, in which the queue ran empty.
fn unused() -> Scene {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.backlog(0);
    scene.queue().drained = 1;
    scene.wait(RTT * 3);
    scene
}

#[test]
fn the_cap_goes_on_while_an_overflow_is_remembered() {
    let mut scene = unused();
    scene.send(1);
    scene.signals.drops = 1;
    scene.look();
    scene.queue().drained = 2;
    scene.wait(Duration::from_millis(9_999));
    scene.look();
    assert_eq!(scene.law.mode, Mode::Engaged);
    scene.wait(MS);
    scene.look();
    assert_ne!(scene.law.mode, Mode::Engaged);
}

#[test]
fn the_flight_grows_by_a_sixteenth_a_round_trip_where_the_queue_is_empty() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.wait(RTT);
    scene.look();
    scene.backlog(0);
    scene.law.in_flight = 135_000;
    // 120,000 were in flight with 3,000 of them in the queue; and the limit.
    assert_eq!(scene.window().window, 117_000 * 17 / 16 + 5_000);
    scene.base.slow_start = true;
    scene.look();
    assert_eq!(scene.law.cap, 135_000 + 5_000);
}

#[test]
fn after_a_pause_a_sender_gets_its_part_back_from_others() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.look_at_acks_of(true);
    scene.law.in_flight = 0;
    scene.backlog(0);
    scene.queue().total = 60_000;
    scene.look();
    assert_eq!(scene.window().window, 120_000, "with its part of the queue");
    scene.law.in_flight = 120_000;
    scene.look();
    assert_eq!(scene.window().window, 120_000 + 5_000, "the limit");
}

#[test]
fn the_limit_is_to_blame_only_for_what_overflows_within_it() {
    let mut scene = Scene::new();
    scene.engage(4_000);
    scene.signals.drops = 1;
    assert!(scene.look().overflowed);
    scene.backlog(30_000);
    scene.look();
    scene.signals.drops = 2;
    assert!(!scene.look().overflowed, "left from before");
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
    scene.law.end_acks(100 * MTU);
    scene.look();
    assert_eq!(scene.law.mode, Mode::Engaged);
}

#[test]
fn a_sender_that_paused_starts_again_with_bases_window() {
    let mut scene = with_nothing_in_flight(true);
    // Not while others of this process want to send.
    scene.queue().others_share = 1;
    scene.look();
    assert_eq!(scene.law.mode, Mode::Engaged);
    scene.queue().others_share = 0;
    scene.look();
    assert_eq!(scene.window().window, 200_000);
}

#[test]
fn a_pause_is_made_up_for_when_no_other_datagram_fits() {
    let mut scene = with_nothing_in_flight(true);
    scene.look();
    assert_eq!(scene.law.kept_in_flight, 100 * MTU);
    // More than the limit, and no more than bursts of the pacer.
    scene.backlog(18_000);
    scene.law.in_flight = 99 * MTU - 1;
    scene.look();
    assert_eq!(scene.law.kept_in_flight, 100 * MTU);
    scene.law.in_flight += 1;
    scene.look();
    assert_eq!(scene.law.kept_in_flight, 0);
}

#[test]
fn a_sender_whose_processor_was_away_does_not_burst() {
    let mut scene = with_nothing_in_flight(false);
    scene.look();
    assert_eq!(scene.law.mode, Mode::Engaged);
    let window = scene.window().window;
    assert!(window < 100 * MTU, "{window}");
}

/// The cap held something back; then all was acknowledged, and the queue ran empty.
fn with_nothing_in_flight(app_limited: bool) -> Scene {
    let mut scene = Scene::new();
    scene.engage(4_900);
    scene.marks.held_by_limit = Some(0);
    scene.look_at_acks_of(app_limited);
    scene.law.in_flight = 0;
    scene.backlog(0);
    scene.queue().drained = 1;
    scene.marks = Marks::default();
    scene
}

#[test]
fn a_new_path_is_not_filled_with_what_the_old_one_held() {
    let mut scene = Scene::new();
    scene.engage(4_900);
    scene.law.in_flight = 60_000;
    scene.backlog(0);
    scene.look_at_acks();
    assert!(scene.law.kept_in_flight > 100_000, "the pause left a hole");
    scene.law = scene.law.for_new_path();
    scene.look();
    assert!(scene.window().window < 20 * MTU, "{:?}", scene.window());
}
