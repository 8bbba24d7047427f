//! Which class a drop reason of the kernel belongs to, by its name: numbers move between kernels,
//! names stay. `include/net/dropreason-core.h` says what each means.

use crate::sample::DropClass;

/// The class of a reason, named without its prefix (`SKB_DROP_REASON_`).
pub(crate) fn class_of(reason: &str) -> DropClass {
    match reason {
        "QDISC_DROP"
        | "QDISC_GENERIC"
        | "QDISC_OVERLIMIT"
        | "QDISC_CONGESTED"
        | "QDISC_MAXFLOWS"
        | "QDISC_FLOOD_PROTECTION"
        | "QDISC_BAND_LIMIT"
        | "QDISC_FLOW_LIMIT"
        | "QDISC_BURST_DROP"
        | "QDISC_L4S_STEP_NON_ECN"
        | "CAKE_FLOOD"
        | "FQ_BAND_LIMIT"
        | "FQ_FLOW_LIMIT"
        | "DUALPI2_STEP_DROP"
        | "CPU_BACKLOG"
        | "FULL_RING"
        | "NEIGH_QUEUEFULL" => DropClass::QueueFull,
        "QDISC_HORIZON_LIMIT"
        | "FQ_HORIZON_LIMIT"
        | "TC_CHAIN_NOTFOUND"
        | "TC_RECLASSIFY_LOOP"
        | "TC_COOKIE_ERROR" => DropClass::QdiscPolicy,
        "SOCKET_RCVBUFF" | "SOCKET_BACKLOG" | "TCP_OFO_QUEUE_PRUNE" | "TCP_ZEROWINDOW" => {
            DropClass::ReceiveBuffer
        }
        "NOMEM" | "PROTO_MEM" | "PFMEMALLOC" | "SKB_UCOPY_FAULT" => DropClass::NoMemory,
        "NETFILTER_DROP"
        | "SOCKET_FILTER"
        | "BPF_CGROUP_EGRESS"
        | "TC_EGRESS"
        | "TC_INGRESS"
        | "XDP"
        | "XFRM_POLICY"
        | "SECURITY_HOOK"
        | "TAP_FILTER"
        | "TAP_TXFILTER"
        | "IP_RPFILTER"
        | "OTHERHOST"
        | "UNICAST_IN_L2_MULTICAST" => DropClass::Policy,
        "NO_SOCKET" | "SOCKET_CLOSE" | "TCP_LISTEN_OVERFLOW" => DropClass::NoSocket,
        "PKT_TOO_SMALL" | "PKT_TOO_BIG" | "TCP_CSUM" | "UDP_CSUM" | "IP_CSUM" | "SKB_CSUM"
        | "ICMP_CSUM" | "IP_INHDR" | "IP_NOPROTO" | "UNHANDLED_PROTO" | "HDR_TRUNC"
        | "INVALID_PROTO" | "DEV_HDR" | "IPV6_BAD_EXTHDR" | "TCP_FLAGS" => DropClass::Malformed,
        _ => DropClass::Other,
    }
}

/// Whether a queue discipline drops for this reason what it holds, or is to take.
pub(crate) fn is_of_qdisc(reason: &str) -> bool {
    ["QDISC_", "FQ_", "CAKE_", "DUALPI2_"]
        .iter()
        .any(|prefix| reason.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_disciplines_have_reasons_of_their_own() {
        for reason in ["QDISC_DROP", "FQ_FLOW_LIMIT", "CAKE_FLOOD"] {
            assert!(is_of_qdisc(reason), "{reason}");
        }
        for reason in ["CPU_BACKLOG", "FULL_RING", "NEIGH_QUEUEFULL"] {
            assert!(!is_of_qdisc(reason), "{reason}");
        }
    }

    #[test]
    fn a_full_queue_is_congestion_and_a_firewall_is_not() {
        assert_eq!(class_of("QDISC_DROP"), DropClass::QueueFull);
        assert_eq!(class_of("NETFILTER_DROP"), DropClass::Policy);
        assert_eq!(class_of("FQ_HORIZON_LIMIT"), DropClass::QdiscPolicy);
    }

    #[test]
    fn a_reason_of_a_later_kernel_is_other() {
        assert_eq!(class_of("SOMETHING_NEW"), DropClass::Other);
    }
}
