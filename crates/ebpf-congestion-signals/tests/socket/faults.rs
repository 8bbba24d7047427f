//! System calls of the source that fail: an error that says what to do, or a signal less, and never a
//! datagram less.
//!
//! A seccomp filter lets them fail, for one thread alone.

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use ebpf_congestion_signals::{SignalSource, SocketSource, WatchError, WatchTarget};
use live_test::fault::{Fault, under};
use netlab::Family;

use crate::TestResult;
use crate::ours::{ON_WIRE, Ours, bottleneck, drain, sink, wait_until};

fn option(name: i32, error: i32) -> Fault {
    Fault::new(libc::SYS_getsockopt, error).when(2, name.unsigned_abs())
}

fn set_option(level: i32, name: i32, error: i32) -> Fault {
    Fault::new(libc::SYS_setsockopt, error)
        .when(1, level.unsigned_abs())
        .when(2, name.unsigned_abs())
}

fn duplicate(error: i32) -> Fault {
    Fault::new(libc::SYS_fcntl, error).when(1, libc::F_DUPFD_CLOEXEC.unsigned_abs())
}

/// Of the socket that asks for queues and routes.
fn netlink(error: i32) -> Fault {
    Fault::new(libc::SYS_socket, error).when(0, libc::AF_NETLINK.unsigned_abs())
}

#[test]
fn a_kernel_that_lacks_something_is_found_out_before_the_first_socket() -> TestResult {
    for (fault, operation) in [
        (Fault::new(libc::SYS_socket, libc::EMFILE), "bind"),
        (option(libc::SO_MEMINFO, libc::ENOPROTOOPT), "SO_MEMINFO"),
        (
            set_option(libc::SOL_IP, libc::IP_RECVERR, libc::EPERM),
            "IP_RECVERR",
        ),
    ] {
        let refused = under(&[fault], || SocketSource::probe().err());
        let Some(WatchError::Socket {
            operation: found, ..
        }) = refused
        else {
            return Err(format!("{refused:?}").into());
        };
        assert_eq!(found, operation);
    }
    Ok(())
}

#[test]
fn a_socket_that_cannot_be_observed_is_left_as_it_is() -> TestResult {
    let source = SocketSource::new();
    for (fault, operation, remedy) in [
        (
            option(libc::SO_DOMAIN, libc::ENOBUFS),
            "SO_DOMAIN",
            "memory",
        ),
        (option(libc::SO_TYPE, libc::ENOBUFS), "SO_TYPE", "memory"),
        (
            option(libc::SO_PROTOCOL, libc::EBADF),
            "SO_PROTOCOL",
            "closed",
        ),
        (option(libc::SO_COOKIE, libc::ENOMEM), "SO_COOKIE", "memory"),
        (
            option(libc::SO_MEMINFO, libc::ENOMEM),
            "SO_MEMINFO",
            "memory",
        ),
        (
            Fault::new(libc::SYS_getsockname, libc::ENOBUFS),
            "getsockname",
            "memory",
        ),
        (duplicate(libc::EMFILE), "dup", "ulimit -n"),
        (
            set_option(libc::SOL_IP, libc::IP_RECVERR, libc::ENOMEM),
            "IP_RECVERR",
            "memory",
        ),
    ] {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let target = WatchTarget::socket(&socket);
        let refused = under(&[fault], || source.observe_socket(target).err());
        let refused = refused.ok_or_else(|| format!("{operation}: it is observed"))?;
        let WatchError::Socket {
            operation: found, ..
        } = &refused
        else {
            return Err(refused.into());
        };
        assert_eq!(*found, operation);
        assert!(refused.to_string().contains(remedy), "{refused}");
        socket.send_to(b"x", socket.local_addr()?)?;
        // What failed was for once.
        assert!(source.observe_socket(target)?.is_some());
    }
    Ok(())
}

#[test]
fn without_a_number_of_the_namespace_a_socket_is_observed() -> TestResult {
    let source = SocketSource::new();
    let fault = option(libc::SO_NETNS_COOKIE, libc::ENOPROTOOPT);
    let ours = under(&[fault], || {
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        Ours::of(&source, socket).map_err(|error| error.to_string())
    })?;
    ours.send(ours.socket.local_addr()?)?;
    assert_eq!(ours.watch.congestion().observed_packets, Some(1));
    Ok(())
}

#[test]
fn without_netlink_or_a_thread_others_are_unknown_and_a_capability_says_why() -> TestResult {
    for fault in [
        netlink(libc::EMFILE),
        netlink(libc::EPERM),
        Fault::new(libc::SYS_bind, libc::ENOMEM),
        Fault::new(libc::SYS_clone3, libc::EAGAIN),
    ] {
        let name = format!("{fault:?}");
        let source = SocketSource::new();
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let ours = under(&[fault], || {
            Ours::of(&source, socket).map_err(|error| error.to_string())
        })?;
        ours.send(ours.socket.local_addr()?)?;
        let congestion = ours.watch.congestion();
        assert!(congestion.live, "{name}");
        assert_eq!(congestion.observed_packets, Some(1), "{name}");
        let capabilities = source.capabilities();
        let missing = capabilities.iter().filter_map(|one| one.missing.as_ref());
        assert!(missing.count() > 0, "{name}: {capabilities:?}");
    }
    Ok(())
}

/// A backlog that can no longer be measured would only grow, and hold its sender back.
#[test]
fn a_backlog_that_can_no_longer_be_read_is_unknown() -> TestResult {
    crate::paths()?;
    let path = bottleneck(2_000_000, 3_000, 200_000)?;
    let ends = path.addresses(Family::V4);
    let source = SocketSource::new();
    let sink = sink(&path, Family::V4)?;
    let to = sink.local_addr()?;
    let ours = Ours::bind(&source, path.sender(), ends.sender)?;
    let mut sent = 0;
    while ours.own().unwrap_or(0) < 10 * ON_WIRE {
        for _ in 0..10 {
            ours.send(to)?;
            sent += 1;
        }
        // However slow this machine is, the queue is slower; and it has room for more.
        assert!(sent <= 140, "{:?}", ours.queue());
    }
    let unread = under(&[option(libc::SO_MEMINFO, libc::ENOMEM)], || {
        thread::sleep(Duration::from_millis(1));
        ours.receive();
        ours.watch.congestion().queue
    });
    assert_eq!(unread, None);
    assert_eq!(drain(&sink)?, sent);
    ours.send(to)?;
    assert_eq!(drain(&sink)?, 1);
    Ok(())
}

#[test]
fn queues_that_cannot_be_listed_are_unknown() -> TestResult {
    crate::paths()?;
    let path = bottleneck(2_000_000, 3_000, 200_000)?;
    let ends = path.addresses(Family::V4);
    let sink = sink(&path, Family::V4)?;
    let to = sink.local_addr()?;
    // What the thread asks by, which begins with the first socket.
    for fault in [
        Fault::new(libc::SYS_sendto, libc::ENOBUFS).when(5, 0),
        Fault::new(libc::SYS_recvfrom, libc::ENOBUFS).when(3, 0),
    ] {
        let source = SocketSource::new();
        let ours = under(&[fault], || {
            Ours::bind(&source, path.sender(), ends.sender).map_err(|error| error.to_string())
        })?;
        while ours.own().unwrap_or(0) < 10 * ON_WIRE {
            ours.send(to)?;
        }
        let queue = ours.queue().ok_or("its own backlog is known")?;
        assert_eq!(queue.total, None);
        drain(&sink)?;
    }
    // With all calls as they are, it is known.
    let source = SocketSource::new();
    let ours = Ours::bind(&source, path.sender(), ends.sender)?;
    wait_until("the queue's backlog is known", || {
        ours.send(to)
            .is_ok_and(|()| ours.queue().is_some_and(|queue| queue.total.is_some()))
    });
    Ok(())
}

#[test]
fn without_files_the_host_is_unknown() {
    let source = SocketSource::new();
    let fault = Fault::new(libc::SYS_openat, libc::EMFILE);
    let host = under(&[fault], || source.host());
    assert!(host.drops.is_none() && host.softirq.is_none() && host.tcp_packets.is_none());
    assert!(source.host().drops.is_some());
}
