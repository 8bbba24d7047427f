use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use netlab::{
    Bottleneck, DatagramRelay, Family, Impairment, Path, PathConfig, RelayConfig, TokenBucket,
};

use crate::{TestResult, privileged, traffic::Flow};

const ONE_WAY: Duration = Duration::from_millis(10);
const SILENCE: Duration = Duration::from_millis(300);

/// The median round trip of echoed datagrams, one at a time.
fn median_round_trip(flow: &Flow, count: usize) -> Result<Duration, Box<dyn std::error::Error>> {
    let mut trips = Vec::with_capacity(count);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 1500];
            for _ in 0..count {
                let (length, from) = flow.receiver.recv_from(&mut buffer).expect("it arrives");
                let echo = flow.receiver.send_to(&buffer[..length], from);
                echo.expect("it returns");
            }
        });
        for _ in 0..count {
            let start = Instant::now();
            flow.sender.send(&[0; 100])?;
            flow.sender.recv(&mut [0; 1500])?;
            trips.push(start.elapsed());
        }
        trips.sort_unstable();
        Ok(trips[count / 2])
    })
}

#[test]
fn the_round_trip_is_twice_the_one_way_delay() -> TestResult {
    privileged()?;
    let bucket = TokenBucket {
        rate: 50_000_000,
        burst: 20_000,
        limit: 150_000,
    };
    for bottleneck in [Bottleneck::Local(bucket), Bottleneck::Remote(bucket)] {
        let path = Path::new(&PathConfig {
            bottleneck,
            relay: Some(RelayConfig::symmetric(ONE_WAY)),
            ..PathConfig::default()
        })?;
        for family in Family::ALL {
            let flow = Flow::new(&path, path.addresses(family))?;
            let median = median_round_trip(&flow, 20)?;
            println!("{bottleneck:?}, {family:?}: {median:?}");
            assert!(median >= 2 * ONE_WAY, "{median:?}");
            let most = 2 * ONE_WAY + Duration::from_millis(5);
            assert!(median <= most, "{median:?}");
        }
        // Only what the test sent: nothing speaks by itself on this path.
        let relay = path.relay_stats()?;
        assert_eq!((relay.forward.received, relay.forward.forwarded), (40, 40));
        assert_eq!(
            (relay.backward.received, relay.backward.forwarded),
            (40, 40)
        );
        assert_eq!(path.bottleneck_stats()?.sent_packets, 40);
    }
    Ok(())
}

#[test]
fn random_loss_is_counted_and_repeats_with_its_seed() -> TestResult {
    privileged()?;
    const COUNT: u64 = 500;
    let run = || -> Result<u64, Box<dyn std::error::Error>> {
        let path = Path::new(&PathConfig {
            relay: Some(RelayConfig {
                forward: Impairment {
                    loss: 0.1,
                    ..Impairment::default()
                },
                seed: 7,
                ..RelayConfig::symmetric(Duration::ZERO)
            }),
            ..PathConfig::default()
        })?;
        let flow = Flow::new(&path, path.addresses(Family::V4))?;
        for _ in 0..COUNT {
            flow.sender.send(&[0; 1000])?;
        }
        let arrived = flow.drain(SILENCE)?.datagrams;
        let forward = path.relay_stats()?.forward;
        assert_eq!(forward.received, COUNT);
        assert_eq!(forward.forwarded, arrived);
        assert_eq!(forward.lost, COUNT - arrived);
        assert_eq!(forward.unintended_drops(), 0);
        Ok(forward.lost)
    };
    let lost = run()?;
    assert!((20..80).contains(&lost), "{lost}");
    assert_eq!(lost, run()?);
    Ok(())
}

#[test]
fn a_relay_too_small_says_that_it_dropped() -> TestResult {
    privileged()?;
    let path = Path::new(&PathConfig {
        relay: Some(RelayConfig {
            capacity: 10,
            ..RelayConfig::symmetric(Duration::from_millis(200))
        }),
        ..PathConfig::default()
    })?;
    let flow = Flow::new(&path, path.addresses(Family::V4))?;
    for _ in 0..25 {
        flow.sender.send(&[0; 1000])?;
    }
    let arrived = flow.drain(2 * SILENCE)?.datagrams;
    let forward = path.relay_stats()?.forward;
    assert_eq!(
        (arrived, forward.forwarded, forward.overflowed),
        (10, 10, 15)
    );
    Ok(())
}

#[test]
fn the_relay_is_no_bottleneck_at_300_megabits_a_second() -> TestResult {
    privileged()?;
    let bucket = TokenBucket {
        rate: 300_000_000,
        burst: 40_000,
        limit: 300_000,
    };
    let path = Path::new(&PathConfig {
        bottleneck: Bottleneck::Local(bucket),
        relay: Some(RelayConfig::symmetric(ONE_WAY)),
        ..PathConfig::default()
    })?;
    let flow = Flow::new(&path, path.addresses(Family::V4))?;
    let payload = [0; 1452];
    let arrived = thread::scope(|scope| {
        let drain = scope.spawn(|| flow.drain(SILENCE));
        let sent = flow.blast(&payload, Duration::from_secs(1));
        sent.and(drain.join().expect("the receiver does not panic"))
    })?;
    let forward = path.relay_stats()?.forward;
    println!("{forward:?}");
    assert_eq!(forward.unintended_drops(), 0);
    assert_eq!(forward.forwarded, path.bottleneck_stats()?.sent_packets);
    assert_eq!(forward.forwarded, arrived.datagrams);
    Ok(())
}

#[test]
fn datagrams_are_relayed_between_sockets_of_one_sender_and_a_server() -> TestResult {
    privileged()?;
    let path = Path::new(&PathConfig::default())?;
    let addresses = path.addresses(Family::V4);
    let server = path
        .receiver()
        .run(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))??;
    let config = RelayConfig::symmetric(ONE_WAY);
    let relay = DatagramRelay::start(&path, &config, server.local_addr()?)?;
    let bind = || UdpSocket::bind((addresses.sender, 0));
    let (sender, stranger) = path
        .sender()
        .run(|| Ok::<_, io::Error>((bind()?, bind()?)))??;
    for socket in [&sender, &stranger] {
        socket.connect(relay.entrance())?;
        socket.set_read_timeout(Some(SILENCE))?;
    }
    server.set_read_timeout(Some(Duration::from_secs(2)))?;
    for payload in [&[1; 1452][..], &[2], &[3; 9000][..1452]] {
        let start = Instant::now();
        sender.send(payload)?;
        let mut buffer = [0; 2000];
        let (length, from) = server.recv_from(&mut buffer)?;
        assert_eq!(&buffer[..length], payload);
        server.send_to(&buffer[..length], from)?;
        assert_eq!(sender.recv(&mut buffer)?, payload.len());
        assert!(start.elapsed() >= 2 * ONE_WAY);
    }
    stranger.send(&[4])?;
    assert!(stranger.recv(&mut [0; 10]).is_err(), "it is one sender's");
    let stats = relay.stats(&path)?;
    assert_eq!((stats.forward.received, stats.forward.forwarded), (3, 3));
    assert_eq!((stats.backward.received, stats.backward.forwarded), (3, 3));
    assert_eq!(stats.forward.unintended_drops(), 0);
    Ok(())
}
