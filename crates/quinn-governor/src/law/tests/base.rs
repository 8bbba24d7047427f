//! What base is told behind the cap.

use super::*;

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
fn slow_start_goes_on_until_base_covers_the_cap_four_times() {
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
    scene.base.window = 487_000;
    assert!(!scene.law.hides_growth(scene.base));
    scene.base.window = 488_000;
    assert!(scene.law.hides_growth(scene.base));
}

#[test]
fn slow_start_ends_when_the_queue_stood_and_the_flight_did_not_grow_for_a_round_trip() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.base = Base {
        window: 500_000,
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
            scene.base.window = datagrams * MTU * 5;
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
