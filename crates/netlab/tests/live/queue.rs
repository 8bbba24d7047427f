use std::{thread, time::Duration};

use netlab::{Bottleneck, Family, Path, PathConfig, RelayConfig, TokenBucket, UdpFlood};

use crate::{
    TestResult, privileged,
    traffic::{Flow, HEADERS_V4, receive_drops},
};

const BUCKET: TokenBucket = TokenBucket {
    rate: 20_000_000,
    burst: 5_000,
    limit: 60_000,
};
const PAYLOAD: [u8; 1200] = [0; 1200];
const SILENCE: Duration = Duration::from_millis(300);

#[test]
fn a_token_bucket_limits_a_blast_to_its_rate_and_counts_every_drop() -> TestResult {
    privileged()?;
    let path = Path::new(&PathConfig {
        bottleneck: Bottleneck::Local(BUCKET),
        ..PathConfig::default()
    })?;
    let flow = Flow::new(&path, path.addresses(Family::V4))?;
    let (sent, arrived) = thread::scope(|scope| {
        let drain = scope.spawn(|| flow.drain(SILENCE));
        let sent = flow.blast(&PAYLOAD, Duration::from_millis(500));
        (sent, drain.join().expect("the receiver does not panic"))
    });
    let (sent, arrived) = (sent?, arrived?);
    let queue = path.bottleneck_stats()?;

    assert_eq!(receive_drops(&path, &flow, Family::V4), 0);
    assert_eq!(queue.sent_packets, arrived.datagrams);
    assert_eq!(queue.dropped, sent - arrived.datagrams);
    assert!(queue.dropped > 0 && queue.overlimits > 0);
    assert_eq!((queue.backlog_packets, queue.backlog_bytes), (0, 0));
    let size = u64::try_from(PAYLOAD.len() + HEADERS_V4)?;
    assert_eq!(queue.sent_bytes, size * arrived.datagrams);

    let bits = 8.0 * (size * arrived.datagrams) as f64;
    let rate = bits / arrived.between_first_and_last.as_secs_f64();
    let wanted = BUCKET.rate as f64;
    assert!((0.95..1.05).contains(&(rate / wanted)), "{rate} bit/s");
    Ok(())
}

#[test]
fn a_remote_bottleneck_drops_at_the_router_and_not_at_the_sender() -> TestResult {
    privileged()?;
    let path = Path::new(&PathConfig {
        bottleneck: Bottleneck::Remote(BUCKET),
        relay: Some(RelayConfig::symmetric(Duration::from_millis(5))),
        ..PathConfig::default()
    })?;
    let flow = Flow::new(&path, path.addresses(Family::V4))?;
    const COUNT: u64 = 200;
    for _ in 0..COUNT {
        flow.sender.send(&PAYLOAD)?;
    }
    let arrived = flow.drain(SILENCE)?.datagrams;
    let queue = path.bottleneck_stats()?;
    let relay = path.relay_stats()?;
    assert_eq!(queue.sent_packets, arrived);
    assert_eq!(queue.dropped, COUNT - arrived);
    assert!(queue.dropped > 0);
    assert_eq!(relay.forward.forwarded, arrived);
    let device = path.sender().device_stats(path.sender_device())?;
    assert_eq!((device.sent, device.send_dropped), (COUNT, 0));
    Ok(())
}

#[test]
fn a_bottleneck_changed_in_use_keeps_its_counters() -> TestResult {
    privileged()?;
    let path = Path::new(&PathConfig {
        bottleneck: Bottleneck::Local(BUCKET),
        ..PathConfig::default()
    })?;
    let flow = Flow::new(&path, path.addresses(Family::V6))?;
    for _ in 0..10 {
        flow.sender.send(&PAYLOAD)?;
    }
    let before = path.bottleneck_stats()?;
    path.change_bottleneck(TokenBucket {
        rate: 100_000_000,
        ..BUCKET
    })?;
    assert_eq!(flow.drain(SILENCE)?.datagrams, 10);
    let after = path.bottleneck_stats()?;
    assert_eq!(after.sent_packets, 10);
    assert_eq!(
        after.since(&before).sent_packets,
        before.backlog_packets,
        "what waited has left, nothing else"
    );
    Ok(())
}

#[test]
fn a_flood_fills_the_queue_and_ends() -> TestResult {
    privileged()?;
    let path = Path::new(&PathConfig {
        bottleneck: Bottleneck::Local(BUCKET),
        ..PathConfig::default()
    })?;
    let time = Duration::from_millis(300);
    let flood = UdpFlood::start(&path, 2 * BUCKET.rate, time, 0)?;
    std::thread::sleep(2 * time);
    let ended = path.bottleneck_stats()?;
    assert!(ended.dropped > 0);
    std::thread::sleep(time);
    drop(flood);
    let later = path.bottleneck_stats()?;
    assert_eq!(later.dropped, ended.dropped);
    Ok(())
}

#[test]
fn a_device_that_was_removed_comes_back_as_it_was() -> TestResult {
    privileged()?;
    for relay in [None, Some(RelayConfig::symmetric(Duration::from_millis(1)))] {
        let path = Path::new(&PathConfig {
            bottleneck: Bottleneck::Local(BUCKET),
            relay,
            ..PathConfig::default()
        })?;
        for family in Family::ALL {
            let flow = Flow::new(&path, path.addresses(family))?;
            flow.sender.send(&PAYLOAD)?;
            assert_eq!(flow.drain(SILENCE)?.datagrams, 1);
        }
        path.remove_cable()?;
        let flow = path.addresses(Family::V4);
        let away = path.sender().run(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
            socket.send_to(&PAYLOAD, (flow.receiver, 9))
        })?;
        assert!(away.is_err(), "there is no way");
        assert!(path.bottleneck_stats().is_err());
        path.restore_cable()?;
        for family in Family::ALL {
            let flow = Flow::new(&path, path.addresses(family))?;
            for _ in 0..3 {
                flow.sender.send(&PAYLOAD)?;
            }
            assert_eq!(flow.drain(SILENCE)?.datagrams, 3);
        }
        assert_eq!(path.bottleneck_stats()?.sent_packets, 6);
    }
    Ok(())
}

#[test]
fn one_socket_reaches_two_peers() -> TestResult {
    privileged()?;
    for relay in [None, Some(RelayConfig::symmetric(Duration::from_millis(1)))] {
        let path = Path::new(&PathConfig {
            relay,
            second_peer: true,
            ..PathConfig::default()
        })?;
        for family in Family::ALL {
            let second = path
                .second_addresses(family)
                .expect("the configuration asks for them");
            let first = Flow::new(&path, path.addresses(family))?;
            let second = Flow::new(&path, second)?;
            for receiver in [&first.receiver, &second.receiver] {
                first.sender.connect(receiver.local_addr()?)?;
                first.sender.send(b"hello")?;
                let (length, from) = receiver.recv_from(&mut [0; 16])?;
                assert_eq!((length, from), (5, first.sender.local_addr()?));
                receiver.send_to(b"world", from)?;
                assert_eq!(first.sender.recv(&mut [0; 16])?, 5);
            }
        }
    }
    Ok(())
}

#[test]
fn a_contradictory_configuration_is_refused() {
    let remote_without_relay = PathConfig {
        bottleneck: Bottleneck::Remote(BUCKET),
        ..PathConfig::default()
    };
    let too_narrow = PathConfig {
        mtu: 1279,
        ..PathConfig::default()
    };
    for config in [remote_without_relay, too_narrow] {
        let refused = Path::new(&config);
        assert!(matches!(refused, Err(netlab::Error::Config(_))));
    }
}

#[test]
fn a_queue_is_made_and_read_as_tc_shows_it() -> TestResult {
    privileged()?;
    live_test::require_program("tc")?;
    for bucket in [
        BUCKET,
        TokenBucket {
            rate: 40_000_000_000,
            burst: 100_000,
            limit: 1_000_000,
        },
    ] {
        let path = Path::new(&PathConfig {
            bottleneck: Bottleneck::Local(bucket),
            ..PathConfig::default()
        })?;
        let flow = Flow::new(&path, path.addresses(Family::V4))?;
        for _ in 0..100 {
            flow.sender.send(&[0; 1000])?;
        }
        flow.drain(Duration::from_millis(300))?;
        let mut tc = path.sender().command("tc");
        tc.args(["-s", "-j", "qdisc", "show", "root", "dev"]);
        let output = tc.arg(path.sender_device()).output()?;
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let number = |name: &str| shown[0][name].as_u64().ok_or(format!("no {name}: {shown}"));
        let read = path.bottleneck_stats()?;
        for (name, value) in [
            ("bytes", read.sent_bytes),
            ("packets", read.sent_packets),
            ("drops", read.dropped),
            ("overlimits", read.overlimits),
            ("requeues", read.requeues),
            ("backlog", read.backlog_bytes),
            ("qlen", read.backlog_packets),
        ] {
            assert_eq!(value, number(name)?, "{name}: {shown}");
        }
        assert_eq!(shown[0]["kind"], "tbf");
        let options = &shown[0]["options"];
        assert_eq!(options["rate"].as_u64(), Some(bucket.rate / 8), "{shown}");
        // tc computes it back from a time in microseconds.
        let burst = options["burst"].as_u64().ok_or("no burst")?;
        let microsecond = bucket.rate / 8 / 1_000_000 + 1;
        assert!(
            burst.abs_diff(bucket.burst.into()) <= microsecond,
            "{shown}"
        );
    }
    Ok(())
}
