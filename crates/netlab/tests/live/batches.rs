//! Segmentation batches: a send of many datagrams that the kernel carries as one for as far as
//! it can.

use std::{io::IoSlice, os::fd::AsRawFd, time::Duration};

use netlab::{Bottleneck, Family, Path, PathConfig, RelayConfig, TokenBucket};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

use crate::{
    TestResult, privileged,
    traffic::{Flow, receive_drops},
};

const SEGMENT: u16 = 1200;
const SEGMENTS: u8 = 10;

/// Holds a batch whole.
const LARGE_BURST: u32 = 20_000;
/// Does not.
const SMALL_BURST: u32 = 5_000;

/// Sends one batch and receives it; every datagram must be whole and in its place.
fn send_and_check(flow: &Flow) -> TestResult {
    let payload: Vec<u8> = (0..SEGMENTS)
        .flat_map(|n| [n].repeat(usize::from(SEGMENT)))
        .collect();
    let sent = sendmsg::<SockaddrStorage>(
        flow.sender.as_raw_fd(),
        &[IoSlice::new(&payload)],
        &[ControlMessage::UdpGsoSegments(&SEGMENT)],
        MsgFlags::empty(),
        None,
    )?;
    assert_eq!(sent, payload.len());
    for expected in payload.chunks(usize::from(SEGMENT)) {
        let mut buffer = [0; 2000];
        let length = flow.receiver.recv(&mut buffer)?;
        assert_eq!(&buffer[..length], expected);
    }
    Ok(())
}

#[test]
fn a_batch_arrives_whole_however_small_the_burst() -> TestResult {
    privileged()?;
    let segments = u64::from(SEGMENTS);
    for relay in [None, Some(RelayConfig::symmetric(Duration::from_millis(2)))] {
        for burst in [LARGE_BURST, SMALL_BURST] {
            let path = Path::new(&PathConfig {
                bottleneck: Bottleneck::Local(TokenBucket {
                    rate: 50_000_000,
                    burst,
                    limit: 150_000,
                }),
                relay,
                ..PathConfig::default()
            })?;
            for (family, passed) in [(Family::V4, 1), (Family::V6, 2)] {
                let flow = Flow::new(&path, path.addresses(family))?;
                send_and_check(&flow)?;
                assert_eq!(receive_drops(&path, &flow, family), 0);
                let counters = path.receiver().udp_counters(family)?;
                assert_eq!(counters.in_datagrams, segments);
                let queue = path.bottleneck_stats()?;
                assert_eq!(queue.sent_packets, passed * segments);
                // The device counts what it was given: one whole batch, or its segments.
                let device = path.sender().device_stats(path.sender_device())?;
                let given = if burst == LARGE_BURST { 1 } else { segments };
                assert_eq!(device.sent, passed * given);
                if relay.is_some() {
                    let forward = path.relay_stats()?.forward;
                    assert_eq!(forward.forwarded, passed * segments);
                    assert_eq!(forward.unintended_drops(), 0);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_batch_passes_a_remote_bottleneck() -> TestResult {
    privileged()?;
    for burst in [LARGE_BURST, SMALL_BURST] {
        let path = Path::new(&PathConfig {
            bottleneck: Bottleneck::Remote(TokenBucket {
                rate: 50_000_000,
                burst,
                limit: 150_000,
            }),
            relay: Some(RelayConfig::symmetric(Duration::from_millis(2))),
            ..PathConfig::default()
        })?;
        for family in Family::ALL {
            let flow = Flow::new(&path, path.addresses(family))?;
            send_and_check(&flow)?;
            assert_eq!(receive_drops(&path, &flow, family), 0);
        }
    }
    Ok(())
}
