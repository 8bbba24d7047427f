//! Samples that are not to be believed.

use super::*;

#[test]
fn a_source_that_stopped_lets_the_cap_go_by_an_eighth_a_round_trip() {
    let mut scene = Scene::new();
    scene.engage(4_900);
    scene.signals.live = false;
    assert_eq!(scene.window().window, 120_100, "until the law has the time");
    assert!(scene.look().went_blind);
    assert_eq!(scene.window().window, 120_000);
    let sent = scene.now;
    scene.wait(RTT);
    scene.ack(80, sent);
    assert_eq!(scene.window().window, 120_000 + 80 * MTU / 8);
    assert!(scene.law.hides_growth(scene.base));
    for _ in 0..5 {
        scene.send(80);
        scene.wait(RTT);
        scene.ack(100, sent);
    }
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
    let changes: [Change; 4] = [
        |signals| signals.observed -= 1,
        |signals| signals.drops -= 1,
        |signals| signals.policy_drops -= 1,
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
        scene.signals.policy_drops = 5;
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
    assert!(!scene.law.trusted, "not again at once");
    scene.wait(Duration::from_millis(100));
    scene.look();
    assert!(scene.law.trusted);
}

#[test]
fn a_sample_that_stands_still_does_not_let_the_flight_shrink() {
    let mut scene = Scene::new();
    scene.engage(5_000);
    let sent = scene.now;
    scene.backlog(5_100);
    scene.look();
    scene.ack(20, sent);
    assert_eq!(scene.window().window, 96_000);
    // At the flow's rate 5,100 bytes take a millisecond.
    scene.wait(MS * 3);
    scene.look();
    assert_eq!(scene.law.kept_in_flight, 120_000);
    assert!(!scene.window().held);
    // It moves again.
    scene.backlog(4_990);
    scene.look();
    assert_eq!(scene.window().window, 96_010);
}
