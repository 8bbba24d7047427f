//! The probes of `ebpf-congestion-signals`: BTF tracepoints that count what the kernel does with
//! packets, into slots that user space maps.
//!
//! Each program here is a thin entry point; the work is done in the module that it calls. Nothing is
//! sent to user space per packet: slots hold sums, and the ring carries rare events only.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(
    internal_features,
    reason = "the only way to an atomic add that this target has"
)]

mod atomic;
mod attribution;
mod buffers;
mod drops;
mod events;
mod in_queue;
mod kernel;
mod maps;
mod owner;
mod packet;
mod pressure;
mod queue;
mod queue_slot;
mod send;
mod socket_kind;
mod softirq;

use aya_ebpf::macros::{btf_tracepoint, fexit};
use aya_ebpf::programs::{BtfTracePointContext, FExitContext};
use ebpf_congestion_signals_common::ABSENT;
use kernel::{Qdisc, Skb, Sock, fact};

/// Does nothing: what the kernel accounts to it is what accounting costs.
#[btf_tracepoint(function = "net_dev_queue")]
pub fn nothing(_ctx: BtfTracePointContext) -> i32 {
    0
}

/// A packet is about to be put into a device's queue (or handed to a device without one).
#[btf_tracepoint(function = "net_dev_queue")]
pub fn net_dev_queue(ctx: BtfTracePointContext) -> i32 {
    send::device_takes(Skb::new(ctx.arg(0)));
    0
}

/// A queue discipline took a packet.
#[btf_tracepoint(function = "qdisc_enqueue")]
pub fn qdisc_enqueue(ctx: BtfTracePointContext) -> i32 {
    queue::enqueued(Qdisc::new(ctx.arg(0)), Skb::new(ctx.arg(2)));
    0
}

/// A queue discipline gave packets to the device, or had none to give.
#[btf_tracepoint(function = "qdisc_dequeue")]
pub fn qdisc_dequeue(ctx: BtfTracePointContext) -> i32 {
    queue::dequeued(Qdisc::known(ctx.arg(0)), ctx.arg(2), Skb::list(ctx.arg(3)));
    0
}

/// A queue discipline threw away all it held.
#[btf_tracepoint(function = "qdisc_reset")]
pub fn qdisc_reset(ctx: BtfTracePointContext) -> i32 {
    queue::reset(Qdisc::known(ctx.arg(0)));
    0
}

/// A queue discipline goes.
#[btf_tracepoint(function = "qdisc_destroy")]
pub fn qdisc_destroy(ctx: BtfTracePointContext) -> i32 {
    queue::destroyed(Qdisc::known(ctx.arg(0)));
    0
}

/// A queue discipline is about to drop a packet.
#[btf_tracepoint(function = "qdisc_drop")]
pub fn qdisc_drop(ctx: BtfTracePointContext) -> i32 {
    drops::refused(Skb::new(ctx.arg(3)), ctx.arg(4));
    0
}

/// A packet was freed because it was dropped.
#[btf_tracepoint(function = "kfree_skb")]
pub fn kfree_skb(ctx: BtfTracePointContext) -> i32 {
    let reason = if fact!(kfree_skb_reason) == ABSENT {
        0
    } else {
        ctx.arg::<u32>(2)
    };
    let receiver = if fact!(kfree_skb_rx_sk) == ABSENT {
        Sock::NONE
    } else {
        Sock::or_none(ctx.arg(3))
    };
    drops::dropped(Skb::new(ctx.arg(0)), ctx.arg(1), reason, receiver);
    0
}

/// A send on any socket has ended.
#[btf_tracepoint(function = "sock_send_length")]
pub fn sock_send_length(ctx: BtfTracePointContext) -> i32 {
    send::socket_took(Sock::new(ctx.arg(0)), ctx.arg(1));
    0
}

/// A receive on any socket has ended.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn sock_recv_length(ctx: BtfTracePointContext) -> i32 {
    buffers::read_from(Sock::new(ctx.arg(0)));
    0
}

/// A send over UDP and IPv4 has ended, on kernels without `sock_send_length`.
#[fexit(function = "udp_sendmsg")]
pub fn udp_sendmsg(ctx: FExitContext) -> i32 {
    send::udp_took(Sock::new(ctx.arg(0)), ctx.arg(3));
    0
}

/// A send of an IPv6 socket over UDP has ended.
#[fexit(function = "udpv6_sendmsg")]
pub fn udpv6_sendmsg(ctx: FExitContext) -> i32 {
    send::socket_took(Sock::new(ctx.arg(0)), ctx.arg(3));
    0
}

/// A send over TCP has ended.
#[fexit(function = "tcp_sendmsg")]
pub fn tcp_sendmsg(ctx: FExitContext) -> i32 {
    send::socket_took(Sock::new(ctx.arg(0)), ctx.arg(3));
    0
}

/// A page sent over TCP, as `sendfile` does on kernels before 6.5.
#[fexit(function = "tcp_sendpage")]
pub fn tcp_sendpage(ctx: FExitContext) -> i32 {
    send::socket_took(Sock::new(ctx.arg(0)), ctx.arg(5));
    0
}

/// A receive over UDP and IPv4 has ended, on kernels without `sock_recv_length`.
#[fexit(function = "udp_recvmsg")]
pub fn udp_recvmsg(ctx: FExitContext) -> i32 {
    buffers::read_from(Sock::new(ctx.arg(0)));
    0
}

/// A receive over UDP and IPv6 has ended.
#[fexit(function = "udpv6_recvmsg")]
pub fn udpv6_recvmsg(ctx: FExitContext) -> i32 {
    buffers::read_from(Sock::new(ctx.arg(0)));
    0
}

/// A receive over TCP has ended.
#[fexit(function = "tcp_recvmsg")]
pub fn tcp_recvmsg(ctx: FExitContext) -> i32 {
    buffers::read_from(Sock::new(ctx.arg(0)));
    0
}

/// A UDP socket's receive buffer had no room, on kernels whose `kfree_skb` does not say whose.
#[btf_tracepoint(function = "udp_fail_queue_rcv_skb")]
pub fn udp_fail_queue_rcv_skb(ctx: BtfTracePointContext) -> i32 {
    buffers::overflowed(Sock::new(ctx.arg(1)));
    0
}

/// A softirq is asked for.
#[btf_tracepoint(function = "softirq_raise")]
pub fn softirq_raise(ctx: BtfTracePointContext) -> i32 {
    softirq::raised(ctx.arg(0));
    0
}

/// A softirq handler begins.
#[btf_tracepoint(function = "softirq_entry")]
pub fn softirq_entry(ctx: BtfTracePointContext) -> i32 {
    softirq::entered(ctx.arg(0));
    0
}

/// A softirq handler has ended.
#[btf_tracepoint(function = "softirq_exit")]
pub fn softirq_exit(ctx: BtfTracePointContext) -> i32 {
    softirq::left(ctx.arg(0));
    0
}

/// A network device was polled for packets.
#[btf_tracepoint(function = "napi_poll")]
pub fn napi_poll(_ctx: BtfTracePointContext) -> i32 {
    softirq::polled();
    0
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The licence declared to the kernel; some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
