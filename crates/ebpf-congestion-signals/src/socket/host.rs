//! The whole host, from `/proc`, without privilege.

use ebpf_congestion_signals_common::{Direction, DropClass, DropCounters};
use procfs::CurrentSI;

use crate::clock;
use crate::sample::{DropTable, HostSample, SoftirqSample};

/// Reads what there is: of the calling thread's network namespace, and time of all CPUs.
pub(super) fn sample() -> HostSample {
    let udp4 = procfs::net::snmp().ok();
    let udp6 = procfs::net::snmp6().ok();
    let drops = udp4.as_ref().map(|v4| {
        let received = v4.udp_rcvbuf_errors + udp6.as_ref().map_or(0, |v6| v6.udp_rcvbuf_errors);
        let mut drops = DropTable::default();
        drops.add(
            Direction::Ingress,
            DropClass::ReceiveBuffer,
            counters(received),
        );
        drops.add(
            Direction::Egress,
            DropClass::Other,
            counters(v4.ip_out_discards),
        );
        drops
    });
    let tcp_packets = udp4
        .as_ref()
        .map(|v4| v4.tcp_out_segs + v4.tcp_retrans_segs);
    HostSample {
        taken: clock::now(),
        drops,
        softirq: softirq(),
        tcp_packets,
        ..HostSample::default()
    }
}

fn counters(packets: u64) -> DropCounters {
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
    fn the_running_kernel_tells_its_host() {
        let sample = sample();
        assert!(sample.softirq.is_some());
        assert!(sample.drops.is_some());
        assert!(sample.tcp_packets.is_some());
        assert!(sample.udp_send.is_none(), "bytes are unknown");
    }
}
