//! Questions to the running kernel's own BTF.

use std::path::Path;

use super::{Btf, BtfError, SYS_FS_PATH};

/// The running kernel's BTF; none where the kernel has none, unless `REQUIRE_KERNEL_BTF` is set.
fn running_kernel() -> Option<Btf> {
    if !Path::new(SYS_FS_PATH).exists() {
        let required = std::env::var_os("REQUIRE_KERNEL_BTF").is_some();
        assert!(
            !required,
            "REQUIRE_KERNEL_BTF is set but there is no {SYS_FS_PATH}"
        );
        return None;
    }
    Some(Btf::from_sys_fs().unwrap())
}

#[test]
fn the_running_kernel_has_the_members_the_probes_read() {
    let Some(btf) = running_kernel() else { return };
    for (name, path, size) in [
        ("sock", "sk_sndbuf", 4),
        ("sock", "sk_rcvbuf", 4),
        ("sock", "sk_wmem_alloc", 4),
        ("sock", "sk_backlog.rmem_alloc", 4),
        ("sock", "__sk_common.skc_cookie", 8),
        ("sock", "__sk_common.skc_family", 2),
        ("sk_buff", "sk", 8),
        ("sk_buff", "len", 4),
        ("sk_buff", "data", 8),
        ("sk_buff", "head", 8),
        ("sk_buff", "end", 4),
        ("sk_buff", "network_header", 2),
        ("sk_buff", "transport_header", 2),
        ("sk_buff", "protocol", 2),
        ("sk_buff", "skb_iif", 4),
        ("sk_buff", "dev", 8),
        ("sk_buff", "truesize", 4),
        ("sk_buff", "cb", 48),
        ("sk_buff", "next", 8),
        ("skb_shared_info", "gso_segs", 2),
        ("skb_shared_info", "gso_size", 2),
        ("Qdisc", "qstats.backlog", 4),
        ("Qdisc", "q.qlen", 4),
        ("Qdisc", "flags", 4),
        ("Qdisc", "limit", 4),
        ("net", "net_cookie", 8),
        ("net_device", "nd_net.net", 8),
        ("net_device", "ifindex", 4),
    ] {
        let member = btf.member(name, path).unwrap();
        assert_eq!(member.size, size, "{name}.{path}");
        assert_eq!(member.offset % size.min(8), 0, "{name}.{path} is aligned");
    }
    assert!(matches!(
        btf.member("sk_buff", "ip_summed"),
        Err(BtfError::Bitfield { .. })
    ));
}

#[test]
fn the_running_kernel_has_the_enums_functions_and_tracepoints_the_probes_need() {
    let Some(btf) = running_kernel() else { return };
    let full = btf
        .enum_value("skb_drop_reason", "SKB_DROP_REASON_SOCKET_RCVBUFF")
        .unwrap();
    let reasons = btf.enum_variants("skb_drop_reason").unwrap();
    assert!(reasons.contains(&("SKB_DROP_REASON_SOCKET_RCVBUFF", full)));
    assert!(reasons.len() > 10);

    let types = |name| -> Vec<(String, u32)> {
        let args = btf.tracepoint_args(name).unwrap();
        args.iter()
            .map(|arg| (arg.type_name.into(), arg.pointers))
            .collect()
    };
    let arg = |name: &str, pointers| (name.to_owned(), pointers);
    assert_eq!(types("kfree_skb")[..2], [arg("sk_buff", 1), arg("void", 1)]);
    assert_eq!(types("net_dev_queue"), [arg("sk_buff", 1)]);
    assert_eq!(types("softirq_entry"), [arg("unsigned int", 0)]);
    assert_eq!(
        types("qdisc_dequeue"),
        [
            arg("Qdisc", 1),
            arg("netdev_queue", 1),
            arg("int", 0),
            arg("sk_buff", 1)
        ]
    );
    let args = btf.function_args("udp_sendmsg").unwrap();
    assert!(args[0].points_to("sock") && args[1].points_to("msghdr"));
    assert!(btf.function_args("udp_sendmsg_not").is_err());
}
