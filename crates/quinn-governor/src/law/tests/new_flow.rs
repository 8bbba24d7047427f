//! A controller that goes on as another flow.

use super::*;

/// Counters of another socket's flow.
fn other_flow(scene: &mut Scene) {
    scene.signals = Signals {
        observed: 7,
        drops: 2,
        policy_drops: 1,
        ..scene.signals
    };
    scene.queue().drained = 3;
    scene.law.on_new_flow(scene.now, &scene.signals);
}

#[test]
fn counters_start_anew_and_what_is_known_of_the_path_stays() {
    let mut scene = Scene::new();
    scene.signals = Signals {
        observed: 1_000_100,
        drops: 500,
        policy_drops: 80,
        ..scene.signals
    };
    scene.queue().drained = 10_000;
    scene.engage(4_900);
    let rate = scene.law.rate();
    other_flow(&mut scene);
    let decision = scene.sample();
    assert_eq!(decision, Decision::default().with_limit_decides());
    assert_eq!(scene.law.mode, Mode::Engaged);
    assert_eq!((scene.law.srtt(), scene.law.rate()), (Span::of(RTT), rate));

    scene.send(1);
    scene.signals.drops = 3;
    assert!(scene.sample().local_drop, "the new flow's own");
}

#[test]
fn acknowledgements_of_the_old_flow_are_not_checked() {
    let mut scene = Scene::new();
    let sent = scene.now;
    scene.send_unobserved(50);
    other_flow(&mut scene);
    scene.signals.unobserved = 0;
    scene.wait(RTT);
    scene.ack(50, sent);
    assert!(scene.law.trust.is_trusted());
    for _ in 0..2 {
        scene.round(|scene| scene.send(5));
        assert!(scene.law.trust.is_trusted());
    }
}

impl Decision {
    fn with_limit_decides(self) -> Self {
        Self {
            limit_decides: true,
            ..self
        }
    }
}
