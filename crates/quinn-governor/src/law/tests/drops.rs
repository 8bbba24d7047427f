//! What the queue dropped.

use super::*;

#[test]
fn a_drop_engages_at_once_and_reduces_once_a_round_trip() {
    let mut scene = Scene::new();
    scene.backlog(50_000);
    scene.queue().room = Some(0);
    scene.send(1);
    scene.signals.drops = 3;
    assert!(scene.sample().local_drop);
    scene.law.on_local_reduction(scene.now);
    assert_eq!(scene.law.mode, Mode::Engaged);

    scene.wait(RTT / 2);
    scene.send(1);
    scene.signals.drops = 4;
    assert!(!scene.sample().local_drop);
    scene.wait(RTT);
    scene.send(1);
    assert!(!scene.sample().local_drop, "nothing new was dropped");
    scene.send(1);
    scene.signals.drops = 5;
    assert!(scene.sample().local_drop);
}

#[test]
fn dropped_acknowledgements_are_no_congestion() {
    let mut scene = Scene::new();
    scene.queue().room = Some(0);
    scene.sample();
    let mode = scene.law.mode;
    for _ in 0..10 {
        scene.send_bytes(1, 40);
        scene.signals.unobserved = 0;
        scene.signals.drops += 1;
        assert!(!scene.sample().local_drop);
        scene.wait(RTT);
    }
    assert_eq!(scene.law.mode, mode);

    // A datagram among them may be what was dropped; also if it was queued late.
    scene.send_unobserved(1);
    scene.send_bytes(1, 40);
    scene.signals.unobserved = 0;
    scene.signals.drops += 1;
    assert!(scene.sample().local_drop);
}

#[test]
fn a_queue_that_drops_queued_packets_may_drop_anything_in_flight() {
    let mut scene = Scene::new();
    scene.sample();
    scene.signals.drops = 1;
    assert!(scene.sample().local_drop);
    scene.wait(RTT);
    // Nothing but acknowledgements is left there.
    scene.law.end_acks(0);
    scene.send_bytes(1, 40);
    scene.signals.drops = 2;
    assert!(!scene.sample().local_drop);
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
    assert!(!scene.sample().local_drop);
}

#[test]
fn the_loss_of_a_local_drop_is_not_reported_again() {
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
    let mut passes = |report| scene.law.on_report(scene.now, &report) != Delivery::Withheld;
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
