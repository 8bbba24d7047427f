//! Which signals the running kernel must have, and what a test does where it has them not.

use ebpf_congestion_signals::{Capability, EbpfSource, SignalSource};
use live_test::Skip;

/// A kernel's version, as far as features are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32);

/// Every capability with the first kernel that has what it needs. Distributions add features to
/// older kernels, so an older one may have it; a newer one must.
const SINCE: [(&str, Version); 12] = [
    ("kfree_skb", Version(5, 10)),
    ("qdisc_drop", Version(7, 1)),
    ("net_dev_queue", Version(5, 10)),
    ("qdisc_enqueue", Version(5, 15)),
    ("qdisc_dequeue", Version(5, 10)),
    ("qdisc_reset", Version(5, 10)),
    ("qdisc_destroy", Version(5, 10)),
    ("softirq_raise", Version(5, 10)),
    ("softirq_entry", Version(5, 10)),
    ("softirq_exit", Version(5, 10)),
    ("skb_drop_reason", Version(5, 17)),
    // Or functions in their place.
    ("sock_send_length", Version(5, 10)),
];

/// Functions that are probed in place of a tracepoint on kernels before 6.3.
const STAND_INS: [(&str, &str); 2] = [
    ("sock_send_length", "udp_sendmsg"),
    ("sock_recv_length", "udp_recvmsg"),
];

fn stand_in(name: &str) -> Option<&'static str> {
    let mut stand_ins = STAND_INS.iter();
    stand_ins.find_map(|(tracepoint, function)| (*tracepoint == name).then_some(*function))
}

/// # Panics
///
/// When a capability is missing that a kernel of this version has.
pub(crate) fn assert_tells_what_its_version_must(source: &EbpfSource) {
    let running = running();
    let capabilities = source.capabilities();
    for capability in &capabilities {
        let Some(missing) = missing(&capabilities, &capability.name) else {
            continue;
        };
        // A kernel may have only some of the functions; those are probed.
        if STAND_INS
            .iter()
            .any(|(_, function)| *function == capability.name)
        {
            continue;
        }
        let since = SINCE
            .iter()
            .find(|(name, _)| *name == capability.name)
            .map_or(Version(6, 3), |(_, since)| *since);
        assert!(
            running < since,
            "{} is missing on {running:?}, though kernels have it since {since:?}: {missing}",
            capability.name
        );
    }
}

/// Skips a test where the source lacks what it cannot do without.
pub(crate) fn needs(source: &EbpfSource, needs: &[&'static str]) -> Result<(), Skip> {
    first_missing(source, needs).map_or(Ok(()), |(name, why)| {
        Err(Skip::new(format!("{name}: {why}")))
    })
}

/// Whether the source has a capability that a part of a test is about; if not, the summary says so.
pub(crate) fn has(source: &EbpfSource, name: &'static str) -> bool {
    match first_missing(source, &[name]) {
        None => true,
        Some((name, why)) => {
            live_test::note(format!("{name}: {why}"));
            false
        }
    }
}

fn first_missing(source: &EbpfSource, needs: &[&'static str]) -> Option<(&'static str, String)> {
    let capabilities = source.capabilities();
    needs
        .iter()
        .find_map(|name| Some((*name, missing(&capabilities, name)?)))
}

/// Why a capability, and its fallback, is missing.
fn missing(capabilities: &[Capability], name: &str) -> Option<String> {
    let why = |name: &str| {
        let capability = capabilities
            .iter()
            .find(|capability| capability.name == name);
        capability.map(|capability| capability.missing.clone())
    };
    let missing = why(name).unwrap_or_else(|| panic!("no capability is called {name}"))?;
    match stand_in(name).and_then(why) {
        Some(None) => None,
        Some(Some(also)) => Some(format!("{missing}; {also}")),
        None => Some(missing),
    }
}

pub(crate) fn running() -> Version {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("procfs is there");
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    let mut number = || {
        let number = numbers.next().and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("{release} begins with no version"))
    };
    Version(number(), number())
}
