//! Reads from the running kernel's BTF the offsets and arguments that the probes need.

use ebpf_congestion_signals_common::{ABSENT, KernelOffsets};

use crate::btf::{Btf, BtfError};

/// The offsets that BTF has, and those that it lacks.
pub(super) struct Offsets {
    pub(super) kernel: KernelOffsets,
    /// Members that this kernel lacks; a probe that needs one of them will be rejected.
    pub(super) missing: Vec<String>,
}

/// What BTF does not say of the running kernel.
pub(super) struct Host {
    /// Whether the kernel has `SO_NETNS_COOKIE`.
    pub(super) has_netns_cookie: bool,
}

/// Where software segmentation writes in `sk_buff.cb` (`SKB_GSO_CB_OFFSET`): from 6.19 on
/// `tc_skb_cb.drop_reason` lies there, so that a segment's reason is overwritten by its GSO skb's headroom.
const SEGMENTATION_WRITES_AT: u32 = 32;

/// Reads all offsets; a member that this kernel lacks is no error here.
pub(super) fn read(btf: &Btf, host: &Host) -> Result<Offsets, BtfError> {
    let mut missing = Vec::new();
    let mut at = |composite: &str, path: &str| match btf.member(composite, path) {
        Ok(member) => Ok(member.offset),
        Err(absence) if absence.is_absence() => {
            missing.push(absence.to_string());
            Ok(ABSENT)
        }
        Err(damage) => Err(damage),
    };
    let kernel = KernelOffsets {
        skb_next: at("sk_buff", "next")?,
        skb_sk: at("sk_buff", "sk")?,
        skb_dev: at("sk_buff", "dev")?,
        skb_pkt_len: at("sk_buff", "cb")?.saturating_add(at("qdisc_skb_cb", "pkt_len")?),
        skb_len: at("sk_buff", "len")?,
        skb_truesize: at("sk_buff", "truesize")?,
        skb_protocol: at("sk_buff", "protocol")?,
        skb_iif: at("sk_buff", "skb_iif")?,
        skb_network_header: at("sk_buff", "network_header")?,
        skb_transport_header: at("sk_buff", "transport_header")?,
        skb_head: at("sk_buff", "head")?,
        skb_data: at("sk_buff", "data")?,
        skb_end: at("sk_buff", "end")?,
        shinfo_gso_segs: at("skb_shared_info", "gso_segs")?,
        dev_net: at("net_device", "nd_net.net")?,
        dev_ifindex: at("net_device", "ifindex")?,
        // Before 5.14 there is no SO_NETNS_COOKIE to compare with.
        net_cookie: if host.has_netns_cookie {
            at("net", "net_cookie")?
        } else {
            ABSENT
        },
        sk_cookie: at("sock", "__sk_common.skc_cookie")?,
        sk_family: at("sock", "__sk_common.skc_family")?,
        sk_protocol: at("sock", "sk_protocol")?,
        sk_wmem_alloc: at("sock", "sk_wmem_alloc")?,
        sk_wmem_queued: at("sock", "sk_wmem_queued")?,
        sk_sndbuf: at("sock", "sk_sndbuf")?,
        sk_rmem_alloc: at("sock", "sk_backlog.rmem_alloc")?,
        sk_rcvbuf: at("sock", "sk_rcvbuf")?,
        qdisc_flags: at("Qdisc", "flags")?,
        qdisc_handle: at("Qdisc", "handle")?,
        qdisc_qlen: at("Qdisc", "q.qlen")?,
        qdisc_backlog: at("Qdisc", "qstats.backlog")?,
        qdisc_dev_queue: at("Qdisc", "dev_queue")?,
        netdev_queue_dev: at("netdev_queue", "dev")?,
        dev_lower: at("net_device", "adj_list.lower.next")?,
        sk_receive_next: at("sock", "sk_receive_queue.next")?,
        sk_receive_qlen: at("sock", "sk_receive_queue.qlen")?,
        udp_reader_next: at("udp_sock", "reader_queue.next")?,
        udp_reader_qlen: at("udp_sock", "reader_queue.qlen")?,
        qdisc_limit: at("Qdisc", "limit")?,
        qdisc_ops: at("Qdisc", "ops")?,
        qdisc_ops_id: at("Qdisc_ops", "id")?,
        skb_hash: at("sk_buff", "hash")?,
        skb_priority: at("sk_buff", "priority")?,
        skb_queue_mapping: at("sk_buff", "queue_mapping")?,
        skb_pkt_type: at("sk_buff", "__pkt_type_offset")?,
        skb_inner_network_header: at("sk_buff", "inner_network_header")?,
        dev_tx: at("net_device", "_tx")?,
        dev_link_ops: at("net_device", "rtnl_link_ops")?,
        link_ops_kind: at("rtnl_link_ops", "kind")?,
        netdev_queue_qdisc: at("netdev_queue", "qdisc")?,
        sk_state: at("sock", "__sk_common.skc_state")?,
        sk_net: at("sock", "__sk_common.skc_net.net")?,
        sk_num: at("sock", "__sk_common.skc_num")?,
        qdisc_tail: at("Qdisc", "q.tail")?,
        qdisc_requeues: at("Qdisc", "qstats.requeues")?,
        kfree_skb_reason: ABSENT,
        kfree_skb_rx_sk: ABSENT,
        ..KernelOffsets::UNKNOWN
    };
    let kfree_skb = match btf.tracepoint_args("kfree_skb") {
        Ok(args) => args,
        Err(absence) if absence.is_absence() => Vec::new(),
        Err(damage) => return Err(damage),
    };
    let has = |index: usize, type_name: &str, pointer: bool| {
        kfree_skb
            .get(index)
            .is_some_and(|arg| arg.type_name == type_name && arg.is_pointer() == pointer)
    };
    let optional = |answer: Result<u32, BtfError>| match answer {
        Err(absence) if absence.is_absence() => Ok(ABSENT),
        answer => answer,
    };
    let reason_at = optional(btf.member("tc_skb_cb", "drop_reason").map(|at| at.offset))?;
    let cb = optional(btf.member("sk_buff", "cb").map(|at| at.offset))?;
    let reason = |name: &str| {
        let number = btf.enum_value("skb_drop_reason", &format!("SKB_DROP_REASON_{name}"));
        optional(number.map(|number| u32::try_from(number).unwrap_or(ABSENT)))
    };
    let names_congestion = reason("QDISC_CONGESTED")? != ABSENT
        || optional(
            btf.enum_value("qdisc_drop_reason", "QDISC_DROP_CONGESTED")
                .map(|_| 0),
        )? == 0;
    let kernel = KernelOffsets {
        netdev_queue_bytes: optional(btf.size("netdev_queue"))?,
        reason_purge: reason("QUEUE_PURGE")?,
        reason_xdp: reason("XDP")?,
        reason_tap: reason("PACKET_SOCK_ERROR")?,
        reason_congested: reason("QDISC_CONGESTED")?,
        skb_lost_reason: if reason_at == SEGMENTATION_WRITES_AT {
            cb.saturating_add(reason_at)
        } else {
            ABSENT
        },
        reason_silent: match reason("NOT_SPECIFIED")? {
            ABSENT => 0,
            number => number,
        },
        reason_qdisc_drop: reason("QDISC_DROP")?,
        reason_not_specified: if names_congestion {
            ABSENT
        } else {
            reason("NOT_SPECIFIED")?
        },
        kfree_skb_reason: if has(2, "skb_drop_reason", false) {
            2
        } else {
            ABSENT
        },
        kfree_skb_rx_sk: if has(3, "sock", true) { 3 } else { ABSENT },
        ..kernel
    };
    Ok(Offsets { kernel, missing })
}

/// The record as the words that the loader writes into the object.
pub(super) fn words(offsets: &KernelOffsets) -> Vec<u32> {
    const WORDS: usize = size_of::<KernelOffsets>() / size_of::<u32>();
    // SAFETY: the record is `repr(C)` and has no fields but `u32`, so it is an array of them.
    let words: [u32; WORDS] = unsafe { std::mem::transmute(*offsets) };
    words.to_vec()
}
