//! Slots as the probes write them, read as a congestion controller reads them.
//!
//! This reaches what is `unsafe` in reading, without a kernel: it also runs under a checker of memory
//! accesses (`cargo xtask memcheck`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::MemorySource;
use crate::sample::{DropClass, QueueLimit};
use crate::source::{SignalSource, WatchTarget};

fn source() -> MemorySource {
    MemorySource::new(4, 8).expect("there is memory")
}

#[test]
fn what_is_written_of_a_flow_is_read_of_it_and_of_no_other() {
    let source = source();
    let [flow, other] = [(); 2].map(|()| source.add_flow().expect("a slot is free"));
    flow.set_observed(7);
    flow.set_queue_drops(3);
    flow.set_queue(5_000, 20_000, 11);
    let read = flow.watch().congestion();
    assert!(read.live);
    assert_eq!(
        (read.observed_packets, read.queue_drops),
        (Some(7), Some(3))
    );
    let queue = read.queue.expect("it is in a queue");
    assert_eq!((queue.own, queue.total), (Some(5_000), Some(20_000)));
    assert_eq!((queue.drained, queue.limit), (Some(11), Some(150_000)));
    let unread = other.watch().congestion();
    assert_eq!(
        (unread.observed_packets, unread.queue_drops),
        (Some(0), Some(0))
    );
    assert_eq!(unread.queue, None);
}

#[test]
fn everything_of_a_flow_and_of_the_host_can_be_read() {
    let source = source();
    let flow = source.add_flow().expect("a slot is free");
    flow.set_observed(2);
    flow.set_queue_drops(1);
    flow.set_queue(1_000, 1_500, 0);
    let sample = flow.watch().sample();
    assert_eq!(sample.sent_packets, Some(2));
    let drops = sample.drops.expect("drops are counted");
    let egress = crate::sample::Direction::Egress;
    assert_eq!(drops.get(egress, DropClass::QueueFull).packets, 1);
    let queue = sample.queue.expect("its queue is known");
    assert_eq!(queue.kind.as_str(), "bfifo");
    assert_eq!(queue.limit, Some(QueueLimit::Bytes(150_000)));
    let host = source.host();
    assert_eq!(
        (host.events, host.events_lost, host.reasons_lost),
        (0, 0, 0)
    );
}

#[test]
fn every_slot_is_inside_the_mapping_and_none_is_given_twice() {
    let source = source();
    let flows: Vec<_> = std::iter::from_fn(|| source.add_flow()).collect();
    assert_eq!(flows.len(), 8);
    for (number, flow) in (1..).zip(&flows) {
        flow.set_observed(number);
    }
    for (number, flow) in (1..).zip(&flows) {
        assert_eq!(flow.watch().congestion().observed_packets, Some(number));
    }
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    assert!(
        source.watch(WatchTarget::socket(&socket)).is_err(),
        "all are taken"
    );
}

/// Miri takes a thousand times as long.
const WRITES: u64 = if cfg!(miri) { 30 } else { 2_000 };

#[test]
fn a_reader_beside_a_writer_sees_counters_that_grow() {
    let source = source();
    let flow = source.add_flow().expect("a slot is free");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for packets in 1..=WRITES {
                flow.set_observed(packets);
                flow.set_queue(packets, 150_000, packets);
            }
            done.store(true, Ordering::Release);
        });
        let watch = flow.watch();
        let (mut observed, mut drained) = (0, 0);
        while !done.load(Ordering::Acquire) {
            let read = watch.congestion();
            let packets = read.observed_packets.expect("packets are counted");
            assert!(packets >= observed);
            observed = packets;
            if let Some(queue) = read.queue {
                let times = queue.drained.expect("it is counted");
                assert!(times >= drained);
                drained = times;
                assert!(queue.own <= queue.total, "{queue:?}");
            }
        }
    });
    assert_eq!(flow.watch().congestion().observed_packets, Some(WRITES));
}
