//! The backlog of the queue: of a flow, of the sharing flows, of all senders.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{SignalSource, Watch, WatchTarget};
use netlab::{Bottleneck, Family, Path, PathConfig, TokenBucket};

use crate::known::{Known, Queue};
use crate::traffic::{bind, drain, send, send_batch, sink, wait_until};
use crate::{TestResult, source_with, tool};

/// Ethernet, IPv4 and UDP headers of a datagram on the wire.
const HEADERS: u64 = 14 + 20 + 8;

const ON_WIRE: u64 = crate::traffic::PAYLOAD as u64 + HEADERS;

/// The backlog is what entered the queue and has not left it.
const NEEDS: [&str; 2] = ["qdisc_enqueue", "qdisc_dequeue"];

fn queue(watch: &Watch) -> Queue {
    watch.known().queue.expect("the queue is known")
}

/// Slow enough that the backlog hardly changes while it is read.
fn slow(burst: u32) -> Result<Path, netlab::Error> {
    let bucket = TokenBucket {
        rate: 1_000_000,
        burst,
        limit: 200_000,
    };
    let config = PathConfig {
        bottleneck: Bottleneck::Local(bucket),
        ..PathConfig::default()
    };
    let path = Path::new(&config)?;
    Ok(path)
}

#[test]
fn a_flow_has_in_the_queue_what_it_sent_and_what_has_not_left() -> TestResult {
    let source = source_with(&NEEDS)?;
    for (burst, batch) in [(15_000, false), (15_000, true), (3000, true)] {
        let path = slow(burst)?;
        let ends = path.addresses(Family::V4);
        let sink = sink(&path, ends.receiver)?;
        let sender = bind(path.sender(), ends.sender)?;
        let watch = source.watch(WatchTarget::socket(&sender).sharing())?;
        let to = sink.local_addr()?;
        if batch {
            for _ in 0..5 {
                send_batch(&sender, to, 10)?;
            }
        } else {
            send(&sender, to, 50)?;
        }
        // What the queue discipline itself says, at some moment between two of ours.
        let before = queue(&watch);
        let tc = path.bottleneck_stats()?.backlog_bytes;
        let after = queue(&watch);
        assert!(
            (after.own..=before.own).contains(&tc),
            "{after:?} {tc} {before:?}"
        );
        assert!(before.own > 20 * ON_WIRE, "{before:?}");
        for sample in [before, after] {
            assert_eq!(sample.own % ON_WIRE, 0, "whole datagrams: {sample:?}");
            assert_eq!(sample.own, sample.shared);
        }
        assert_eq!(drain(&sink)?, 50);
        let empty = queue(&watch);
        assert_eq!(
            (empty.own, empty.shared, empty.total),
            (0, 0, 0),
            "burst {burst}"
        );
        let drained = queue(&watch).drained;
        assert!(drained > 0);
        // The gauge is what the last departure left behind. Others may then still have been on
        // their way behind the queue, so one goes alone.
        send(&sender, to, 1)?;
        assert_eq!(drain(&sink)?, 1);
        let wmem = watch.known_sample().buffers.map(|buffers| buffers.wmem);
        assert_eq!(wmem, Some(0), "the send buffer is empty too");
    }
    Ok(())
}

#[test]
fn others_in_the_queue_count_in_its_total_alone() -> TestResult {
    let source = source_with(&NEEDS)?;
    let path = slow(15_000)?;
    let ends = path.addresses(Family::V4);
    let sink = sink(&path, ends.receiver)?;
    let [ours, shared, other] = [(); 3].map(|()| bind(path.sender(), ends.sender));
    let (ours, shared, other) = (ours?, shared?, other?);
    let first = source.watch(WatchTarget::socket(&ours).sharing())?;
    let second = source.watch(WatchTarget::socket(&shared).sharing())?;
    let watched = source.watch(WatchTarget::socket(&other))?;
    let to = sink.local_addr()?;
    // What the bucket lets pass at once goes first.
    send(&other, to, 20)?;
    send(&ours, to, 5)?;
    send(&shared, to, 6)?;
    send(&other, to, 7)?;
    let (first, second, watched) = (queue(&first), queue(&second), queue(&watched));
    assert_eq!(first.id, second.id);
    assert_eq!(first.own, 5 * ON_WIRE);
    assert_eq!(second.own, 6 * ON_WIRE);
    assert_eq!(first.shared, 11 * ON_WIRE);
    assert!(watched.own >= 7 * ON_WIRE);
    assert_eq!(watched.shared, 11 * ON_WIRE, "not one of the sharing flows");
    assert!(first.total >= 18 * ON_WIRE, "{first:?}");
    assert_eq!(drain(&sink)?, 38);
    Ok(())
}

#[test]
fn drops_inside_a_split_batch_leave_no_backlog_behind() -> TestResult {
    let source = source_with(&NEEDS)?;
    let bucket = TokenBucket {
        rate: 1_000_000,
        burst: 3000,
        limit: 20_000,
    };
    let path = Path::new(&PathConfig {
        bottleneck: Bottleneck::Local(bucket),
        ..PathConfig::default()
    })?;
    let ends = path.addresses(Family::V4);
    let sink = sink(&path, ends.receiver)?;
    let sender = bind(path.sender(), ends.sender)?;
    let watch = source.watch(WatchTarget::socket(&sender).sharing())?;
    for _ in 0..10 {
        // Of some batches a part fits, of the last ones nothing does.
        send_batch(&sender, sink.local_addr()?, 10)?;
    }
    let sample = queue(&watch);
    assert!(sample.own <= u64::from(bucket.limit), "{sample:?}");
    assert!(watch.known().queue_drops > 70);
    drain(&sink)?;
    wait_until("the queue drains", || {
        queue(&watch).own == 0 && queue(&watch).total == 0
    });
    Ok(())
}

#[test]
fn a_queue_that_is_thrown_away_is_empty() -> TestResult {
    let source = source_with(&NEEDS)?;
    let path = slow(15_000)?;
    let ends = path.addresses(Family::V4);
    let sink = sink(&path, ends.receiver)?;
    let sender = bind(path.sender(), ends.sender)?;
    let watch = source.watch(WatchTarget::socket(&sender).sharing())?;
    send(&sender, sink.local_addr()?, 50)?;
    assert!(queue(&watch).own > 0);
    let device = path.sender_device();
    let status = tool(path.sender(), "tc")?
        .args(["qdisc", "del", "dev", device, "root"])
        .status()?;
    assert!(status.success());
    assert_eq!(watch.congestion().queue, None, "it is gone");
    Ok(())
}

#[test]
fn counts_stay_true_while_the_processor_is_busy() -> TestResult {
    let source = source_with(&["qdisc_enqueue"])?;
    let bucket = TokenBucket {
        rate: 50_000_000,
        burst: 20_000,
        limit: 150_000,
    };
    let path = Path::new(&PathConfig {
        bottleneck: Bottleneck::Local(bucket),
        ..PathConfig::default()
    })?;
    let ends = path.addresses(Family::V4);
    let sink = sink(&path, ends.receiver)?;
    let sender = bind(path.sender(), ends.sender)?;
    let watch = source.watch(WatchTarget::socket(&sender).sharing())?;
    let to = sink.local_addr()?;
    let busy = AtomicBool::new(true);
    thread::scope(|scope| -> TestResult {
        for _ in 0..4 {
            scope.spawn(|| {
                while busy.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let start = Instant::now();
        let mut worst = 0;
        // Never empty, so that nothing is put right meanwhile; never full.
        while start.elapsed() < Duration::from_secs(4) {
            let total = watch.known().queue.map_or(0, |queue| queue.total);
            if total < 60_000 {
                for segments in [10, 3, 7] {
                    send_batch(&sender, to, segments)?;
                }
            }
            thread::sleep(Duration::from_micros(500));
            // Two looks without a packet between them saw one state.
            let (before, after) = (queue(&watch), queue(&watch));
            if before == after {
                worst = worst.max(before.own.abs_diff(before.total));
            }
        }
        busy.store(false, Ordering::Relaxed);
        assert!(
            worst <= 10 * ON_WIRE,
            "off by {worst} bytes: {:?}",
            queue(&watch)
        );
        Ok(())
    })
}
