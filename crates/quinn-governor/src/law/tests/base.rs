//! How the wrapped controller is called behind the cap.

use super::*;

#[test]
fn base_does_not_grow_behind_the_cap() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.effects.capped = true;
    scene.sample_at_acks();
    assert!(scene.law.suppresses_growth(|| scene.base));

    // Not capped: in flight is base's window.
    scene.base.window = 121_000;
    scene.effects.capped = false;
    scene.sample_at_acks();
    assert!(!scene.law.suppresses_growth(|| scene.base));

    // Capped at any time since the last acknowledgements is capped.
    scene.effects.capped = true;
    scene.sample_at_acks();
    assert!(scene.law.suppresses_growth(|| scene.base));
}

#[test]
fn slow_start_continues_until_base_covers_the_cap_four_times() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.base = Base {
        window: 200_000,
        slow_start: true,
    };
    scene.effects.capped = true;
    // The cap is 122,000 now.
    scene.sample_at_acks();
    assert!(!scene.law.suppresses_growth(|| scene.base));
    scene.base.window = 487_000;
    assert!(!scene.law.suppresses_growth(|| scene.base));
    scene.base.window = 488_000;
    assert!(scene.law.suppresses_growth(|| scene.base));
}

#[test]
fn slow_start_ends_after_a_standing_backlog_of_a_round_trip_once_base_covers_the_cap() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.base = Base {
        window: 500_000,
        slow_start: true,
    };
    scene.effects.capped = true;
    let ends = |scene: &mut Scene| {
        scene.sample_at_acks();
        scene.law.end_acks(100 * MTU);
        scene.law.ends_slow_start(|| scene.now, || scene.base)
    };
    assert!(!ends(&mut scene), "its backlog is 6 ms old");
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
fn the_clock_of_base_is_paused_only_where_the_own_limit_decides() {
    let mut scene = Scene::new();
    scene.engage(4_900);
    scene.effects.capped = true;
    scene.sample_at_acks();
    assert!(scene.law.pauses_clock());
    scene.queue().room = Some(0);
    scene.sample_at_acks();
    assert!(scene.law.suppresses_growth(|| scene.base));
    assert!(!scene.law.pauses_clock(), "the queue is full");
}

#[test]
fn a_loss_elsewhere_reduces_from_what_was_in_flight() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    let bound = |scene: &Scene| scene.law.reduce_below(scene.now, MTU);
    assert_eq!(
        bound(&scene),
        u64::MAX,
        "the local queue has a standing backlog"
    );
    scene.backlog(0);
    scene.queue().drained += 1;
    scene.sample();
    scene.wait(RTT);
    scene.sample();
    assert_eq!(bound(&scene), 90_000, "of 100 datagrams");
    assert_eq!(scene.law.reduce_below(scene.now, 0), u64::MAX, "a mark");
}

#[test]
fn a_base_that_models_the_path_is_only_capped() {
    let mut scene = Scene::with(GovernorConfig::default(), BaseKind::ModelBased);
    scene.engage(3_000);
    scene.effects.capped = true;
    scene.signals.drops = 1;
    assert!(!scene.sample_at_acks().local_drop);
    assert!(!scene.law.suppresses_growth(|| scene.base));
    assert!(scene.window().capped);
    let report = Report {
        sent: scene.now,
        persistent: false,
        lost_bytes: MTU,
    };
    assert_eq!(scene.law.on_report(scene.now, &report), Delivery::New);
}
