//! The probes of the object: what each hooks, and what it is for.

use super::options::{EbpfOptions, Signal};

/// A probe and what it is for.
pub(super) struct Probe {
    /// Name of the program in the object, and of what it hooks.
    pub(super) name: &'static str,
    pub(super) hook: Hook,
    pub(super) gives: &'static str,
    /// The signals that it is needed for.
    pub(super) signals: &'static [Signal],
}

/// Where a probe attaches.
pub(super) enum Hook {
    /// A BTF tracepoint.
    Tracepoint {
        /// First kernel that has it with the arguments that the probe reads.
        since: &'static str,
    },
    /// A BTF tracepoint that is of use where `kfree_skb` does not have the receiving socket, before
    /// 6.11.
    WithoutReceiver,
    /// The exit of a function with so many arguments, where a tracepoint is missing.
    Function {
        args: usize,
        instead_of: &'static str,
    },
}

/// Sees every packet that the host sends: the one that no set of probes is without.
pub(super) const PACKETS: &str = "net_dev_queue";

/// Counts sends; on kernels without it, functions do.
pub(super) const SEND: &str = "sock_send_length";

/// Sees receives; on kernels without it, functions do.
pub(super) const RECEIVE: &str = "sock_recv_length";

const fn tracepoint(
    name: &'static str,
    since: &'static str,
    gives: &'static str,
    signals: &'static [Signal],
) -> Probe {
    Probe {
        name,
        hook: Hook::Tracepoint { since },
        gives,
        signals,
    }
}

const SENDS: &[Signal] = &[Signal::Sends, Signal::Buffers];
const RECEIVES: &[Signal] = &[Signal::Buffers];

const fn send_function(name: &'static str, args: usize, gives: &'static str) -> Probe {
    Probe {
        name,
        hook: Hook::Function {
            args,
            instead_of: SEND,
        },
        gives,
        signals: SENDS,
    }
}

const fn receive_function(name: &'static str, args: usize, gives: &'static str) -> Probe {
    Probe {
        name,
        hook: Hook::Function {
            args,
            instead_of: RECEIVE,
        },
        gives,
        signals: RECEIVES,
    }
}

/// Every probe. One on a function comes after the tracepoint that it replaces.
pub(super) const PROBES: [Probe; 21] = [
    tracepoint(
        "kfree_skb",
        "Linux 5.10",
        "drops by reason, class and owner",
        &[Signal::Drops],
    ),
    tracepoint(
        "qdisc_drop",
        "Linux 7.1",
        "the queue discipline's own drop reason",
        &[Signal::Drops],
    ),
    tracepoint(
        PACKETS,
        "Linux 5.10",
        "packets that sockets send",
        &[Signal::Sends, Signal::Drops, Signal::Queues],
    ),
    tracepoint(
        "qdisc_enqueue",
        "Linux 5.15",
        "what enters the queues that watched flows leave by",
        &[Signal::Queues],
    ),
    tracepoint(
        "qdisc_dequeue",
        "Linux 5.10",
        "what leaves those queues",
        &[Signal::Queues],
    ),
    tracepoint(
        "qdisc_reset",
        "Linux 5.10",
        "queues thrown away",
        &[Signal::Queues],
    ),
    tracepoint(
        "qdisc_destroy",
        "Linux 5.10",
        "queues that are gone",
        &[Signal::Queues],
    ),
    tracepoint(
        SEND,
        "Linux 6.3",
        "bytes that sockets send, and their send buffers' occupancy",
        SENDS,
    ),
    send_function("udp_sendmsg", 3, "sends over UDP and IPv4"),
    send_function("udpv6_sendmsg", 3, "sends over UDP and IPv6"),
    send_function("tcp_sendmsg", 3, "sends over TCP"),
    send_function("tcp_sendpage", 5, "pages sent over TCP"),
    tracepoint(RECEIVE, "Linux 6.3", "receive buffers' occupancy", RECEIVES),
    receive_function("udp_recvmsg", 1, "receives over UDP and IPv4"),
    receive_function("udpv6_recvmsg", 1, "receives over UDP and IPv6"),
    receive_function("tcp_recvmsg", 1, "receives over TCP"),
    Probe {
        name: "udp_fail_queue_rcv_skb",
        hook: Hook::WithoutReceiver,
        gives: "receive buffers that overflow; before Linux 6.4 those of IPv4 only",
        signals: &[Signal::Buffers, Signal::Drops],
    },
    tracepoint(
        "softirq_raise",
        "Linux 5.10",
        "wait for network softirqs",
        &[Signal::Softirqs],
    ),
    tracepoint(
        "softirq_entry",
        "Linux 5.10",
        "time in network softirqs",
        &[Signal::Softirqs],
    ),
    tracepoint(
        "softirq_exit",
        "Linux 5.10",
        "time in network softirqs",
        &[Signal::Softirqs],
    ),
    tracepoint(
        "napi_poll",
        "Linux 5.10",
        "whether devices are polled outside of softirqs",
        &[Signal::Softirqs],
    ),
];

/// A program that does nothing, on the tracepoint that every packet sent comes by: what the kernel
/// accounts to it is what accounting costs.
pub(super) const NOTHING: (&str, &str) = ("nothing", "net_dev_queue");

impl Probe {
    pub(super) fn is_needed(&self, options: &EbpfOptions) -> bool {
        self.signals.iter().any(|signal| options.has(*signal))
    }
}

/// The names by which BTF knows what the probes hook.
pub(super) fn hook_types() -> Vec<String> {
    let probes = PROBES.iter().map(|probe| match probe.hook {
        Hook::Tracepoint { .. } | Hook::WithoutReceiver => format!("btf_trace_{}", probe.name),
        Hook::Function { .. } => probe.name.to_owned(),
    });
    probes.chain([format!("btf_trace_{}", NOTHING.1)]).collect()
}
