//! What is kept of a flow until it changes is what there is.

use std::thread;
use std::time::Duration;

use ebpf_congestion_signals::{CongestionReader, SignalSource, Watch, WatchTarget};
use nix::sys::socket::{setsockopt, sockopt};

use crate::traffic::{Slow, send};
use crate::{TestResult, source_with};

/// Whether the reader has what a reading of everything has. While a probe writes, it may not yet.
fn agrees(reader: &mut CongestionReader, watch: &Watch) -> bool {
    (0..20).any(|_| {
        thread::sleep(Duration::from_micros(100));
        let before = watch.congestion();
        let kept = *reader.read();
        kept == before && watch.congestion() == before
    })
}

#[test]
fn a_flow_that_is_read_again_only_when_it_has_changed_is_as_it_is() -> TestResult {
    let source = source_with(&["qdisc_enqueue"])?;
    let slow = Slow::new()?;
    let to = slow.sink.local_addr()?;
    let watch = source.watch(WatchTarget::socket(&slow.sender).sharing())?;
    let mut reader = CongestionReader::new(watch.clone());
    // More than the queue holds.
    setsockopt(&slow.sender, sockopt::SndBufForce, &(4 << 20))?;
    for step in 0..60 {
        if step % 20 == 0 {
            send(&slow.sender, to, 200)?;
        }
        assert!(agrees(&mut reader, &watch), "at step {step}: {reader:?}");
        thread::sleep(Duration::from_millis(2));
    }
    let last = reader.read();
    assert!(last.queue_drops.is_some_and(|drops| drops > 0), "{last:?}");
    assert!(last.queue.is_some());
    Ok(())
}
