//! Counters of a namespace under /proc/net.

use std::collections::HashMap;

use procfs::{
    FromRead, FromReadSI, LocalSystemInfo,
    net::{InterfaceDeviceStatus, TcpNetEntries, TcpState},
};

use crate::{error::Error, namespace::Namespace, path::Family};

/// One UDP socket, from /proc/net/udp or udp6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpSocketStats {
    /// The port it is bound to.
    pub local_port: u16,
    /// Bytes sent that are still in this host, as the kernel accounts them (buffers whole).
    pub send_queue: u64,
    /// Bytes received and not yet read, accounted likewise.
    pub receive_queue: u64,
    /// Datagrams dropped for want of room in the receive buffer, or for a wrong checksum.
    pub drops: u64,
}

/// A namespace's UDP counters, from /proc/net/snmp or snmp6; in datagrams since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpCounters {
    /// Delivered to a socket.
    pub in_datagrams: u64,
    /// Arrived for a port that no socket is bound to.
    pub no_ports: u64,
    /// Arrived and not delivered; includes the two below.
    pub in_errors: u64,
    /// Dropped because a socket's receive buffer was full.
    pub receive_buffer_errors: u64,
    /// Dropped for a wrong checksum.
    pub checksum_errors: u64,
    /// Sent. A segmentation batch counts as one.
    pub out_datagrams: u64,
    /// Sends that found no room, those answered EAGAIN included: not a number of drops.
    pub send_buffer_errors: u64,
}

/// A device's counters, from /proc/net/dev; in packets since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceStats {
    /// Received.
    pub received: u64,
    /// Received and dropped.
    pub receive_dropped: u64,
    /// Sent. A segmentation batch that the device took whole is one.
    pub sent: u64,
    /// Dropped by the device on sending. What its queueing discipline drops is counted there.
    pub send_dropped: u64,
}

impl Namespace {
    /// The UDP sockets bound to `port` in this namespace, those of one family.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or understood.
    pub fn udp_sockets(&self, family: Family, port: u16) -> Result<Vec<UdpSocketStats>, Error> {
        let name = match family {
            Family::V4 => "udp",
            Family::V6 => "udp6",
        };
        let mut sockets = self.parse(name, parse_udp_sockets)?;
        sockets.retain(|socket| socket.local_port == port);
        Ok(sockets)
    }

    /// Whether a TCP socket of one family listens on `port` in this namespace.
    pub(crate) fn has_tcp_listener(&self, family: Family, port: u16) -> Result<bool, Error> {
        let name = match family {
            Family::V4 => "tcp",
            Family::V6 => "tcp6",
        };
        let ports = self.parse(name, tcp_listeners)?;
        Ok(ports.contains(&port))
    }

    /// This namespace's UDP counters for one family.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or understood.
    pub fn udp_counters(&self, family: Family) -> Result<UdpCounters, Error> {
        match family {
            Family::V4 => self.parse("snmp", snmp),
            Family::V6 => self.parse("snmp6", snmp6),
        }
    }

    /// The counters of a device in this namespace.
    ///
    /// # Errors
    ///
    /// When there is no such device, or the file cannot be read or understood.
    pub fn device_stats(&self, device: &str) -> Result<DeviceStats, Error> {
        self.parse("dev", |text| self::device(text, device))
    }

    fn parse<T>(&self, name: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, Error> {
        // Not /proc/net: that is the main thread's namespace, whichever thread asks.
        let file = format!("/proc/thread-self/net/{name}");
        let text = self
            .run(|| std::fs::read_to_string(&file))?
            .map_err(|e| Error::system(format!("read {file}"), e, "mount procfs under /proc"))?;
        parse(&text).ok_or_else(|| Error::unreadable(file, "an expected field is missing"))
    }
}

/// Datagrams that the UDP sockets bound to `port` in the calling thread's namespace dropped for
/// want of room, of both families.
///
/// # Errors
///
/// When the files cannot be read or understood.
pub fn udp_socket_drops(port: u16) -> Result<u64, Error> {
    let mut drops = 0;
    for name in ["udp", "udp6"] {
        let file = format!("/proc/thread-self/net/{name}");
        // Without IPv6 there is no second file.
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        let sockets = parse_udp_sockets(&text)
            .ok_or_else(|| Error::unreadable(file, "an expected field is missing"))?;
        let bound = sockets.iter().filter(|socket| socket.local_port == port);
        drops += bound.map(|socket| socket.drops).sum::<u64>();
    }
    Ok(drops)
}

/// By hand: `procfs` does not read the column of drops.
fn parse_udp_sockets(text: &str) -> Option<Vec<UdpSocketStats>> {
    let socket = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let (_, port) = fields.get(1)?.rsplit_once(':')?;
        let (send_queue, receive_queue) = fields.get(4)?.split_once(':')?;
        Some(UdpSocketStats {
            local_port: u16::from_str_radix(port, 16).ok()?,
            send_queue: hex(send_queue)?,
            receive_queue: hex(receive_queue)?,
            drops: fields.get(12)?.parse().ok()?,
        })
    };
    text.lines().skip(1).map(socket).collect()
}

/// The ports that sockets listen on.
fn tcp_listeners(text: &str) -> Option<Vec<u16>> {
    let sockets = TcpNetEntries::from_read(text.as_bytes(), &LocalSystemInfo).ok()?;
    let listening = sockets
        .0
        .into_iter()
        .filter(|socket| socket.state == TcpState::Listen);
    Some(
        listening
            .map(|socket| socket.local_address.port())
            .collect(),
    )
}

/// By hand, as [`snmp6`]: `procfs` wants every counter that it knows, and Linux 7 has none of
/// UDP-Lite.
fn snmp(text: &str) -> Option<UdpCounters> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    udp(names.split_whitespace().zip(values.split_whitespace()))
}

fn snmp6(text: &str) -> Option<UdpCounters> {
    udp(text
        .lines()
        .filter_map(|line| line.strip_prefix("Udp6")?.split_once(char::is_whitespace)))
}

fn udp<'a>(counters: impl Iterator<Item = (&'a str, &'a str)>) -> Option<UdpCounters> {
    let counters: HashMap<_, _> = counters.collect();
    let counter = |name| counters.get(name)?.trim().parse().ok();
    Some(UdpCounters {
        in_datagrams: counter("InDatagrams")?,
        no_ports: counter("NoPorts")?,
        in_errors: counter("InErrors")?,
        receive_buffer_errors: counter("RcvbufErrors")?,
        checksum_errors: counter("InCsumErrors")?,
        out_datagrams: counter("OutDatagrams")?,
        send_buffer_errors: counter("SndbufErrors")?,
    })
}

fn device(text: &str, name: &str) -> Option<DeviceStats> {
    let devices = InterfaceDeviceStatus::from_read(text.as_bytes()).ok()?;
    let counters = devices.0.get(name)?;
    Some(DeviceStats {
        received: counters.recv_packets,
        receive_dropped: counters.recv_drop,
        sent: counters.sent_packets,
        send_dropped: counters.sent_drop,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: &str = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  100: 0100007F:1151 00000000:0000 07 00000300:00000A00 00:00000000 00000000     0        0 1234 2 0000000000000000 17
";
    const UDP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  100: 00000000000000000000000000000000:1151 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1234 2 0000000000000000 5
";

    #[test]
    fn sockets_of_both_families_are_understood() {
        let expected = UdpSocketStats {
            local_port: 0x1151,
            send_queue: 0x300,
            receive_queue: 0xa00,
            drops: 17,
        };
        assert_eq!(parse_udp_sockets(UDP), Some(vec![expected]));
        assert_eq!(parse_udp_sockets(UDP6).map(|all| all[0].drops), Some(5));
        assert_eq!(parse_udp_sockets("header\n"), Some(Vec::new()));
    }

    #[test]
    fn a_line_cut_short_is_an_error() {
        let cut = &UDP[..UDP.len() - 4];
        assert_eq!(parse_udp_sockets(cut), None);
    }
}
