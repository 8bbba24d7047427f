//! The window, and when it is capped.

use super::*;

#[test]
fn without_a_standing_queue_the_window_is_bases() {
    let mut scene = Scene::new();
    for drained in 0..100 {
        // A burst passes, and the queue runs empty.
        scene.backlog(20_000);
        scene.sample();
        scene.wait(MS);
        scene.backlog(0);
        scene.queue().drained = drained;
        scene.sample();
        scene.wait(MS);
        assert_eq!(scene.window().window, 200_000);
    }
}

#[test]
fn a_burst_that_drains_is_no_standing_queue() {
    let mut scene = Scene::new();
    for left in (1..20).rev() {
        scene.backlog(left * 1000);
        scene.sample();
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
    assert!(verdict.capped && verdict.limited_at.is_none());

    scene.backlog(4_900);
    let verdict = scene.window();
    assert_eq!(verdict.window, 120_000 + 100);
    assert_eq!(verdict.limited_at, Some(0));
}

#[test]
fn a_queue_that_others_filled_gets_only_what_it_has_room_for() {
    let mut scene = Scene::new();
    scene.queue().total = 148_000;
    scene.queue().room = Some(2 * (MTU + 62));
    scene.sample();
    assert_eq!(scene.law.mode, Mode::Engaged, "more than half full");
    // The limit would be more, and what matches the others far more.
    let verdict = scene.window();
    assert_eq!(verdict.window, 120_000 + 2 * MTU);
    assert_eq!(verdict.limited_at, None, "no reason to raise the limit");
    scene.queue().room = Some(0);
    assert_eq!(scene.window().window, 120_000);

    // What is so full all the time does not starve it.
    scene.law.in_flight = 0;
    assert_eq!(scene.window().window, 4 * MTU);
}

#[test]
fn the_window_is_never_above_bases_nor_below_the_least() {
    let mut scene = Scene::new();
    scene.engage(30_000);
    scene.base.window = 100_000;
    assert_eq!(scene.window().window, 100_000);
    scene.base.window = 200_000;
    // The sample moved just now.
    scene.backlog(29_000);
    scene.sample();
    scene.law.in_flight = 0;
    assert_eq!(scene.window().window, 4 * MTU);
    scene.base.window = 3 * MTU;
    assert_eq!(scene.window().window, 3 * MTU);
}

#[test]
fn a_batch_is_bounded_but_not_what_follows_at_once() {
    let mut scene = Scene::new();
    scene.queue().limit = 50_000;
    scene.engage(3_000);
    // A millisecond of 120,000 bytes in 20 ms.
    let verdict = scene.window();
    assert_eq!(verdict.window, 120_000 + 6_000 + 1);
    assert_eq!(verdict.limited_at, None);
    scene.send(5);
    assert_eq!(scene.window().window, 126_000 + 6_300 + 1);
}

#[test]
fn after_a_firewall_drop_batches_are_not_split_for_some_time() {
    let mut scene = Scene::new();
    scene.queue().limit = 50_000;
    scene.engage(3_000);
    scene.signals.policy_drops = 1;
    let decision = scene.sample();
    assert!(!decision.local_drop, "that is no congestion");
    assert_eq!(scene.window().window, 120_000 + 47_000);
    scene.wait(Duration::from_secs(10));
    scene.sample();
    assert_eq!(scene.window().window, 120_000 + 6_000 + 1);
}

#[test]
fn without_a_queue_there_is_no_cap_but_drops_count() {
    let mut scene = Scene::new();
    scene.signals.queue = None;
    for _ in 0..20 {
        scene.wait(MS);
        scene.sample();
    }
    assert!(scene.law.is_free());
    scene.signals.drops = 1;
    assert!(scene.sample().local_drop);
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
        scene.sample();
    }
    assert!(scene.law.is_free());

    let mut config = GovernorConfig::default();
    config.local_drops(false);
    let mut scene = Scene::with(config, BaseKind::LossBased);
    scene.signals.drops = 1;
    assert!(!scene.sample().local_drop);

    let mut config = GovernorConfig::default();
    config.slow_start_exit(false);
    let mut scene = Scene::with(config, BaseKind::LossBased);
    scene.engage(3_000);
    scene.base.slow_start = true;
    scene.effects.capped = true;
    scene.sample_at_acks();
    assert!(scene.law.suppresses_growth(|| scene.base));
}

#[test]
fn acknowledgements_alone_do_not_count_as_in_flight() {
    let mut scene = Scene::new();
    for _ in 0..1_000 {
        scene.send_bytes(1, 40);
    }
    assert_eq!(scene.law.in_flight, 100 * MTU);
    scene.send(1_000);
    assert_eq!(scene.law.in_flight, scene.base.window);
}
