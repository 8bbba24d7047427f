//! Samples that are not to be trusted.

use super::*;

#[test]
fn after_a_source_stopped_the_cap_grows_by_a_sixteenth_a_round_trip() {
    let mut scene = Scene::new();
    scene.engage(4_900);
    scene.signals.live = false;
    assert_eq!(scene.window().window, 120_100, "until the law has the time");
    assert!(scene.sample().signals_lost);
    // What was in flight besides the queue may be again; there is more.
    assert_eq!(scene.window().window, 120_000);
    let sent = scene.now;
    scene.wait(RTT);
    scene.ack(80, sent);
    assert_eq!(scene.window().window, 120_000 + 80 * MTU / 16);
    assert!(scene.law.suppresses_growth(|| scene.base));
    for _ in 0..10 {
        scene.send(80);
        scene.wait(RTT);
        scene.ack(100, sent);
    }
    scene.sample();
    assert!(scene.law.is_free());

    // And it governs again when the source is back.
    scene.signals.live = true;
    scene.engage(4_900);
}

#[test]
fn a_source_that_stopped_is_not_trusted_a_round_trip_later() {
    let mut scene = Scene::new();
    scene.engage(3_000);
    scene.round(|scene| scene.send(5));
    assert!(scene.law.trust.is_trusted());
    for _ in 0..10 {
        scene.round(|scene| scene.send_unobserved(5));
    }
    assert!(!scene.law.trust.is_trusted());
    assert!(scene.law.mode != Mode::Engaged);
}

#[test]
fn a_packet_that_a_firewall_dropped_is_given_up() {
    let mut scene = Scene::new();
    for _ in 0..10 {
        scene.send_unobserved(1);
        scene.round(|scene| scene.send(5));
        assert!(scene.law.trust.is_trusted());
    }
    scene.round(|scene| scene.send(5));
    assert_eq!(scene.signals.unobserved, 0);
}

#[test]
fn what_was_sent_while_nothing_was_observed_is_given_up_within_two_round_trips() {
    for round_trips in [0, 1, 5, 100] {
        let mut scene = Scene::new();
        scene.engage(3_000);
        scene.round(|scene| scene.send(5));
        // The device is down, or each send fails: no acknowledgements either.
        for _ in 0..round_trips {
            scene.send_unobserved(20);
            scene.wait(RTT);
        }
        scene.send_unobserved(200);
        for _ in 0..2 {
            scene.round(|scene| scene.send(5));
        }
        assert!(scene.law.trust.is_trusted(), "{round_trips}");
        assert_eq!(scene.signals.unobserved, 0);
    }
}

#[test]
fn a_source_that_resumed_is_trusted_within_two_round_trips() {
    let mut scene = Scene::new();
    for _ in 0..20 {
        scene.round(|scene| scene.send_unobserved(5));
    }
    assert!(!scene.law.trust.is_trusted());
    for _ in 0..2 {
        scene.round(|scene| scene.send(5));
    }
    assert!(scene.law.trust.is_trusted());
    assert_eq!(scene.signals.unobserved, 0);
}

#[test]
fn a_source_that_reports_later_than_acknowledgements_arrive_is_not_trusted() {
    let mut scene = Scene::new();
    // Two and a half round trips late, and what is sent is never quite the same.
    let mut late = std::collections::VecDeque::from([0; 25]);
    for round in 0..20 {
        let sent = scene.now;
        for batch in 0..10 {
            let datagrams = 3 + (round + batch) % 3;
            scene.send_unobserved(datagrams);
            late.push_back(datagrams);
            let observed = late.pop_front().unwrap_or_default();
            scene.signals.observed += observed;
            scene.signals.unobserved = scene.signals.unobserved.saturating_sub(observed);
            scene.wait(RTT / 10);
        }
        scene.ack(40, sent);
        assert!(round < 3 || !scene.law.trust.is_trusted(), "{round}");
    }
}

#[test]
fn a_source_with_a_constant_delay_is_not_trusted_once_it_shows() {
    let mut scene = Scene::new();
    scene.round(|scene| scene.send(1));
    scene.send_unobserved(50);
    scene.late = true;
    for _ in 0..10 {
        scene.round(|scene| scene.send(1));
        assert!(!scene.law.trust.is_trusted());
        assert_eq!(scene.signals.unobserved, 50);
    }
    scene.late = false;
    scene.round(|scene| scene.send(1));
    assert!(scene.law.trust.is_trusted());
}

#[test]
fn a_sender_that_waits_changes_no_trust() {
    let mut scene = Scene::new();
    scene.send_unobserved(1);
    scene.wait(Duration::from_secs(10));
    assert!(!scene.sample().signals_lost);
}

#[test]
fn the_flight_does_not_shrink_while_something_is_not_yet_observed() {
    let mut scene = Scene::new();
    scene.engage(5_000);
    let sent = scene.now;
    scene.send_unobserved(1);
    scene.wait(RTT / 10);
    scene.ack(20, sent);
    scene.sample();
    assert_eq!(scene.law.min_in_flight, 101 * MTU);
    scene.signals.unobserved = 0;
    scene.signals.observed += 1;
    scene.sample();
    assert_eq!(scene.law.min_in_flight, 0);
}

#[test]
fn the_flight_does_not_shrink_while_samples_do_not_change() {
    let mut scene = Scene::new();
    scene.engage(5_000);
    let sent = scene.now;
    scene.backlog(5_100);
    scene.sample();
    scene.ack(20, sent);
    assert_eq!(scene.window().window, 96_000);
    scene.wait(RTT / 4);
    scene.sample();
    assert_eq!(scene.law.min_in_flight, 120_000);
    assert_eq!(scene.window().limited_at, None);
    // It moves again.
    scene.backlog(4_990);
    scene.sample();
    assert_eq!(scene.window().window, 96_010);
}
