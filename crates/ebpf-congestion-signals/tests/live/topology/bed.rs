//! Namespaces joined by cables, and what `tc` says of their queues.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{Direction, DropClass, EbpfSource, SignalSource, Watch};
use netlab::Namespace;
use nix::sys::socket::{setsockopt, sockopt};

use crate::known::Known;
use crate::traffic::{PAYLOAD, send_batch};

/// A datagram on the wire: headers of Ethernet, IPv4 and UDP.
pub(super) const ON_WIRE: u64 = PAYLOAD as u64 + 14 + 20 + 8;

/// Segments of a batch.
pub(super) const SEGMENTS: usize = 10;

/// Runs commands in a namespace, one after the other, with ` && ` between; no shell is needed.
/// Answers what the last one printed.
pub(super) fn try_sh(namespace: &Namespace, line: &str) -> Result<String, String> {
    let mut printed = String::new();
    for command in line.split(" && ") {
        let mut words = command.split_whitespace();
        let program = words.next().unwrap_or_default();
        let output = namespace.command(program).args(words).output();
        let output = output.map_err(|error| format!("{command}: {error}"))?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{command}: {error}"));
        }
        printed = String::from_utf8_lossy(&output.stdout).into_owned();
    }
    Ok(printed)
}

/// # Panics
///
/// When the line fails.
pub(super) fn sh(namespace: &Namespace, line: &str) -> String {
    try_sh(namespace, line).unwrap_or_else(|error| panic!("{error}"))
}

/// Sets a device up that sends nothing of its own.
pub(super) fn quiet_up(namespace: &Namespace, device: &str) {
    sh(
        namespace,
        &format!(
            "ip link set dev {device} multicast off addrgenmode none && ip link set dev {device} up"
        ),
    );
}

fn wait_up(namespace: &Namespace, device: &str) {
    let start = Instant::now();
    let state = || sh(namespace, &format!("ip -j link show dev {device}"));
    while !state().contains("\"operstate\":\"UP\"") {
        assert!(start.elapsed() < Duration::from_secs(5), "{device} is down");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A veth pair with link-layer addresses 02:00:00:00:`number`:01 and :02.
pub(super) fn cable(
    [a, b]: [&Namespace; 2],
    [a_device, b_device]: [&str; 2],
    number: u8,
    options: &str,
) {
    let there = format!("/proc/{}/fd/{}", std::process::id(), b.as_fd().as_raw_fd());
    sh(
        a,
        &format!(
            "ip link add {a_device} address 02:00:00:00:{number:02}:01 {options} type veth \
             peer name {b_device} address 02:00:00:00:{number:02}:02 {options} netns {there}"
        ),
    );
    for (namespace, device) in [(a, a_device), (b, b_device)] {
        quiet_up(namespace, device);
    }
    wait_up(a, a_device);
    wait_up(b, b_device);
}

pub(super) fn address(namespace: &Namespace, device: &str, address: &str) {
    sh(namespace, &format!("ip address add {address} dev {device}"));
}

pub(super) fn neighbour(namespace: &Namespace, device: &str, ip: &str, link_layer: &str) {
    sh(
        namespace,
        &format!("ip neigh replace {ip} lladdr {link_layer} dev {device} nud permanent"),
    );
}

/// Two namespaces and a cable a0 - b0, with 10.9.1.1 and 10.9.1.2.
pub(super) struct Pair {
    pub(super) a: Namespace,
    pub(super) b: Namespace,
}

impl Pair {
    pub(super) fn new(options: &str) -> Result<Self, netlab::Error> {
        let (a, b) = (Namespace::new()?, Namespace::new()?);
        cable([&a, &b], ["a0", "b0"], 1, options);
        address(&a, "a0", "10.9.1.1/24");
        address(&b, "b0", "10.9.1.2/24");
        neighbour(&a, "a0", "10.9.1.2", "02:00:00:00:01:02");
        neighbour(&b, "b0", "10.9.1.1", "02:00:00:00:01:01");
        Ok(Self { a, b })
    }

    /// A socket of a0's address.
    pub(super) fn sender(&self) -> UdpSocket {
        bind(&self.a, "10.9.1.1:0")
    }

    /// A socket of b0's address.
    pub(super) fn sink(&self) -> UdpSocket {
        bind(&self.b, "10.9.1.2:0")
    }
}

/// A socket with room for whatever a test sends.
pub(super) fn bind(namespace: &Namespace, address: &str) -> UdpSocket {
    let socket = namespace.run(|| UdpSocket::bind(address));
    let socket = socket.expect("the namespace is entered").expect(address);
    roomy(&socket);
    socket
}

pub(super) fn roomy(socket: &UdpSocket) {
    setsockopt(socket, sockopt::RcvBufForce, &(32 << 20)).expect("SO_RCVBUFFORCE");
    setsockopt(socket, sockopt::SndBufForce, &(8 << 20)).expect("SO_SNDBUFFORCE");
}

/// A queue of a namespace's device, by its handle (`1:`).
#[derive(Clone, Copy)]
pub(super) struct Qdisc<'a> {
    pub(super) namespace: &'a Namespace,
    pub(super) device: &'a str,
    pub(super) handle: &'a str,
}

/// What `tc` says of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    pub(super) backlog: u64,
    pub(super) drops: u64,
    pub(super) packets: u64,
}

impl Qdisc<'_> {
    pub(super) fn told(&self) -> Told {
        let shown = sh(
            self.namespace,
            &format!("tc -s -j qdisc show dev {}", self.device),
        );
        let all: Vec<serde_json::Value> = serde_json::from_str(&shown).expect("tc writes JSON");
        let found = all.iter().find(|entry| entry["handle"] == self.handle);
        let found = found.unwrap_or_else(|| panic!("{} in {shown}", self.handle));
        let number = |name: &str| found[name].as_u64().unwrap_or(0);
        Told {
            backlog: number("backlog"),
            drops: number("drops"),
            packets: number("packets"),
        }
    }
}

pub(super) fn own(watch: &Watch) -> u64 {
    watch.known().queue.map_or(0, |queue| queue.own)
}

/// How far `own` is from the queues' backlog, at the worst of several samples.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) samples: u32,
    /// Bytes that `own` is too high or too low.
    pub(super) worst: u64,
    /// `own` and the backlog at that sample.
    at: (u64, u64),
    /// The largest backlog that was compared with.
    pub(super) largest: u64,
}

impl Comparison {
    /// Samples `own` before and after `tc`, whose answer must lie between.
    pub(super) fn sample(&mut self, watch: &Watch, queues: &[Qdisc<'_>]) {
        let before = own(watch);
        let backlog = queues.iter().map(|queue| queue.told().backlog).sum();
        let after = own(watch);
        let (low, high) = (before.min(after), before.max(after));
        let off = low.saturating_sub(backlog) + u64::saturating_sub(backlog, high);
        self.samples += 1;
        self.largest = self.largest.max(backlog);
        if off > self.worst || self.samples == 1 {
            (self.worst, self.at) = (off, (before, backlog));
        }
    }

    /// # Panics
    ///
    /// When a sample was off by more, or no queue had a backlog.
    pub(super) fn assert_within(&self, bytes: u64, what: &str) {
        // What is compared with is no empty queue; but where the processor is emulated, tc may take
        // longer to answer than the queue to run empty.
        let slow = std::env::var_os("NETLAB_EMULATED").is_some();
        assert!(
            slow || self.largest >= 5 * ON_WIRE,
            "{what}: no backlog: {self:?}"
        );
        assert!(self.worst <= bytes, "{what}: {self:?}");
    }
}

/// Sends more than the queue takes for this long, and compares ten times a second. Answers the
/// datagrams sent too.
pub(super) fn flood(
    watch: &Watch,
    (socket, to): (&UdpSocket, SocketAddr),
    time: Duration,
    queues: &[Qdisc<'_>],
) -> (u64, Comparison) {
    let start = Instant::now();
    let mut next = Duration::from_millis(100);
    let (mut sent, mut compared) = (0, Comparison::default());
    while start.elapsed() < time {
        for _ in 0..10 {
            socket.send_to(&[7; PAYLOAD], to).expect("it is sent");
            sent += 1;
        }
        if start.elapsed() > next {
            compared.sample(watch, queues);
            next = start.elapsed() + Duration::from_millis(100);
        }
        thread::sleep(Duration::from_micros(500));
    }
    (sent, compared)
}

/// All that has come by now.
pub(super) fn take(socket: &UdpSocket) -> u64 {
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    let mut buffer = [0; 2048];
    let mut count = 0;
    while socket.recv(&mut buffer).is_ok() {
        count += 1;
    }
    socket.set_nonblocking(false).expect("O_NONBLOCK");
    count
}

/// Ten datagrams, singly or as one batch.
pub(super) fn ten(socket: &UdpSocket, to: SocketAddr, batch: bool) -> std::io::Result<()> {
    if batch {
        send_batch(socket, to, SEGMENTS)
    } else {
        crate::traffic::send(socket, to, SEGMENTS)
    }
}

/// A flow's drops: by full queues on the way out, all on the way out, all that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Drops {
    pub(super) queue_full: u64,
    pub(super) leaving: u64,
    pub(super) arriving: u64,
}

impl Drops {
    pub(super) const NONE: Self = Self {
        queue_full: 0,
        leaving: 0,
        arriving: 0,
    };

    /// So many by full queues on the way out, and no others.
    pub(super) fn by_queues(packets: u64) -> Self {
        Self {
            queue_full: packets,
            leaving: packets,
            arriving: 0,
        }
    }

    pub(super) fn of(watch: &Watch) -> Self {
        let table = watch.known_sample().drops;
        let (leaving, full) = (Direction::Egress, DropClass::QueueFull);
        Self {
            queue_full: table.get(leaving, full).packets,
            leaving: table.direction(leaving).packets,
            arriving: table.direction(Direction::Ingress).packets,
        }
    }
}

/// What the host counted as dropped by full queues, by direction.
pub(super) fn host_queue_drops(source: &EbpfSource) -> [u64; Direction::COUNT] {
    let drops = source.host().drops.unwrap_or_default();
    Direction::ALL.map(|direction| drops.get(direction, DropClass::QueueFull).packets)
}
