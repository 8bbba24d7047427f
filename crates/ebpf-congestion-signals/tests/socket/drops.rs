//! Drops of a full queue are reported to the socket that sent, never more than were dropped.

use ebpf_congestion_signals::Direction;
use ebpf_congestion_signals::{DropClass, SignalSource, SocketSource};
use netlab::Family;

use crate::ours::{Ours, bottleneck, drain, sink};
use crate::{TestResult, paths};

#[test]
fn every_datagram_that_a_full_queue_refuses_is_counted() -> TestResult {
    paths()?;
    for family in Family::ALL {
        for batch in [1, 10] {
            // A batch fits the burst, and so is taken or refused whole. So slow that the queue overflows
            // on a slow processor too.
            let path = bottleneck(1_000_000, 15_000, 40_000)?;
            let sink = sink(&path, family)?;
            let source = SocketSource::new();
            let ours = Ours::bind(&source, path.sender(), path.addresses(family).sender)?;
            let mut refused = 0;
            for _ in 0..200 / batch {
                let sent = if batch == 1 {
                    ours.send(sink.local_addr()?)
                } else {
                    ours.send_batch(sink.local_addr()?, batch)
                };
                refused += if sent.is_err() { batch as u64 } else { 0 };
            }
            let arrived = drain(&sink)?;
            let dropped = 200 - arrived;
            assert!(dropped > 50, "the queue overflows: {dropped}");
            assert_eq!((ours.queue_drops(), refused), (dropped, dropped));
            let sample = ours.watch.sample();
            let full = sample
                .drops
                .ok_or("drops are known")?
                .get(Direction::Egress, DropClass::QueueFull);
            assert_eq!(full.packets, dropped);
            assert_eq!(full.skbs, dropped / batch as u64);
            assert_eq!(sample.congestion.observed_packets, Some(200));
            let reasons = source.drops_by_reason(Some(ours.watch.id()));
            assert_eq!(reasons.len(), 1, "{reasons:?}");
            assert_eq!(reasons[0].drops, full);
        }
    }
    Ok(())
}

#[test]
fn of_a_batch_that_is_refused_in_part_at_most_what_was_dropped_is_counted() -> TestResult {
    paths()?;
    // Smaller than a batch: the kernel splits each when it enters the queue. So slow that few batches
    // find room for a part, on a slow processor too.
    let path = bottleneck(200_000, 3000, 40_000)?;
    let sink = sink(&path, Family::V4)?;
    let source = SocketSource::new();
    let ours = Ours::bind(&source, path.sender(), path.addresses(Family::V4).sender)?;
    for _ in 0..50 {
        // Whatever it answers: it is counted.
        drop(ours.send_batch(sink.local_addr()?, 10));
    }
    let dropped = 500 - drain(&sink)?;
    let counted = ours.queue_drops();
    assert!(counted <= dropped, "{counted} of {dropped}");
    // Batches are refused in part only where the queue fills up.
    assert!(counted > dropped / 2, "{counted} of {dropped}");
    Ok(())
}

#[test]
fn drops_are_events_for_whoever_listens() -> TestResult {
    paths()?;
    let path = bottleneck(1_000_000, 3000, 5000)?;
    let sink = sink(&path, Family::V4)?;
    let source = SocketSource::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut events = runtime.block_on(async { source.events() })?;
    let ours = Ours::bind(&source, path.sender(), path.addresses(Family::V4).sender)?;
    for _ in 0..30 {
        drop(ours.send(sink.local_addr()?));
    }
    let counted = ours.queue_drops();
    assert!(counted > 10, "{counted}");
    let mut reported = 0;
    while reported < counted {
        let event = runtime.block_on(events.next()).ok_or("the source lives")?;
        let ebpf_congestion_signals::Event::Drop(drop) = event else {
            continue;
        };
        assert_eq!(drop.flow, Some(ours.watch.id()));
        assert_eq!(drop.class, DropClass::QueueFull);
        reported += u64::from(drop.packets);
    }
    Ok(())
}
