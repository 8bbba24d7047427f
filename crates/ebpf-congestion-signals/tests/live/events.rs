//! The stream of edges: complete while there are few, counted when there are many.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use ebpf_congestion_signals::{
    Buffer, Crossing, Direction, DropClass, EbpfOptions, EbpfSource, Event, EventStream, FlowId,
    SignalSource, WatchTarget,
};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::runtime::{Builder, Runtime};

use crate::known::Known;
use crate::traffic::{drain, send};
use crate::{TestResult, kernel, source, source_with};

/// All events that come until none comes for a while.
async fn collect(stream: &mut dyn EventStream) -> Vec<Event> {
    let mut events = Vec::new();
    while let Ok(Some(event)) =
        tokio::time::timeout(Duration::from_millis(700), stream.next()).await
    {
        events.push(event);
    }
    events
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn small_sink() -> Result<UdpSocket, Box<dyn std::error::Error>> {
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    setsockopt(&sink, sockopt::RcvBuf, &16_384)?;
    Ok(sink)
}

#[test]
fn every_drop_of_a_trickle_is_an_event_with_its_reason_and_flow() -> TestResult {
    let source = source()?;
    let sink = small_sink()?;
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let watch = source.watch(WatchTarget::socket(&sink))?;
    let runtime = runtime()?;
    let _entered = runtime.enter();
    let mut stream = source.events()?;
    send(&sender, sink.local_addr()?, 50)?;
    let events = runtime.block_on(collect(&mut *stream));

    let drops: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Drop(drop) if drop.flow == Some(watch.id()) => Some(drop),
            _ => None,
        })
        .collect();
    assert_eq!(
        drops.len() as u64,
        watch.known_sample().drops.total().packets
    );
    let (name, class) = if kernel::has(source, "skb_drop_reason") {
        ("SOCKET_RCVBUFF", DropClass::ReceiveBuffer)
    } else {
        ("UNKNOWN", DropClass::Other)
    };
    for drop in &drops {
        assert_eq!(&*drop.reason, name);
        assert_eq!((drop.class, drop.direction), (class, Direction::Ingress));
        assert!(drop.location != 0);
    }
    Ok(())
}

#[test]
fn a_buffer_that_fills_is_one_event_and_one_more_when_it_is_emptied() -> TestResult {
    let source = source_with(&["sock_recv_length"])?;
    let sink = small_sink()?;
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let watch = source.watch(WatchTarget::socket(&sink))?;
    let runtime = runtime()?;
    let _entered = runtime.enter();
    let mut stream = source.events()?;
    send(&sender, sink.local_addr()?, 50)?;
    let events = runtime.block_on(collect(&mut *stream));
    assert_eq!(
        crossings(&events, watch.id()),
        [(Buffer::Receive, Crossing::Up)],
        "once, however often it is hit"
    );

    drain(&sink)?;
    let events = runtime.block_on(collect(&mut *stream));
    assert_eq!(
        crossings(&events, watch.id()),
        [(Buffer::Receive, Crossing::Down)]
    );
    Ok(())
}

fn crossings(events: &[Event], flow: FlowId) -> Vec<(Buffer, Crossing)> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Pressure(pressure) if pressure.flow == Some(flow) => {
                Some((pressure.buffer, pressure.crossing))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn events_over_the_limit_are_counted_and_counters_stay_exact() -> TestResult {
    const LIMIT: u32 = 20;
    const DATAGRAMS: usize = 5000;
    // What other tests drop would be events of this source too.
    source()?;
    let source = EbpfSource::load_with(&EbpfOptions::default().events_per_second(LIMIT))?;
    let sink = small_sink()?;
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let watch = source.watch(WatchTarget::socket(&sink))?;
    let runtime = runtime()?;
    let _entered = runtime.enter();
    // Others on this host may drop at any time.
    let earliest = source.host();
    let mut stream = source.events()?;
    let before = source.host();
    send(&sender, sink.local_addr()?, DATAGRAMS)?;
    let read = drain(&sink)?;

    let dropped = DATAGRAMS as u64 - read;
    assert_eq!(watch.known_sample().drops.total().packets, dropped);
    let written_by_then = source.host().events - before.events;
    let (mut told, mut lost) = (0, 0);
    for event in runtime.block_on(collect(&mut *stream)) {
        match event {
            Event::Lost { events } => lost += events,
            _ => told += 1,
        }
    }
    let after = source.host();
    let written = after.events - before.events;
    assert!(written < dropped, "{written} of {dropped}");
    // Every drop of the host is an event written or an event lost; crossings of the buffer come
    // on top.
    let counted = written + after.events_lost - before.events_lost;
    let [before_all, all] =
        [&before, &after].map(|host| host.drops.as_ref().map_or(0, |drops| drops.total().skbs));
    let all = all - before_all;
    assert!(all >= dropped, "{all} of the host, {dropped} of the socket");
    assert!((all..all + 50).contains(&counted), "{counted} for {all}");
    let latest = after.events - earliest.events;
    assert!(
        (written_by_then..=latest).contains(&told),
        "what was written was reported: {told}, written {written_by_then} to {latest}"
    );
    assert!(lost > 0 && lost <= after.events_lost - before.events_lost);
    Ok(())
}

#[test]
fn without_a_runtime_events_are_refused_and_nothing_else() -> TestResult {
    let source = source()?;
    // The shared source may be pumping for another test's runtime already.
    let own = EbpfSource::load()?;
    let error = own.events().err().ok_or("there is no runtime here")?;
    assert!(error.to_string().contains("tokio runtime"), "{error}");
    assert!(source.host().taken.as_nanos() > 0);
    Ok(())
}
