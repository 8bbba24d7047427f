//! What a program without privilege can know, and what it cannot.

use crate::source::Capability;

/// Why a signal is missing that only probes report.
const NEEDS_PROBES: &str = "not available without privilege; probes (EbpfSource) report it";

/// The signals. `queues` says why devices' queues cannot be read.
pub(super) fn list(queues: Option<String>) -> Vec<Capability> {
    let known = |name, gives| Capability::new(name, gives, None);
    let unknown = |name, gives| Capability::new(name, gives, Some(NEEDS_PROBES.to_owned()));
    vec![
        known(
            "SO_MEMINFO",
            "what a socket has in this host; a single peer's part is estimated from the order of \
             sends; buffers and their pressure; drops at a full receive buffer",
        ),
        known(
            "IP_RECVERR",
            "datagrams that a full queue dropped, at least: of a batch that a queue discipline \
             splits, all must be dropped for the kernel to say so; what ICMP reports",
        ),
        Capability::new(
            "rtnetlink",
            "others' backlog, where everything waits in one queue in order; kind, limit, packets",
            queues,
        ),
        known(
            "procfs",
            "time in softirqs, of every kind together, to a tick; drops of UDP sockets' receive \
             buffers; TCP packets",
        ),
        unknown(
            "drops in a queue",
            "packets dropped after they were queued (CoDel, head drop)",
        ),
        unknown("drop reasons", "why a packet was dropped, and where"),
        unknown("host sends", "bytes that other programs send"),
        unknown("sojourn", "how long packets waited in a queue"),
        unknown(
            "classes",
            "others' backlog behind classes, or where a queue keeps flows apart",
        ),
    ]
}
