//! What base is told behind the cap.

use super::*;

#[test]
fn base_does_not_grow_behind_the_cap() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.marks.capped = true;
    scene.look_at_acks();
    assert!(scene.law.hides_growth(|| scene.base));

    // Not capped: in flight is base's window.
    scene.base.window = 121_000;
    scene.marks.capped = false;
    scene.look_at_acks();
    assert!(!scene.law.hides_growth(|| scene.base));

    // Capped at any time since the last acknowledgements is capped.
    scene.marks.capped = true;
    scene.look_at_acks();
    assert!(scene.law.hides_growth(|| scene.base));
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
    assert!(!scene.law.hides_growth(|| scene.base));
    scene.base.window = 487_000;
    assert!(!scene.law.hides_growth(|| scene.base));
    scene.base.window = 488_000;
    assert!(scene.law.hides_growth(|| scene.base));
}

#[test]
fn slow_start_ends_when_the_queue_stood_for_a_round_trip_and_base_covers_the_cap() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.base = Base {
        window: 500_000,
        slow_start: true,
    };
    scene.marks.capped = true;
    let ends = |scene: &mut Scene| {
        scene.look_at_acks();
        scene.law.end_acks(100 * MTU);
        scene.law.ends_slow_start(|| scene.now, || scene.base)
    };
    assert!(!ends(&mut scene), "it stands for 6 ms");
    scene.wait(RTT - 6 * MS);
    assert!(ends(&mut scene));
    scene.base.window = 487_000;
    assert!(!ends(&mut scene), "the cap is 122,000");
    scene.base.window = 488_000;
    assert!(ends(&mut scene));
    // Not while the queue runs empty now and then.
    scene.queue().drained += 1;
    assert!(!ends(&mut scene));
}

#[test]
fn time_stands_still_for_base_only_where_our_own_limit_decides() {
    let mut scene = Scene::new();
    scene.engage(4_900);
    scene.marks.capped = true;
    scene.look_at_acks();
    assert!(scene.law.stops_clock());
    scene.queue().room = Some(0);
    scene.look_at_acks();
    assert!(scene.law.hides_growth(|| scene.base));
    assert!(!scene.law.stops_clock(), "the queue is full");
}

#[test]
fn a_loss_elsewhere_is_answered_from_what_was_in_flight() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    let bound = |scene: &Scene| scene.law.reduces_under(scene.now, MTU);
    assert_eq!(bound(&scene), u64::MAX, "the local queue stands");
    scene.backlog(0);
    scene.queue().drained += 1;
    scene.look();
    scene.wait(RTT);
    scene.look();
    assert_eq!(bound(&scene), 90_000, "of 100 datagrams");
    assert_eq!(scene.law.reduces_under(scene.now, 0), u64::MAX, "a mark");
}

#[test]
fn a_base_that_models_the_path_is_only_capped() {
    let mut scene = Scene::with(GovernorConfig::default(), BaseKind::ModelBased);
    scene.engage(3_000);
    scene.marks.capped = true;
    scene.signals.drops = 1;
    assert!(!scene.look_at_acks().local_drop);
    assert!(!scene.law.hides_growth(|| scene.base));
    assert!(scene.window().capped);
    let report = Report {
        sent: scene.now,
        persistent: false,
        lost_bytes: MTU,
    };
    assert_eq!(scene.law.on_report(scene.now, &report), Heard::New);
}
