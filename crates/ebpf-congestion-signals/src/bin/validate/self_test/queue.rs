//! A real queue, in a network namespace that goes with its test.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{EbpfSource, SignalSource, Watch, WatchTarget};
use nix::sched::{CloneFlags, unshare};
use serde::Deserialize;

use super::{Stop, TestResult, equal, needs};
use crate::proc_net;

/// Passes a datagram in two seconds, so that the backlog does not change while it is read.
const SLOW: &str = "rate 4kbit burst 2000b limit 20000b";

/// Lets everything pass at once.
const FAST: &str = "rate 1gbit burst 100kb limit 1mb";

/// Datagrams sent, five times what the queue holds.
const DATAGRAMS: u64 = 100;

/// Readings of two counts with a packet leaving between them are taken again.
const ATTEMPTS: usize = 5;

/// Runs a test on a thread of its own in a namespace of its own, of which loopback has the slow
/// queue. All of it goes when the thread ends.
fn in_namespace(test: impl FnOnce() -> TestResult + Send) -> TestResult {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|error| {
                Stop::Skip(format!(
                    "a network namespace needs CAP_SYS_ADMIN and CAP_NET_ADMIN: {error}"
                ))
            })?;
            execute("ip", "link set dev lo up")?;
            execute("tc", &format!("qdisc add dev lo root tbf {SLOW}"))?;
            test()
        })?;
        let result = thread.join();
        result.unwrap_or_else(|_| Err(Stop::Fail("the test panicked".to_owned())))
    })
}

/// Runs a command of iproute2 and answers what it prints. That there is none, that it may not, or
/// that the kernel has no such queue, is no fault of the probes.
fn execute(program: &str, arguments: &str) -> Result<String, Stop> {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output();
    let output = output.map_err(|error| {
        Stop::Skip(format!(
            "`{program}` cannot be run ({error}): install iproute2"
        ))
    })?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Stop::Skip(format!(
            "`{program} {arguments}`: {}",
            said.trim()
        )))
    }
}

/// What `tc` says of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
struct Queue {
    drops: u64,
    backlog: u64,
}

fn queue() -> Result<Queue, Stop> {
    #[derive(Deserialize)]
    struct Entry {
        kind: String,
        #[serde(flatten)]
        queue: Queue,
    }
    let entries: Vec<Entry> = serde_json::from_str(&execute("tc", "-s -j qdisc show dev lo")?)?;
    let bucket = entries.into_iter().find(|entry| entry.kind == "tbf");
    bucket
        .map(|entry| entry.queue)
        .ok_or_else(|| Stop::Fail("tc does not show the queue".to_owned()))
}

/// A sender whose queue overflows, and its receiver.
struct Flow {
    sender: UdpSocket,
    sink: UdpSocket,
    watch: Watch,
}

impl Flow {
    fn overflow(source: &EbpfSource) -> Result<Self, Stop> {
        let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let watch = source.watch(WatchTarget::socket(&sender))?;
        let flow = Self {
            sender,
            sink,
            watch,
        };
        for _ in 0..DATAGRAMS {
            flow.send()?;
        }
        Ok(flow)
    }

    fn send(&self) -> Result<(), Stop> {
        let to: SocketAddr = self.sink.local_addr()?;
        self.sender.send_to(&[7; 1000], to)?;
        Ok(())
    }

    /// Datagrams that arrive before there is silence.
    fn arrived(&self) -> Result<u64, Stop> {
        self.sink
            .set_read_timeout(Some(Duration::from_millis(200)))?;
        let mut datagrams = 0;
        while self.sink.recv(&mut [0; 2048]).is_ok() {
            datagrams += 1;
        }
        Ok(datagrams)
    }
}

/// What the queue drops, by `tc` and by the receiver, once the rest has left it.
pub(super) fn drops(source: &EbpfSource) -> TestResult {
    needs(source, "kfree_skb")?;
    needs(source, "skb_drop_reason")?;
    in_namespace(|| {
        let flow = Flow::overflow(source)?;
        let dropped = flow.watch.congestion().queue_drops.unwrap_or_default();
        equal("drops, by tc", dropped, queue()?.drops)?;
        execute("tc", &format!("qdisc change dev lo root tbf {FAST}"))?;
        let arrived = flow.arrived()?;
        equal("drops, by what arrived", dropped, DATAGRAMS - arrived)?;
        if dropped == 0 {
            return Err(Stop::Fail("the queue did not overflow".to_owned()));
        }
        Ok(format!(
            "{dropped} of {DATAGRAMS} datagrams dropped, as tc counts; {arrived} arrived"
        ))
    })
}

/// What waits in the queue, by `tc`; nothing in the end.
pub(super) fn backlog(source: &EbpfSource) -> TestResult {
    needs(source, "qdisc_enqueue")?;
    needs(source, "qdisc_dequeue")?;
    in_namespace(|| {
        let flow = Flow::overflow(source)?;
        let own = || flow.watch.congestion().queue.and_then(|queue| queue.own);
        let mut waiting = 0;
        for attempt in 1..=ATTEMPTS {
            let reported = queue()?.backlog;
            let counted = own();
            if counted == Some(reported) && reported > 0 {
                waiting = reported;
                break;
            }
            if attempt == ATTEMPTS {
                return Err(Stop::Fail(format!(
                    "bytes in the queue: counted {counted:?}, tc says {reported}"
                )));
            }
        }
        execute("tc", &format!("qdisc change dev lo root tbf {FAST}"))?;
        let start = Instant::now();
        while own() != Some(0) {
            if start.elapsed() > Duration::from_secs(5) {
                return Err(Stop::Fail(format!(
                    "bytes in the empty queue: counted {:?}",
                    own()
                )));
            }
            thread::sleep(Duration::from_millis(50));
            // A busy host may miss the last packet that leaves; the next puts that right.
            flow.send()?;
            flow.arrived()?;
        }
        Ok(format!(
            "{waiting} bytes in the queue, as tc counts; 0 when it was empty"
        ))
    })
}

/// What the sending socket is charged for, by the kernel's table of sockets.
pub(super) fn send_buffer(source: &EbpfSource) -> TestResult {
    needs(source, "sock_send_length")?;
    in_namespace(|| {
        let flow = Flow::overflow(source)?;
        let port = flow.sender.local_addr()?.port();
        for attempt in 1..=ATTEMPTS {
            flow.send()?;
            let buffers = flow.watch.sample().buffers.unwrap_or_default();
            let sockets = proc_net::sockets("udp")?;
            let Some(row) = sockets.iter().find(|row| row.local_port == port) else {
                return Err(Stop::Fail("/proc/net/udp lacks the socket".to_owned()));
            };
            let charged = u64::from(buffers.wmem);
            if charged == row.send_queue && charged > 0 {
                return Ok(format!(
                    "{charged} of {} bytes, as /proc/net/udp counts",
                    buffers.sndbuf
                ));
            }
            if attempt == ATTEMPTS {
                equal("bytes charged, by /proc/net/udp", charged, row.send_queue)?;
            }
        }
        Err(Stop::Fail(
            "nothing is charged while packets wait".to_owned(),
        ))
    })
}
