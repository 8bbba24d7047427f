use bytes::BytesMut;

use super::*;
use crate::sim::packet::UDP_WIRE_OVERHEAD;

const MBIT: u64 = 1_000_000;

/// A batch of datagrams of 1,000 bytes on the wire.
fn batch(packets: usize) -> Batch {
    let payload = 1000 - UDP_WIRE_OVERHEAD as usize;
    Batch::quic(0, BytesMut::zeroed(payload * packets), payload)
}

fn ms(ms: u64) -> SimTime {
    SimTime::from(Duration::from_millis(ms))
}

/// Pumps as often as the link asks for; arrival times in microseconds.
fn run(link: &mut Link, from: SimTime) -> Vec<u128> {
    let mut arrivals = Vec::new();
    let mut next = Some(from);
    while let Some(now) = next.take() {
        let mut outcomes = Vec::new();
        link.pump(now, &mut outcomes);
        for outcome in outcomes {
            match outcome {
                Outcome::Arrives { at, .. } => arrivals.push(at.since_start().as_micros()),
                Outcome::Wake(at) => next = Some(at),
                _ => {}
            }
        }
    }
    arrivals
}

#[test]
fn a_device_sends_datagrams_one_after_the_other() {
    let config = LinkConfig::device(8 * MBIT, 10_000).delayed(Duration::from_millis(10));
    let mut link = Link::new(&config, 1, 0);
    link.offer(ms(0), batch(2)).unwrap();
    link.offer(ms(0), batch(1)).unwrap();
    assert_eq!(run(&mut link, ms(0)), [11_000, 12_000, 13_000]);
    assert_eq!(link.stats().drained, 1);
}

#[test]
fn a_token_bucket_lets_its_burst_pass_at_once() {
    let config = LinkConfig::token_bucket(8 * MBIT, 3_000, 100_000);
    let mut link = Link::new(&config, 1, 0);
    for _ in 0..3 {
        link.offer(ms(0), batch(2)).unwrap();
    }
    let arrivals = run(&mut link, ms(0));
    assert_eq!(arrivals, [0, 0, 1_000, 1_000, 3_000, 3_000]);
}

#[test]
fn a_batch_without_room_is_dropped_whole() {
    let mut link = Link::new(&LinkConfig::device(8 * MBIT, 3_500), 1, 0);
    link.offer(ms(0), batch(2)).unwrap();
    assert!(link.offer(ms(0), batch(2)).is_err());
    link.offer(ms(0), batch(1)).unwrap();
    let stats = link.stats();
    assert_eq!((stats.dropped_packets, stats.backlog_peak), (2, 3_000));
}

#[test]
fn jitter_keeps_the_order() {
    let config = LinkConfig::wire(Duration::from_millis(5)).jittering(Duration::from_millis(3));
    let mut link = Link::new(&config, 1, 0);
    for _ in 0..100 {
        link.offer(ms(0), batch(1)).unwrap();
    }
    let arrivals = run(&mut link, ms(0));
    assert_eq!(arrivals.len(), 100);
    assert!(arrivals.is_sorted());
    assert!(arrivals.iter().all(|at| (5_000..8_000).contains(at)));
}

#[test]
fn a_new_rate_holds_from_the_next_batch_on() {
    let mut link = Link::new(&LinkConfig::device(8 * MBIT, 10_000), 1, 0);
    link.offer(ms(0), batch(1)).unwrap();
    link.offer(ms(0), batch(1)).unwrap();
    let mut outcomes = Vec::new();
    link.pump(ms(0), &mut outcomes);
    link.set_rate(ms(0), 4 * MBIT);
    assert_eq!(run(&mut link, ms(1)), [3_000]);
}
