//! A slot belongs to one flow at a time, and to the process that loaded the probes.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use ebpf_congestion_signals::{
    EbpfOptions, EbpfSource, Event, SignalSource, WatchError, WatchTarget,
};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::TestResult;
use crate::known::Known;
use crate::traffic::{drain, send};

/// A socket that has room for a few datagrams, and one that sends to it.
fn overflowing() -> std::io::Result<(UdpSocket, UdpSocket)> {
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    setsockopt(&sink, sockopt::RcvBuf, &4096)?;
    Ok((sink, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?))
}

#[test]
fn events_of_a_released_flow_are_not_those_of_the_next_in_its_slot() -> TestResult {
    crate::source()?;
    let source = EbpfSource::load_with(&EbpfOptions::default().flows(1))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    let mut events = source.events()?;
    let (sink, sender) = overflowing()?;
    let first = source.watch(WatchTarget::socket(&sink))?;
    send(&sender, sink.local_addr()?, 40)?;
    let (id, dropped) = (first.id(), first.known_sample().drops.total().packets);
    assert!(dropped > 0);
    drop(first);
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let second = source.watch(WatchTarget::socket(&other))?;
    let mut told = 0;
    runtime.block_on(async {
        let silence = Duration::from_millis(500);
        while let Ok(Some(event)) = tokio::time::timeout(silence, events.next()).await {
            let Event::Drop(event) = event else { continue };
            assert_ne!(event.flow, Some(second.id()));
            told += u64::from(event.flow == Some(id)) * u64::from(event.packets);
        }
    });
    assert_eq!(told, dropped, "each has the id of the flow that dropped");
    assert_eq!(second.known_sample().drops.total().packets, 0);
    assert_eq!(source.drops_by_reason(Some(second.id())), []);
    assert_eq!(drain(&sink)?, 40 - dropped);
    Ok(())
}

#[test]
fn a_forked_child_changes_nothing_for_its_parent() -> TestResult {
    crate::source()?;
    let source = EbpfSource::load_with(&EbpfOptions::default().flows(4))?;
    let [socket, other] = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)));
    let (socket, other) = (socket?, other?);
    let watch = source.watch(WatchTarget::socket(&socket))?;
    send(&socket, socket.local_addr()?, 5)?;
    // SAFETY: the child drops a handle, asks for another, and ends without running destructors.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(watch);
            let refused = source.watch(WatchTarget::socket(&other));
            let is_refused = matches!(refused, Err(WatchError::Disconnected { .. }));
            // SAFETY: ends the child at once.
            unsafe { nix::libc::_exit(i32::from(!is_refused)) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None)?, WaitStatus::Exited(child, 0));
        }
    }
    send(&socket, socket.local_addr()?, 5)?;
    assert_eq!(watch.known_sample().sent_packets, 10);
    assert!(watch.congestion().live);
    Ok(())
}

#[test]
fn a_flow_whose_reasons_many_have_had_before_tells_its_own() -> TestResult {
    crate::source()?;
    let source = EbpfSource::load_with(&EbpfOptions::default().flows(2))?;
    let (sink, sender) = overflowing()?;
    // More than the table has room for, if what they leave there stayed.
    for _ in 0..5000 {
        let watch = source.watch(WatchTarget::socket(&sink))?;
        send(&sender, sink.local_addr()?, 1)?;
        drop(watch);
    }
    let watch = source.watch(WatchTarget::socket(&sink))?;
    send(&sender, sink.local_addr()?, 7)?;
    let reasons = source.drops_by_reason(Some(watch.id()));
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert_eq!(reasons[0].drops.packets, 7);
    assert_eq!(source.host().reasons_lost, 0);
    Ok(())
}

#[test]
fn reasons_of_released_flows_make_room_for_others() -> TestResult {
    crate::source()?;
    let source = EbpfSource::load_with(&EbpfOptions::default().flows(2))?;
    let (sink, sender) = overflowing()?;
    let to = sink.local_addr()?;
    // Watched throughout, with a drop to its name.
    let (kept_sink, _) = overflowing()?;
    let kept = source.watch(WatchTarget::socket(&kept_sink))?;
    send(&sender, kept_sink.local_addr()?, 40)?;
    let of_kept = source.drops_by_reason(Some(kept.id()));
    assert!(!of_kept.is_empty());
    send(&sender, to, 40)?;
    // The table has 4,100 entries, of which each of these flows takes one.
    for _ in 0..5000 {
        let watch = source.watch(WatchTarget::socket(&sink))?;
        send(&sender, to, 1)?;
        drop(watch);
    }
    let last = source.watch(WatchTarget::socket(&sink))?;
    send(&sender, to, 1)?;
    let of_last: u64 = source
        .drops_by_reason(Some(last.id()))
        .iter()
        .map(|by| by.drops.packets)
        .sum();
    assert_eq!(of_last, 1);
    assert_eq!(source.host().reasons_lost, 0);
    assert_eq!(source.drops_by_reason(Some(kept.id())), of_kept);
    let arrived = drain(&sink)?;
    assert!(arrived < 40, "it was full: {arrived}");
    Ok(())
}
