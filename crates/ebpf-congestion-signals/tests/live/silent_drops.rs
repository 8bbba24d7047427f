//! A drop whose reason says nothing tells where in the kernel it happened.

use std::net::SocketAddr;

use ebpf_congestion_signals::{DropsByReason, EbpfSource, SignalSource};
use netlab::{Family, Path, PathConfig};

use crate::traffic::{bind, send};
use crate::{TestResult, source, tool};

/// What a route with nothing behind it swallows: the kernel gives no reason for that.
const NOWHERE: &str = "2001:db8:dead::/64";

#[test]
fn a_silent_drop_is_counted_by_the_function_that_dropped() -> TestResult {
    const DATAGRAMS: usize = 17;
    let source = source()?;
    let path = Path::new(&PathConfig::default())?;
    let ends = path.addresses(Family::V6);
    let via = ends.receiver.to_string();
    for (namespace, route) in [
        (path.sender(), vec![NOWHERE, "via", &via]),
        (path.receiver(), vec!["blackhole", NOWHERE]),
    ] {
        let mut ip = tool(namespace, "ip")?;
        let output = ip.args(["-6", "route", "add"]).args(route).output()?;
        assert!(output.status.success(), "{output:?}");
    }
    let sender = bind(path.sender(), ends.sender)?;
    let before = discarded(source).map_or(0, |by| by.drops.packets);
    let to: SocketAddr = "[2001:db8:dead::1]:9".parse()?;
    send(&sender, to, DATAGRAMS)?;
    let by = discarded(source).ok_or("reported by location")?;
    assert_eq!(by.drops.packets - before, DATAGRAMS as u64, "{by:?}");
    assert!(matches!(&*by.reason, "NOT_SPECIFIED" | "UNKNOWN"), "{by:?}");
    assert_eq!(by.subsystem, 0);
    Ok(())
}

/// Drops of the host by the kernel's function for routes that discard.
fn discarded(source: &EbpfSource) -> Option<DropsByReason> {
    let mut reasons = source.drops_by_reason(None).into_iter();
    reasons.find(|by| {
        let location = by.location.as_deref().unwrap_or_default();
        location.starts_with("dst_discard")
    })
}
