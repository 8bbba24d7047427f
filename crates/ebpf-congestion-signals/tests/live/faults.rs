//! System calls of the source that fail: an error that says what to do, and nothing that stays
//! behind.
//!
//! A seccomp filter lets them fail, for one thread alone.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;

use ebpf_congestion_signals::{
    EbpfOptions, EbpfSource, Event, EventsError, LoadError, SignalSource, SourceKind, Watch,
    WatchError, WatchTarget, best_source,
};
use live_test::TestResult;
use live_test::fault::{Fault, under};
use nix::sys::socket::{setsockopt, sockopt};

use crate::known::Known;
use crate::traffic::{drain, send};

/// Commands of `enum bpf_cmd` (include/uapi/linux/bpf.h).
const MAP_CREATE: u32 = 0;
const MAP_LOOKUP_ELEM: u32 = 1;
const MAP_UPDATE_ELEM: u32 = 2;
const MAP_DELETE_ELEM: u32 = 3;
const PROG_LOAD: u32 = 5;
const PROG_GET_NEXT_ID: u32 = 11;
const OBJ_GET_INFO_BY_FD: u32 = 15;
const RAW_TRACEPOINT_OPEN: u32 = 17;
const BTF_LOAD: u32 = 18;
const MAP_FREEZE: u32 = 22;
const MAP_LOOKUP_BATCH: u32 = 24;
const ENABLE_STATS: u32 = 32;

fn bpf(command: u32, error: i32) -> Fault {
    Fault::new(libc::SYS_bpf, error).when(0, command)
}

/// Of memory that is shared with the kernel, with this protection.
fn shared_memory(protection: i32) -> Fault {
    Fault::new(libc::SYS_mmap, libc::ENOMEM)
        .when(2, protection.unsigned_abs())
        .when(3, libc::MAP_SHARED.unsigned_abs())
}

fn option(name: i32, error: i32) -> Fault {
    Fault::new(libc::SYS_getsockopt, error)
        .when(1, libc::SOL_SOCKET.unsigned_abs())
        .when(2, name.unsigned_abs())
}

fn duplicate(error: i32) -> Fault {
    Fault::new(libc::SYS_fcntl, error).when(1, libc::F_DUPFD_CLOEXEC.unsigned_abs())
}

fn options() -> EbpfOptions {
    EbpfOptions::default().flows(2)
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (**error).source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}

/// What loading answers where this call fails; the next best source must be chosen there.
fn refused(fault: Fault, next: SourceKind) -> Result<LoadError, Box<dyn Error>> {
    let name = format!("{fault:?}");
    let (error, choice) = under(&[fault], || {
        (EbpfSource::load_with(&options()).err(), best_source())
    });
    let error = error.ok_or_else(|| format!("{name}: it was loaded"))?;
    let source = choice.source.ok_or_else(|| format!("{name}: no source"))?;
    assert_eq!(source.kind(), next, "{name}");
    let why = &choice.refused[0].why;
    assert!(!why.contains('\n'), "{name}: {why}");
    println!("{name}: {}", with_causes(&error));
    Ok(error)
}

#[test]
fn a_shortage_while_loading_is_named_with_its_remedy() -> TestResult {
    crate::source()?;
    let descriptors = "ulimit -n";
    let interrupted = "try again";
    for (fault, remedy) in [
        (bpf(MAP_CREATE, libc::EMFILE), descriptors),
        (bpf(MAP_CREATE, libc::ENFILE), "fs.file-max"),
        (bpf(MAP_UPDATE_ELEM, libc::ENOMEM), "memory"),
        (bpf(MAP_FREEZE, libc::ENOMEM), "memory"),
        (bpf(BTF_LOAD, libc::ENOMEM), "memory"),
        (bpf(BTF_LOAD, libc::EMFILE), descriptors),
        (bpf(PROG_LOAD, libc::EMFILE), descriptors),
        (bpf(PROG_LOAD, libc::ENOMEM), "memory"),
        (bpf(PROG_LOAD, libc::EAGAIN), interrupted),
        (bpf(RAW_TRACEPOINT_OPEN, libc::EMFILE), descriptors),
        (bpf(RAW_TRACEPOINT_OPEN, libc::ENOMEM), "memory"),
        (option(libc::SO_NETNS_COOKIE, libc::ENOBUFS), "memory"),
        // The ring's, which is written to.
        (shared_memory(libc::PROT_READ | libc::PROT_WRITE), "memory"),
    ] {
        let error = refused(fault, SourceKind::Socket)?;
        assert!(matches!(error, LoadError::Exhausted { .. }), "{error:?}");
        assert!(error.to_string().contains(remedy), "{error}");
    }
    Ok(())
}

#[test]
fn what_is_denied_while_loading_is_no_defect_of_the_object() -> TestResult {
    crate::source()?;
    for command in [MAP_CREATE, BTF_LOAD, PROG_LOAD, RAW_TRACEPOINT_OPEN] {
        let error = refused(bpf(command, libc::EPERM), SourceKind::Socket)?;
        assert!(matches!(error, LoadError::NotPermitted { .. }), "{error:?}");
        // It is one of this test's.
        assert!(error.to_string().contains("seccomp"), "{error}");
    }
    Ok(())
}

#[test]
fn memory_that_is_refused_while_loading_is_named() -> TestResult {
    crate::source()?;
    let error = refused(bpf(MAP_CREATE, libc::ENOMEM), SourceKind::Socket)?;
    assert!(matches!(error, LoadError::Map { .. }), "{error:?}");
    assert!(error.to_string().contains("fewer flows"), "{error}");
    let error = refused(shared_memory(libc::PROT_READ), SourceKind::Socket)?;
    assert!(matches!(error, LoadError::Mmap(_)), "{error:?}");
    assert!(error.to_string().contains("fewer flows"), "{error}");
    Ok(())
}

#[test]
fn files_that_cannot_be_read_while_loading_are_named() -> TestResult {
    crate::source()?;
    for (fault, cause) in [
        (Fault::new(libc::SYS_openat, libc::EMFILE), "open files"),
        (Fault::new(libc::SYS_openat, libc::EACCES), "no permission"),
        (Fault::new(libc::SYS_read, libc::EIO), "os error 5"),
    ] {
        let error = refused(fault, SourceKind::Socket)?;
        assert!(matches!(error, LoadError::Btf(_)), "{error:?}");
        let told = with_causes(&error);
        assert!(told.contains("/sys/kernel/btf/vmlinux"), "{told}");
        assert!(told.contains(cause), "{told}");
    }
    Ok(())
}

#[test]
fn what_loading_can_do_without_does_not_fail_it() -> TestResult {
    crate::source()?;
    for fault in [
        // A thread that saves time.
        Fault::new(libc::SYS_clone3, libc::EAGAIN),
        // Who else has probes loaded.
        bpf(PROG_GET_NEXT_ID, libc::EPERM),
    ] {
        let name = format!("{fault:?}");
        let loaded = under(&[fault], || {
            let source = EbpfSource::load_with(&options())?;
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
            let watched = source.watch(WatchTarget::socket(&socket)).is_ok();
            Ok::<_, LoadError>((watched, source.capabilities()))
        });
        let (watched, capabilities) = loaded.map_err(|error| format!("{name}: {error}"))?;
        assert!(watched, "{name}");
        assert_eq!(
            capabilities,
            EbpfSource::load_with(&options())?.capabilities()
        );
    }
    Ok(())
}

/// What watching a peer answers where this call fails; then both slots must be free, and what is
/// watched must be counted.
fn not_watched(source: &EbpfSource, fault: Fault) -> Result<WatchError, Box<dyn Error>> {
    let name = format!("{fault:?}");
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let target = WatchTarget::socket(&socket);
    let to = peer.local_addr()?;
    let refused = under(&[fault], || source.watch(target.peer(to)).err());
    let refused = refused.ok_or_else(|| format!("{name}: it is watched"))?;
    println!("{name}: {}", with_causes(&refused));
    let watches = [source.watch(target)?, source.watch(target.peer(to))?];
    socket.send_to(b"x", to)?;
    for watch in &watches {
        assert_eq!(watch.sample().sent_packets, Some(1), "{name}");
    }
    Ok(refused)
}

#[test]
fn a_watch_that_fails_says_why_and_keeps_no_slot() -> TestResult {
    crate::source()?;
    let source = EbpfSource::load_with(&options())?;
    for (fault, map) in [
        (bpf(MAP_UPDATE_ELEM, libc::ENOMEM), "SLOTS"),
        (bpf(MAP_UPDATE_ELEM, libc::EINTR), "SLOTS"),
        (bpf(MAP_LOOKUP_ELEM, libc::ENOMEM), "WATCHED"),
    ] {
        let refused = not_watched(&source, fault)?;
        let WatchError::Map { map: found, .. } = refused else {
            return Err(refused.into());
        };
        assert_eq!(found, map);
    }
    for name in [
        libc::SO_DOMAIN,
        libc::SO_TYPE,
        libc::SO_PROTOCOL,
        libc::SO_COOKIE,
        libc::SO_NETNS_COOKIE,
    ] {
        let refused = not_watched(&source, option(name, libc::ENOBUFS))?;
        assert!(matches!(refused, WatchError::Socket { .. }), "{refused:?}");
        assert!(refused.to_string().contains("memory"), "{refused}");
    }
    let fault = Fault::new(libc::SYS_getsockname, libc::ENOBUFS);
    let refused = not_watched(&source, fault)?;
    assert!(matches!(refused, WatchError::Socket { .. }), "{refused:?}");
    Ok(())
}

#[test]
fn a_release_that_fails_keeps_no_slot() -> TestResult {
    crate::source()?;
    let source = EbpfSource::load_with(&options())?;
    for fault in [
        bpf(MAP_DELETE_ELEM, libc::ENOMEM),
        bpf(MAP_UPDATE_ELEM, libc::ENOMEM),
        bpf(MAP_LOOKUP_ELEM, libc::ENOMEM),
        bpf(MAP_LOOKUP_BATCH, libc::EFAULT),
    ] {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let target = WatchTarget::socket(&socket);
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let watches = [source.watch(target)?, source.watch(target.peer(to))?];
        under(&[fault], || drop(watches));
        let watches = [source.watch(target)?, source.watch(target.peer(to))?];
        socket.send_to(b"x", to)?;
        for watch in &watches {
            assert_eq!(watch.sample().sent_packets, Some(1));
        }
    }
    Ok(())
}

#[test]
fn events_that_cannot_be_waited_for_are_refused_and_can_be_asked_for_again() -> TestResult {
    crate::source()?;
    let source = EbpfSource::load_with(&options())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for (fault, remedy) in [
        (duplicate(libc::EMFILE), "ulimit -n"),
        (Fault::new(libc::SYS_epoll_ctl, libc::ENOMEM), "memory"),
        (
            Fault::new(libc::SYS_epoll_ctl, libc::ENOSPC),
            "fs.epoll.max_user_watches",
        ),
    ] {
        let refused = under(&[fault], || {
            let _entered = runtime.enter();
            source.events().err()
        });
        let refused = refused.ok_or("there are events")?;
        assert!(matches!(refused, EventsError::Register(_)), "{refused:?}");
        assert!(refused.to_string().contains(remedy), "{refused}");
    }
    let _entered = runtime.enter();
    source.events()?;
    Ok(())
}

#[test]
fn what_is_asked_besides_fails_by_itself() -> TestResult {
    crate::source()?;
    let source = EbpfSource::load_with(&options())?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let watch = source.watch(WatchTarget::socket(&socket))?;
    let denied = |command| bpf(command, libc::EPERM);
    let stats = under(&[denied(ENABLE_STATS)], || source.account_costs().err());
    let stats = stats.ok_or("costs are accounted")?;
    assert_eq!(stats.raw_os_error(), Some(libc::EPERM));
    assert!(under(&[denied(OBJ_GET_INFO_BY_FD)], || source.costs()).is_err());
    assert_eq!(
        under(&[denied(PROG_GET_NEXT_ID)], || source.other_sets()),
        None
    );
    let every = NonZeroU32::MIN;
    assert!(under(&[denied(MAP_UPDATE_ELEM)], || source.sample_sends(every)).is_err());
    let reasons = under(&[denied(MAP_LOOKUP_BATCH)], || {
        source.drops_by_reason(Some(watch.id()))
    });
    assert_eq!(reasons, []);
    assert!(source.costs().is_ok());
    Ok(())
}

/// The kernel's ring answers ENOSPC then.
#[test]
fn a_ring_that_is_full_loses_events_and_no_count() -> TestResult {
    const DROPPED: u64 = 500;
    crate::source()?;
    let options = options().ring_bytes(4096).events_per_second(1_000_000);
    let source = EbpfSource::load_with(&options)?;
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    setsockopt(&sink, sockopt::RcvBuf, &4096)?;
    let watch = source.watch(WatchTarget::socket(&sink))?;
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut fitted = 0;
    // Without a reader the ring fills up.
    while drops(&watch) < DROPPED {
        send(&sender, sink.local_addr()?, 1)?;
        fitted += 1;
    }
    fitted -= DROPPED;
    assert_eq!(drain(&sink)?, fitted, "the rest was dropped");
    let host = source.host();
    assert!(host.events > 0 && host.events * 32 <= 4096, "{host:?}");
    assert!(host.events + host.events_lost >= DROPPED, "{host:?}");
    // From now on the ring is read.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    let mut events = source.events()?;
    while drops(&watch) == DROPPED {
        send(&sender, sink.local_addr()?, 1)?;
    }
    let event = runtime.block_on(async {
        let patience = std::time::Duration::from_secs(5);
        loop {
            match tokio::time::timeout(patience, events.next()).await {
                Ok(Some(Event::Drop(drop))) if drop.flow == Some(watch.id()) => return Some(drop),
                Ok(Some(_)) => {}
                _ => return None,
            }
        }
    });
    assert!(event.is_some(), "the ring is read again");
    Ok(())
}

fn drops(watch: &Watch) -> u64 {
    watch.known_sample().drops.total().packets
}
