//! Which signals the running kernel must have, and what a test does where it has them not.

use ebpf_congestion_signals::{EbpfSource, SignalSource};

/// A kernel's version, as far as features are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

/// Every capability with the first kernel that has what it needs. Distributions add features to
/// older kernels, so an older one may have it; a newer one must.
const SINCE: [(&str, Version); 10] = [
    ("kfree_skb", Version(5, 10)),
    ("net_dev_queue", Version(5, 10)),
    ("qdisc_enqueue", Version(5, 15)),
    ("qdisc_dequeue", Version(5, 10)),
    ("qdisc_reset", Version(5, 10)),
    ("sock_send_length", Version(6, 3)),
    ("sock_recv_length", Version(6, 3)),
    ("softirq_entry", Version(5, 10)),
    ("softirq_exit", Version(5, 10)),
    ("skb_drop_reason", Version(5, 17)),
];

/// # Panics
///
/// When a capability is missing that a kernel of this version has.
pub(crate) fn assert_tells_what_its_version_must(source: &EbpfSource) {
    let running = running();
    for capability in source.capabilities() {
        let Some(missing) = capability.missing else {
            continue;
        };
        let since = SINCE
            .iter()
            .find(|(name, _)| *name == capability.name)
            .map_or(Version(0, 0), |(_, since)| *since);
        assert!(
            running < since,
            "{} is missing on {running:?}, though kernels have it since {since:?}: {missing}",
            capability.name
        );
    }
}

/// Whether the source has what a test cannot do without; if not, says so.
pub(crate) fn needs(source: &EbpfSource, test: &str, needs: &[&str]) -> bool {
    match first_missing(source, needs) {
        None => true,
        Some((name, why)) => {
            eprintln!("skipped {test}: {name}: {why}");
            false
        }
    }
}

/// Whether the source has a capability that a part of a test is about; if not, says so.
pub(crate) fn has(source: &EbpfSource, name: &str) -> bool {
    match first_missing(source, &[name]) {
        None => true,
        Some((name, why)) => {
            eprintln!("in part: {name}: {why}");
            false
        }
    }
}

fn first_missing(source: &EbpfSource, needs: &[&str]) -> Option<(&'static str, String)> {
    let capabilities = source.capabilities();
    for name in needs {
        assert!(
            capabilities
                .iter()
                .any(|capability| capability.name == *name),
            "no capability is called {name}"
        );
    }
    capabilities.into_iter().find_map(|capability| {
        let why = capability.missing?;
        needs
            .contains(&capability.name)
            .then_some((capability.name, why))
    })
}

fn running() -> Version {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("procfs is there");
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    let mut number = || {
        let number = numbers.next().and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("{release} begins with no version"))
    };
    Version(number(), number())
}
