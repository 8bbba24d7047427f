//! The whole host, from `/proc`, without privilege.

use ebpf_congestion_signals_common::{Direction, DropClass, DropCounters};
use procfs::CurrentSI;

use super::snmp::Counters;
use crate::clock;
use crate::sample::{DropTable, HostSample, SoftirqSample};

/// Reads what there is: of the calling thread's network namespace, and time of all CPUs.
pub(super) fn sample() -> HostSample {
    let counters = Counters::read();
    let drops = counters.as_ref().and_then(drops);
    let tcp_packets = counters.as_ref().and_then(|counters| {
        Some(counters.v4("Tcp", "OutSegs")? + counters.v4("Tcp", "RetransSegs")?)
    });
    HostSample {
        taken: clock::now(),
        drops,
        softirq: softirq(),
        tcp_packets,
        ..HostSample::default()
    }
}

fn drops(counters: &Counters) -> Option<DropTable> {
    let received =
        counters.v4("Udp", "RcvbufErrors")? + counters.v6("Udp6RcvbufErrors").unwrap_or(0);
    let sent = counters.v4("Ip", "OutDiscards")?;
    let mut drops = DropTable::default();
    let class = DropClass::ReceiveBuffer;
    drops.add(Direction::Ingress, class, packets(received));
    drops.add(Direction::Egress, DropClass::Other, packets(sent));
    Some(drops)
}

fn packets(packets: u64) -> DropCounters {
    DropCounters {
        skbs: packets,
        packets,
        bytes: 0,
    }
}

/// Time of all softirqs: `/proc/stat` does not separate the network's.
fn softirq() -> Option<SoftirqSample> {
    let stat = procfs::KernelStats::current().ok()?;
    Some(SoftirqSample {
        net_rx: stat.total.softirq_duration()?,
        ..SoftirqSample::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_the_hosts_counters() {
        let sample = sample();
        assert!(sample.softirq.is_some());
        assert!(sample.drops.is_some());
        assert!(sample.tcp_packets.is_some());
        assert!(sample.udp_send.is_none(), "bytes are unknown");
    }
}
