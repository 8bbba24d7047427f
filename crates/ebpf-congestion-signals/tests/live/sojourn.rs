//! Time that own packets spend in this host's queue.

use std::time::{Duration, Instant};

use ebpf_congestion_signals::{SignalSource, WatchTarget};

use crate::known::Known;
use crate::traffic::{Slow, drain, send};
use crate::{TestResult, source_with};

#[test]
fn a_packet_stays_as_long_as_the_queue_takes_to_drain() -> TestResult {
    let needs = ["qdisc_enqueue", "qdisc_dequeue"];
    let source = source_with(&needs)?;
    let Slow {
        sink,
        sender,
        _path,
    } = Slow::new()?;
    let watch = source.watch(WatchTarget::socket(&sender))?;
    assert_eq!(watch.known_sample().sojourn.packets, 0);

    // An empty queue first: the bucket has tokens for these.
    let start = Instant::now();
    send(&sender, sink.local_addr()?, 1)?;
    assert_eq!(drain(&sink)?, 1);
    let first = watch.known_sample().sojourn;
    assert_eq!(first.packets, 1);
    assert!(first.last < start.elapsed());
    assert_eq!(first.last, first.time);

    // 57 datagrams need over a quarter of a second to leave. The ninth of the flow is followed,
    // then one that is sent after the ninth has left.
    let start = Instant::now();
    send(&sender, sink.local_addr()?, 57)?;
    let backlog = watch.known().queue.ok_or("the queue is known")?.own;
    let drains = Duration::from_secs_f64(backlog as f64 * 8.0 / Slow::RATE as f64);
    assert!(drains > Duration::from_millis(200), "{backlog} bytes");
    assert_eq!(drain(&sink)?, 57);
    let second = watch.known_sample().sojourn;
    assert_eq!(second.packets, first.packets + 1, "{second:?}");
    let mean = second.mean_since(&first).ok_or("one was followed")?;
    assert_eq!(mean, second.last);
    // Eight datagrams, of which the bucket let two pass at once, leave before it.
    let eight = Duration::from_secs_f64(7.0 * 1242.0 * 8.0 / Slow::RATE as f64);
    assert!(
        mean > eight / 2 && mean < start.elapsed(),
        "{mean:?}, {eight:?}"
    );
    Ok(())
}
