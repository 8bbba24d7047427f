//! What the queue dropped.

use super::*;

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
