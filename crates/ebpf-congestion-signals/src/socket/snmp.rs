//! The kernel's counters of protocols, in `/proc/net/snmp` and `snmp6`.
//!
//! By hand: the crate procfs wants every counter that it knows, and Linux 7 no longer has those of
//! UDP-Lite.

use std::fs;

/// Counters of the calling thread's network namespace.
pub(super) struct Counters {
    v4: String,
    /// Empty without IPv6.
    v6: String,
}

impl Counters {
    /// `None` where the file cannot be read.
    pub(super) fn read() -> Option<Self> {
        // Not /proc/net: that is the main thread's namespace, whichever thread asks.
        Some(Self {
            v4: fs::read_to_string("/proc/thread-self/net/snmp").ok()?,
            v6: fs::read_to_string("/proc/thread-self/net/snmp6").unwrap_or_default(),
        })
    }

    /// A counter of a protocol: of IPv4, or of what IPv6 has no counters of its own for.
    pub(super) fn v4(&self, protocol: &str, name: &str) -> Option<u64> {
        // A line of names, and one of values.
        let mut lines = self
            .v4
            .lines()
            .filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
        let (names, values) = (lines.next()?, lines.next()?);
        let mut counters = names.split_whitespace().zip(values.split_whitespace());
        let (_, value) = counters.find(|(counter, _)| *counter == name)?;
        value.parse().ok()
    }

    /// A counter of IPv6 and what runs over it.
    pub(super) fn v6(&self, name: &str) -> Option<u64> {
        let value = self.v6.lines().find_map(|line| {
            let (counter, value) = line.split_once(char::is_whitespace)?;
            (counter == name).then_some(value)
        })?;
        value.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters() -> Counters {
        Counters {
            v4: "Ip: Forwarding OutDiscards\nIp: 1 7\n\
                 Tcp: RtoAlgorithm MaxConn OutSegs RetransSegs\nTcp: 1 -1 40 2\n\
                 Udp: InDatagrams RcvbufErrors\nUdp: 11 5\n"
                .into(),
            v6: "Udp6InDatagrams                 \t3\nUdp6RcvbufErrors                \t4\n".into(),
        }
    }

    #[test]
    fn counters_are_found_by_name() {
        let counters = counters();
        assert_eq!(counters.v4("Ip", "OutDiscards"), Some(7));
        assert_eq!(counters.v4("Tcp", "RetransSegs"), Some(2));
        assert_eq!(counters.v4("Udp", "RcvbufErrors"), Some(5));
        assert_eq!(counters.v6("Udp6RcvbufErrors"), Some(4));
    }

    #[test]
    fn what_a_kernel_does_not_have_is_unknown() {
        let counters = counters();
        assert_eq!(counters.v4("UdpLite", "InDatagrams"), None);
        assert_eq!(counters.v4("Udp", "MemErrors"), None);
        assert_eq!(counters.v4("Tcp", "MaxConn"), None, "-1: no limit");
        assert_eq!(counters.v6("Udp6In"), None, "a part of a name");
    }
}
