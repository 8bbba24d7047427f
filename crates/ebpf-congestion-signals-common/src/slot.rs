//! What a slot of the mapped array holds: for a CPU of the host, for a queue, for a watched flow.

use crate::Pressure;

/// Bytes of every slot: the largest record, rounded up to a power of two, so that the probes
/// index the array by a shift and no two slots share a cache line.
pub const SLOT_BYTES: usize = 1024;

/// Outgoing queues that can be distinguished at a time. A host has as many as its network devices
/// have transmit queues that watched flows leave by; beyond this number a flow's queue is unknown.
pub const QUEUE_SLOTS: u32 = 64;

/// Where each kind of slot begins in the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// One more than the highest number of a possible CPU of the host; one [`HostSlot`] each.
    pub cpus: u32,
    /// Flows that can be watched at a time, one [`FlowSlot`] each.
    pub flows: u32,
}

impl Layout {
    /// Index of the first [`QueueSlot`].
    pub const fn first_queue(self) -> u32 {
        self.cpus
    }

    /// Index of the first [`FlowSlot`].
    pub const fn first_flow(self) -> u32 {
        self.first_queue() + QUEUE_SLOTS
    }

    /// Slots in all.
    pub const fn slots(self) -> u32 {
        self.first_flow() + self.flows
    }
}

/// Why packets were dropped, as far as a sender has to tell apart. The index into arrays of
/// [`DropCounters`]; the kernel's own reason has a finer grain and is kept beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum DropClass {
    /// None of the others, or a kernel that reports no reason.
    Other = 0,
    /// A queue of this host was full, or a queue discipline signalled congestion by dropping.
    QueueFull = 1,
    /// A queue discipline dropped for a reason that is not congestion (a horizon, a filter).
    QdiscPolicy = 2,
    /// The receive buffer of a local socket was full.
    ReceiveBuffer = 3,
    /// The host or the protocol was out of memory: for UDP, all sockets together had more than
    /// `udp_mem` allows.
    NoMemory = 4,
    /// A rule said so: netfilter, a BPF program, an LSM, IPsec policy.
    Policy = 5,
    /// No socket listens at the destination.
    NoSocket = 6,
    /// Bad checksum, header, length or protocol.
    Malformed = 7,
}

impl DropClass {
    /// Number of classes.
    pub const COUNT: usize = 8;

    /// Every class, in the order of its index.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Other,
        Self::QueueFull,
        Self::QdiscPolicy,
        Self::ReceiveBuffer,
        Self::NoMemory,
        Self::Policy,
        Self::NoSocket,
        Self::Malformed,
    ];
}

/// Added to a [`DropClass`] in the table of reasons: a queue discipline drops for this reason what
/// it holds, or is to take.
pub const REASON_OF_QDISC: u32 = 1 << 8;

/// Added to each entry of the table of the kernel's core reasons that is one: the others are zero.
pub const REASON_IS_KNOWN: u32 = 1 << 9;

/// The core reasons' numbers are below this; a subsystem's have its number in the high half.
pub const CORE_REASONS: u32 = 512;

/// Which way a packet was going when it was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Direction {
    /// Sent by this host and not yet out of it.
    Egress = 0,
    /// Received from a network device (loopback is one), for a socket of this host.
    Ingress = 1,
    /// Received from a network device and forwarded by another: routed or bridged for others. Packets
    /// of a container on this host are among them once they have lost their socket: where another
    /// network namespace routes them, or bridged packets pass the firewall
    /// (`bridge-nf-call-iptables`). No flow reports these drops.
    Forwarded = 2,
}

impl Direction {
    /// Number of directions.
    pub const COUNT: usize = 3;

    /// Every direction, in the order of its index.
    pub const ALL: [Self; Self::COUNT] = [Self::Egress, Self::Ingress, Self::Forwarded];
}

/// Dropped packets. Counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DropCounters {
    /// Socket buffers (`sk_buff`): a batch of segments is one.
    pub skbs: u64,
    /// Packets on the wire: each segment of a GSO batch is one.
    pub packets: u64,
    /// Bytes of those socket buffers, headers as far as they were present at the drop (`skb->len`).
    pub bytes: u64,
}

/// What sockets handed to the kernel. Counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SendCounters {
    /// Payload bytes that `sendmsg` and its relatives accepted.
    pub bytes: u64,
    /// Successful calls.
    pub calls: u64,
    /// Those of `calls` that were not sampled: others were counted in their place. 0 while
    /// every call is counted.
    pub estimated: u64,
}

/// Protocols and address families that sends are counted by; the index into
/// [`HostSlot::send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Socket {
    /// UDP over IPv4.
    Udp4 = 0,
    /// UDP over IPv6 (also an IPv6 socket that sends to IPv4-mapped addresses).
    Udp6 = 1,
    /// TCP over IPv4.
    Tcp4 = 2,
    /// TCP over IPv6.
    Tcp6 = 3,
}

/// One in how many raises of a softirq is followed to its handler's entry: to ask for the time is
/// most of what a probe costs.
pub const WAITS_ONE_IN: u64 = 8;

/// Time in one kind of network softirq. Counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SoftirqCounters {
    /// Nanoseconds of wall time inside the handler.
    pub ns: u64,
    /// Times the handler ran.
    pub runs: u64,
    /// Nanoseconds from the raise of the softirq to the entry of its handler, of one raise in
    /// [`WAITS_ONE_IN`]. Counter.
    pub wait_ns: u64,
    /// Raises that `wait_ns` sums over. Counter.
    pub waits: u64,
}

/// One CPU's share of the host's counters; the host's are the sums over CPUs.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct HostSlot {
    /// Sends by [`Socket`] kind.
    pub send: [SendCounters; 4],
    /// Drops by [`Direction`] and [`DropClass`].
    pub drops: [[DropCounters; DropClass::COUNT]; Direction::COUNT],
    /// NET_RX softirq.
    pub net_rx: SoftirqCounters,
    /// NET_TX softirq.
    pub net_tx: SoftirqCounters,
    /// Polls of devices outside of NET_RX.
    pub polls_elsewhere: u64,
    /// Packets handed to devices, by [`Socket`] kind: each segment of a batch is one. An upper
    /// device (VLAN, bond, bridge) does not count.
    pub packets: [u64; 4],
    /// Send buffers at successful sends.
    pub send_pressure: Pressure,
    /// Receive buffers at the ends of receives.
    pub receive_pressure: Pressure,
    /// Events written to the ring.
    pub events: u64,
    /// Events not written because the rate limit was reached.
    pub events_limited: u64,
    /// Events not written because the ring was full.
    pub events_ring_full: u64,
    /// Drops whose reason found no room in the table of reasons.
    pub reasons_lost: u64,
    /// Window of the event rate limit. For the probes alone.
    pub window: crate::EventWindow,
}

/// One outgoing queue: a root queue discipline, or the one of a transmit queue below `mq`.
///
/// Where the queue discipline counts for the whole queue, its own figures are the measure. One that
/// takes no lock (`pfifo_fast`) counts for each CPU: there, what went in and came out is counted.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct QueueSlot {
    /// Kernel address of the `struct Qdisc`, which identifies the queue. 0: slot unused.
    pub qdisc: u64,
    /// Bytes in the queue. Gauge.
    pub backlog: u64,
    /// Socket buffers in the queue: a batch that the queue discipline did not split is one. Gauge.
    pub packets: u64,
    /// Counts the queues that have had this slot.
    pub generation: u32,
    /// 1: something came in since the queue last ran empty. For the probes alone.
    pub filled: u32,
    /// Times the queue ran empty. Counter; flows remember it to know that their share is gone too.
    pub drained: u64,
    /// Bytes of watched flows marked as sharing that went in. Counter.
    pub shared_entered: u64,
    /// Bytes of those flows that came out, or were dropped after they went in. Counter.
    pub shared_left: u64,
    /// Raised after each change of what a reader takes from here, or of a flow's share of it: an
    /// equal count means that nothing has changed. Counter.
    pub changes: u64,
    /// The kernel's tick when the queue's kind was last read. For the probes alone.
    pub identified: u32,
    /// The queue discipline's count of packets that the device would not take. For the probes alone.
    pub requeues: u32,
    /// How many of these have not been given to the device again. For the probes alone.
    pub requeued: u32,
    /// Index of its network device.
    pub ifindex: u32,
    /// Its handle (`tc`'s major:minor).
    pub handle: u32,
    /// Most that the queue holds, in bytes or in packets as its `kind` counts, or its `child`; 0:
    /// not known.
    pub limit: u32,
    /// Name of the queue discipline (`Qdisc_ops.id`), zeroes behind it.
    pub kind: [u8; QDISC_NAME_BYTES],
    /// First bytes of the name of the child that holds the packets of a token bucket; 0: not known,
    /// or no token bucket.
    pub child: u64,
    /// Bytes that went in, without a lock. Counter.
    pub enqueued: u64,
    /// Bytes that came out again, without a lock. Counter.
    pub dequeued: u64,
    /// Socket buffers that went in, without a lock. Counter.
    pub enqueued_packets: u64,
    /// Socket buffers that came out again, without a lock. Counter.
    pub dequeued_packets: u64,
    /// Address of the packet that was given to the device last; 0 once a packet at that address may
    /// be in the queue again. For the probes alone.
    pub given: u64,
}

/// Bytes of a queue discipline's name (`IFNAMSIZ`).
pub const QDISC_NAME_BYTES: usize = 16;

/// Occupancy of a socket's buffers as last seen, in bytes of `truesize` (what the kernel charges,
/// 1.1 to 2 times the payload). Gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct BufferGauges {
    /// Bytes in the send buffer: `sk_wmem_alloc` for UDP.
    pub wmem: u32,
    /// Limit of the send buffer: `sk_sndbuf`.
    pub sndbuf: u32,
    /// Bytes in the receive buffer: `sk_rmem_alloc`.
    pub rmem: u32,
    /// Limit of the receive buffer: `sk_rcvbuf`.
    pub rcvbuf: u32,
    /// Payload bytes of the last packet that left the socket.
    pub sent_payload: u32,
    /// What it was charged for (`truesize`): gives the share of payload in `wmem`.
    pub sent_truesize: u32,
    /// Payload bytes of the packet that was first in the receive buffer.
    pub received_payload: u32,
    /// What it was charged for.
    pub received_truesize: u32,
}

/// One in how many packets of a flow has its time in the queue taken, at most.
pub const SOJOURNS_ONE_IN: u64 = 8;

/// Time that packets of a flow spent in a queue of this host, from its enqueue to its dequeue.
/// `sum_ns` and `samples` are counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SojournCounters {
    /// Nanoseconds, summed over the packets followed.
    pub sum_ns: u64,
    /// Packets followed to their end.
    pub samples: u64,
    /// Nanoseconds of the last one. Gauge.
    pub last_ns: u64,
    /// Packets to come in before the one whose time is taken next. For the probes alone.
    pub until_due: u64,
}

/// Queues that a flow is counted in at a time.
pub const FLOW_QUEUES: usize = 4;

/// What a flow has in one queue. It counts while the queue's slot is of this generation and was not
/// empty since.
///
/// One packet at a time is followed by its address. A queue keeps the order of a flow, so when that
/// packet leaves, what is left of the flow is what came in behind it: whatever was miscounted until
/// then is put right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct InQueue {
    /// Index of the [`QueueSlot`] among the queues, plus one; 0: unused.
    pub queue: u32,
    /// The generation of the queue's slot.
    pub generation: u32,
    /// The queue's `drained` at the last entry.
    pub drained: u64,
    /// Bytes that came in, as the queue discipline counts them. Counter.
    pub entered: u64,
    /// Bytes that left, or were dropped inside. Counter.
    pub left: u64,
    /// Address of the packet that is followed; 0: none is. For the probes alone.
    pub followed: u64,
    /// `entered` behind it. For the probes alone.
    pub followed_end: u64,
    /// Kernel time at which it came in; 0: its time is not taken. For the probes alone.
    pub followed_since: u64,
    /// `entered` when last a packet came in that the queue may keep apart from the one before. For
    /// the probes alone.
    pub order_since: u64,
    /// By what the queue may keep the last packet apart. For the probes alone.
    pub order: u32,
    /// 1: counted in the queue's `shared_entered` and `shared_left`. For the probes alone.
    pub shared: u32,
}

/// A watched flow: a socket, or one remote address of a socket.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct FlowSlot {
    /// Kernel time (CLOCK_MONOTONIC, nanoseconds) of the last packet seen, to a tick of the kernel;
    /// 0: none yet.
    pub updated_ns: u64,
    /// Counts the flows that have had this slot: what belongs to another generation is not this
    /// flow's.
    pub generation: u32,
    /// Which of `queues` was entered last, plus one; 0: none yet (or the device has no queue).
    pub queue: u32,
    /// What the flow has in the queues that it is in.
    pub queues: [InQueue; FLOW_QUEUES],
    /// Bytes by which following packets put the count right. Counter.
    pub corrected: u64,
    /// Socket buffers handed to a network device's queue. Counter.
    pub sent_skbs: u64,
    /// Payload bytes handed to it. Counter.
    pub sent_bytes: u64,
    /// Packets handed to it, segments counted. Counter.
    pub sent_packets: u64,
    /// 1: the flow entered a queue last that it cannot be counted in, because there are more than
    /// [`FLOW_QUEUES`] or [`QUEUE_SLOTS`].
    pub uncounted: u32,
    /// Raised after each drop, and after each change of `queue`, of `uncounted` or of which queue a
    /// record of `queues` is for. Counter.
    pub changes: u32,
    /// What the socket accepted (a whole socket's flow only).
    pub send: SendCounters,
    /// Buffers of the flow's socket.
    pub buffers: BufferGauges,
    /// Whether `wmem` is above the pressure threshold: 1 above, 0 below. For the probes alone.
    pub wmem_pressed: u32,
    /// The same for `rmem`. For the probes alone.
    pub rmem_pressed: u32,
    /// Kernel time of the last crossing of a pressure threshold. For the probes alone.
    pub pressure_ns: u64,
    /// The send buffer at each sample.
    pub send_pressure: Pressure,
    /// The receive buffer at each sample.
    pub receive_pressure: Pressure,
    /// Time in the queue.
    pub sojourn: SojournCounters,
    /// Drops by [`DropClass`], of packets [egress](Direction::Egress) and
    /// [ingress](Direction::Ingress): a forwarded packet is no flow's.
    pub drops: [[DropCounters; DropClass::COUNT]; 2],
    /// Kernel time of the last drop; 0: none yet.
    pub last_drop_ns: u64,
    /// The bulk that a queue gave to its device with the flow's last packet in it. For the probes
    /// alone.
    pub bulk: u32,
    /// What the flow's packets in that bulk take of the send buffer. For the probes alone.
    pub bulk_truesize: u32,
}

const _: () = {
    assert!(size_of::<HostSlot>() <= SLOT_BYTES);
    assert!(size_of::<QueueSlot>() <= SLOT_BYTES);
    assert!(size_of::<FlowSlot>() <= SLOT_BYTES);
    assert!(SLOT_BYTES.is_power_of_two());
    assert!(size_of::<DropCounters>() == 24);
    assert!(size_of::<SendCounters>() == 24);
    assert!(size_of::<SoftirqCounters>() == 32);
    assert!(size_of::<BufferGauges>() == 32);
    assert!(size_of::<SojournCounters>() == 32);
    assert!(size_of::<InQueue>() == 72);
    // The fields that show whether a flow has changed are in one cache line.
    assert!(
        core::mem::offset_of!(FlowSlot, sent_packets) / 64
            == core::mem::offset_of!(FlowSlot, changes) / 64
    );
    assert!(core::mem::offset_of!(FlowSlot, send_pressure).is_multiple_of(8));
    assert!(core::mem::offset_of!(HostSlot, send_pressure).is_multiple_of(8));
    assert!(core::mem::offset_of!(QueueSlot, kind).is_multiple_of(8));
    assert!(core::mem::offset_of!(FlowSlot, drops).is_multiple_of(8));
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_puts_cpus_then_queues_then_flows() {
        let layout = Layout { cpus: 2, flows: 10 };
        assert_eq!(layout.first_queue(), 2);
        assert_eq!(layout.first_flow(), 2 + QUEUE_SLOTS);
        assert_eq!(layout.slots(), 2 + QUEUE_SLOTS + 10);
    }

    #[test]
    fn classes_are_listed_in_the_order_of_their_index() {
        for (index, class) in DropClass::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, index);
        }
    }
}
