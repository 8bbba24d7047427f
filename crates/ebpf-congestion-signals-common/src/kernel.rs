//! What the loader reads from the running kernel's BTF and hands to the probes.

/// In place of an offset or an argument's index: this kernel has no such thing.
pub const ABSENT: u32 = u32::MAX;

/// Read-only data of the probes, set at load: the verifier knows every value as a constant and
/// removes what they rule out. Offsets are in bytes. All fields are `u32`, so that the record is
/// an array of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct KernelOffsets {
    /// `sk_buff.next`
    pub skb_next: u32,
    /// `sk_buff.sk`
    pub skb_sk: u32,
    /// `sk_buff.dev`
    pub skb_dev: u32,
    /// `sk_buff.cb` plus `qdisc_skb_cb.pkt_len`: on-wire length, every segment with its headers
    pub skb_pkt_len: u32,
    /// `sk_buff.len`
    pub skb_len: u32,
    /// `sk_buff.truesize`
    pub skb_truesize: u32,
    /// `sk_buff.protocol`
    pub skb_protocol: u32,
    /// `sk_buff.skb_iif`
    pub skb_iif: u32,
    /// `sk_buff.network_header`
    pub skb_network_header: u32,
    /// `sk_buff.transport_header`
    pub skb_transport_header: u32,
    /// `sk_buff.head`
    pub skb_head: u32,
    /// `sk_buff.data`
    pub skb_data: u32,
    /// `sk_buff.end`
    pub skb_end: u32,
    /// `skb_shared_info.gso_segs`
    pub shinfo_gso_segs: u32,
    /// `net_device.nd_net.net`
    pub dev_net: u32,
    /// `net_device.ifindex`
    pub dev_ifindex: u32,
    /// `net.net_cookie`, or [`ABSENT`] where it is not a plain number
    pub net_cookie: u32,
    /// `sock.__sk_common.skc_cookie`
    pub sk_cookie: u32,
    /// `sock.__sk_common.skc_family`
    pub sk_family: u32,
    /// `sock.sk_protocol`
    pub sk_protocol: u32,
    /// `sock.sk_wmem_alloc`
    pub sk_wmem_alloc: u32,
    /// `sock.sk_wmem_queued`
    pub sk_wmem_queued: u32,
    /// `sock.sk_sndbuf`
    pub sk_sndbuf: u32,
    /// `sock.sk_backlog.rmem_alloc`
    pub sk_rmem_alloc: u32,
    /// `sock.sk_rcvbuf`
    pub sk_rcvbuf: u32,
    /// `Qdisc.flags`
    pub qdisc_flags: u32,
    /// `Qdisc.handle`
    pub qdisc_handle: u32,
    /// `Qdisc.q.qlen`
    pub qdisc_qlen: u32,
    /// `Qdisc.qstats.backlog`
    pub qdisc_backlog: u32,
    /// `Qdisc.dev_queue`
    pub qdisc_dev_queue: u32,
    /// `netdev_queue.dev`
    pub netdev_queue_dev: u32,
    /// Index of `kfree_skb`'s argument `reason`, or [`ABSENT`] (before 5.17)
    pub kfree_skb_reason: u32,
    /// Index of `kfree_skb`'s argument `rx_sk`, or [`ABSENT`] (before 6.11)
    pub kfree_skb_rx_sk: u32,
    /// `sk_buff.cb` plus `tc_skb_cb.drop_reason` where segmentation overwrites that (6.19 and
    /// later); [`ABSENT`] where it does not
    pub skb_lost_reason: u32,
    /// Number of the reason `QDISC_DROP`, or [`ABSENT`]
    pub reason_qdisc_drop: u32,
    /// Number of the reason `NOT_SPECIFIED` where a queue discipline drops for that at dequeue;
    /// [`ABSENT`] where it has a reason for it (from about 6.14 on), or where there are none
    pub reason_not_specified: u32,
    /// `net_device.adj_list.lower.next`: the first device that this one passes its packets to
    pub dev_lower: u32,
    /// `sock.sk_receive_queue.next`
    pub sk_receive_next: u32,
    /// `sock.sk_receive_queue.qlen`
    pub sk_receive_qlen: u32,
    /// `udp_sock.reader_queue.next`: where a UDP socket's packets go when the first of them is read
    pub udp_reader_next: u32,
    /// `udp_sock.reader_queue.qlen`
    pub udp_reader_qlen: u32,
    /// `Qdisc.limit`
    pub qdisc_limit: u32,
    /// `Qdisc.ops`
    pub qdisc_ops: u32,
    /// `Qdisc_ops.id`
    pub qdisc_ops_id: u32,
    /// Number of the drop reason `NOT_SPECIFIED`; 0 where the kernel has no reasons, as every drop
    /// then has the reason 0
    pub reason_silent: u32,
    /// `sk_buff.hash`
    pub skb_hash: u32,
    /// `sk_buff.priority`
    pub skb_priority: u32,
    /// `sk_buff.queue_mapping`
    pub skb_queue_mapping: u32,
    /// `sk_buff.__pkt_type_offset`: the byte whose low 3 bits are `pkt_type`
    pub skb_pkt_type: u32,
    /// `sk_buff.inner_network_header`
    pub skb_inner_network_header: u32,
    /// `net_device._tx`
    pub dev_tx: u32,
    /// `net_device.rtnl_link_ops`
    pub dev_link_ops: u32,
    /// `rtnl_link_ops.kind`
    pub link_ops_kind: u32,
    /// `netdev_queue.qdisc`
    pub netdev_queue_qdisc: u32,
    /// Size of `struct netdev_queue`
    pub netdev_queue_bytes: u32,
    /// `sock.__sk_common.skc_state`
    pub sk_state: u32,
    /// `sock.__sk_common.skc_num`: the local port, host byte order
    pub sk_num: u32,
    /// `Qdisc.q.tail`
    pub qdisc_tail: u32,
    /// `Qdisc.qstats.requeues`
    pub qdisc_requeues: u32,
    /// Number of the reason `QUEUE_PURGE`, or [`ABSENT`]
    pub reason_purge: u32,
    /// Number of the reason `PACKET_SOCK_ERROR`, or [`ABSENT`] (before 6.8)
    pub reason_tap: u32,
    /// Number of the reason `QDISC_CONGESTED`, or [`ABSENT`]
    pub reason_congested: u32,
    /// [`Layout::cpus`](crate::Layout::cpus)
    pub cpus: u32,
    /// Number of the reason `XDP`, or [`ABSENT`]
    pub reason_xdp: u32,
    /// `sock.__sk_common.skc_net.net`
    pub sk_net: u32,
    /// Events that each CPU may write in a second
    pub events_per_second: u32,
    /// 1: the packets of all sockets are counted, [`ABSENT`]: those of watched flows alone
    pub counts_all: u32,
}

impl KernelOffsets {
    /// A record that knows nothing: every field [`ABSENT`].
    pub const UNKNOWN: Self = Self {
        skb_next: ABSENT,
        skb_sk: ABSENT,
        skb_dev: ABSENT,
        skb_pkt_len: ABSENT,
        skb_len: ABSENT,
        skb_truesize: ABSENT,
        skb_protocol: ABSENT,
        skb_iif: ABSENT,
        skb_network_header: ABSENT,
        skb_transport_header: ABSENT,
        skb_head: ABSENT,
        skb_data: ABSENT,
        skb_end: ABSENT,
        shinfo_gso_segs: ABSENT,
        dev_net: ABSENT,
        dev_ifindex: ABSENT,
        net_cookie: ABSENT,
        sk_cookie: ABSENT,
        sk_family: ABSENT,
        sk_protocol: ABSENT,
        sk_wmem_alloc: ABSENT,
        sk_wmem_queued: ABSENT,
        sk_sndbuf: ABSENT,
        sk_rmem_alloc: ABSENT,
        sk_rcvbuf: ABSENT,
        qdisc_flags: ABSENT,
        qdisc_handle: ABSENT,
        qdisc_qlen: ABSENT,
        qdisc_backlog: ABSENT,
        qdisc_dev_queue: ABSENT,
        netdev_queue_dev: ABSENT,
        kfree_skb_reason: ABSENT,
        kfree_skb_rx_sk: ABSENT,
        skb_lost_reason: ABSENT,
        reason_qdisc_drop: ABSENT,
        reason_not_specified: ABSENT,
        dev_lower: ABSENT,
        sk_receive_next: ABSENT,
        sk_receive_qlen: ABSENT,
        udp_reader_next: ABSENT,
        udp_reader_qlen: ABSENT,
        qdisc_limit: ABSENT,
        qdisc_ops: ABSENT,
        qdisc_ops_id: ABSENT,
        reason_silent: ABSENT,
        skb_hash: ABSENT,
        skb_priority: ABSENT,
        skb_queue_mapping: ABSENT,
        skb_pkt_type: ABSENT,
        skb_inner_network_header: ABSENT,
        dev_tx: ABSENT,
        dev_link_ops: ABSENT,
        link_ops_kind: ABSENT,
        netdev_queue_qdisc: ABSENT,
        netdev_queue_bytes: ABSENT,
        sk_state: ABSENT,
        sk_num: ABSENT,
        qdisc_tail: ABSENT,
        qdisc_requeues: ABSENT,
        reason_purge: ABSENT,
        reason_tap: ABSENT,
        reason_congested: ABSENT,
        cpus: ABSENT,
        reason_xdp: ABSENT,
        sk_net: ABSENT,
        events_per_second: ABSENT,
        counts_all: ABSENT,
    };
}

const _: () = assert!(size_of::<KernelOffsets>().is_multiple_of(4));
