//! When the cap ends, and when its limit is too small.

use super::*;
use crate::law::standing::Competing;

#[test]
fn a_queue_that_ran_empty_after_the_limit_limited_sending_needs_a_higher_limit() {
    let mut scene = Scene::new();
    scene.engage(4_900);
    scene.queue().drained = 1;
    assert!(!scene.sample_at_acks().ran_empty, "sending was not limited");
    scene.effects.limited_at = Some(1);
    assert!(
        !scene.sample_at_acks().ran_empty,
        "it did not run dry since"
    );
    scene.queue().drained = 2;
    assert!(scene.sample_at_acks().ran_empty);

    let (base, effects) = (scene.base, scene.effects);
    let occasion = Occasion::Acks { app_limited: true };
    let decision = scene
        .law
        .on_sample(scene.now, &scene.signals, base, effects, occasion);
    assert!(!decision.ran_empty, "the application had nothing to send");
}

#[test]
fn the_cap_is_released_when_it_limited_nothing_for_two_round_trips_and_the_queue_ran_empty() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.backlog(0);
    scene.queue().drained = 1;
    scene.wait(RTT);
    scene.sample();
    assert_eq!(scene.law.mode, Mode::Engaged);
    scene.wait(RTT * 2);
    scene.sample();
    assert!(matches!(scene.law.mode, Mode::Releasing { .. }));
    assert_eq!(scene.window().window, 120_000, "base would burst");
    scene.base.window = 120_000;
    scene.sample();
    assert!(scene.law.is_free());
}

#[test]
fn the_cap_ends_at_once_when_the_application_limits_sending() {
    let mut scene = unused();
    scene.sample_at_acks_of(true);
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
fn the_cap_stays_for_some_time_after_an_overflow() {
    let mut scene = unused();
    scene.send(1);
    scene.signals.drops = 1;
    scene.sample();
    scene.queue().drained = 2;
    scene.wait(Duration::from_millis(9_999));
    scene.sample();
    assert_eq!(scene.law.mode, Mode::Engaged);
    scene.wait(MS);
    scene.sample();
    assert_ne!(scene.law.mode, Mode::Engaged);
}

#[test]
fn the_flight_grows_by_a_sixteenth_a_round_trip_where_the_queue_is_empty() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.wait(RTT);
    scene.sample();
    scene.backlog(0);
    scene.law.in_flight = 135_000;
    // 120,000 were in flight with 3,000 of them in the queue; and the limit.
    assert_eq!(scene.window().window, 117_000 * 17 / 16 + 5_000);
    scene.base.slow_start = true;
    scene.sample();
    assert_eq!(scene.law.cap, 135_000 + 5_000);
}

#[test]
fn after_a_pause_a_sender_regains_its_part_beside_others() {
    let mut scene = Scene::new();
    // It knows then that the queue runs empty from time to time.
    scene.sample();
    scene.wait(Duration::from_millis(200));
    scene.engage(3_000);
    scene.sample_at_acks_of(true);
    scene.law.in_flight = 0;
    scene.backlog(0);
    scene.queue().total = 60_000;
    scene.sample();
    assert_eq!(scene.window().window, 120_000, "with its part of the queue");
    scene.law.in_flight = 120_000;
    scene.sample();
    assert_eq!(scene.window().window, 120_000 + 5_000, "the limit");
}

#[test]
fn a_new_sender_matches_others_before_the_queue_is_known_not_to_run_empty() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.queue().total = 63_000;
    scene.sample();
    let in_flight = scene.law.in_flight;
    let others = 60_000;
    let matched = others - others / 8;
    assert_eq!(scene.law.cap, in_flight + matched - 3_000);
    scene.wait(Duration::from_millis(200));
    scene.queue().drained += 1;
    scene.sample();
    assert_eq!(scene.law.competing.state(), Competing::No);
}

#[test]
fn only_an_overflow_within_the_limit_halves_it() {
    let mut scene = Scene::new();
    scene.engage(4_000);
    scene.signals.drops = 1;
    assert!(scene.sample().overflowed);
    scene.backlog(30_000);
    scene.sample();
    scene.signals.drops = 2;
    assert!(!scene.sample().overflowed, "left from before");
}

#[test]
fn the_cap_waits_for_the_first_acknowledgement_after_a_pause() {
    let mut scene = Scene::new();
    scene.law.in_flight = 0;
    scene.send(100);
    scene.backlog(30_000);
    for _ in 0..20 {
        scene.sample();
        scene.wait(MS);
    }
    assert_eq!(scene.law.mode, Mode::Free, "nothing would wake the sender");
    scene.law.end_acks(100 * MTU);
    scene.sample();
    assert_eq!(scene.law.mode, Mode::Engaged);
}

#[test]
fn a_sender_that_paused_starts_again_with_bases_window() {
    let mut scene = with_nothing_in_flight(true);
    // Not while others of this process want to send.
    scene.queue().others_share = 1;
    scene.sample();
    assert_eq!(scene.law.mode, Mode::Engaged);
    scene.queue().others_share = 0;
    scene.sample();
    assert_eq!(scene.window().window, 200_000);
}

#[test]
fn refilling_after_a_pause_ends_when_no_other_datagram_fits() {
    let mut scene = with_nothing_in_flight(true);
    scene.sample();
    assert_eq!(scene.law.min_in_flight, 100 * MTU);
    // More than the limit, and no more than bursts of the pacer.
    scene.backlog(18_000);
    scene.law.in_flight = 99 * MTU - 1;
    scene.sample();
    assert_eq!(scene.law.min_in_flight, 100 * MTU);
    scene.law.in_flight += 1;
    scene.sample();
    assert_eq!(scene.law.min_in_flight, 0);
}

#[test]
fn a_sender_whose_processor_stalled_does_not_burst() {
    let mut scene = with_nothing_in_flight(false);
    scene.sample();
    assert_eq!(scene.law.mode, Mode::Engaged);
    let window = scene.window().window;
    assert!(window < 100 * MTU, "{window}");
}

/// The cap held something back; then all was acknowledged, and the queue ran empty.
fn with_nothing_in_flight(app_limited: bool) -> Scene {
    let mut scene = Scene::new();
    scene.engage(4_900);
    scene.effects.limited_at = Some(0);
    scene.sample_at_acks_of(app_limited);
    scene.law.in_flight = 0;
    scene.backlog(0);
    scene.queue().drained = 1;
    scene.effects = CapEffects::default();
    scene
}

#[test]
fn a_new_path_is_not_filled_with_what_the_old_one_held() {
    let mut scene = Scene::new();
    scene.engage(4_900);
    scene.law.in_flight = 60_000;
    scene.backlog(0);
    scene.sample_at_acks();
    assert!(scene.law.min_in_flight > 100_000, "the pause left a gap");
    scene.law = scene.law.for_new_path();
    scene.sample();
    assert!(scene.window().window < 20 * MTU, "{:?}", scene.window());
}
