//! The kernel's own counts of sockets under /proc/net, which no probe makes.

use std::fs;
use std::io;

/// A row of /proc/net/udp, udp6, tcp or tcp6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketRow {
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    /// TCP's state, by the kernel's number.
    pub(crate) state: u8,
    /// Of UDP: bytes charged to the send buffer (`truesize`). Of TCP: payload not acknowledged.
    pub(crate) send_queue: u64,
    /// Datagrams dropped for want of room in the receive buffer, or a wrong checksum; 0 for TCP,
    /// which has no such column.
    pub(crate) drops: u64,
}

/// TCP's state of a listener.
pub(crate) const LISTEN: u8 = 10;

/// The rows of a table (`udp`) of the calling thread's network namespace.
pub(crate) fn sockets(table: &str) -> io::Result<Vec<SocketRow>> {
    // Not /proc/net: that is the main thread's namespace, whichever thread asks.
    let file = format!("/proc/thread-self/net/{table}");
    let text = fs::read_to_string(&file)?;
    parse(&text).ok_or_else(|| io::Error::other(format!("{file} does not read as expected")))
}

fn parse(text: &str) -> Option<Vec<SocketRow>> {
    text.lines().skip(1).map(parse_row).collect()
}

fn parse_row(line: &str) -> Option<SocketRow> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let port = |field: usize| {
        let (_, port) = fields.get(field)?.rsplit_once(':')?;
        u16::from_str_radix(port, 16).ok()
    };
    let (send_queue, _) = fields.get(4)?.split_once(':')?;
    Some(SocketRow {
        local_port: port(1)?,
        remote_port: port(2)?,
        state: u8::from_str_radix(fields.get(3)?, 16).ok()?,
        send_queue: u64::from_str_radix(send_queue, 16).ok()?,
        // UDP's last column, the 13th; a row of TCP has other things there.
        drops: match fields.len() {
            13 => fields.get(12)?.parse().ok()?,
            _ => 0,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: &str = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  100: 0100007F:1151 00000000:0000 07 00000300:00000A00 00:00000000 00000000     0        0 1234 2 0000000000000000 17
";
    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1451 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0000000000000000 100 0 0 10 0
";

    #[test]
    fn a_row_of_udp_has_drops() {
        let rows = parse(UDP).unwrap();
        let expected = SocketRow {
            local_port: 0x1151,
            remote_port: 0,
            state: 7,
            send_queue: 0x300,
            drops: 17,
        };
        assert_eq!(rows, [expected]);
    }

    #[test]
    fn a_listener_of_tcp_is_known_by_its_state() {
        let rows = parse(TCP).unwrap();
        assert_eq!((rows[0].local_port, rows[0].state), (0x1451, LISTEN));
        assert_eq!(rows[0].drops, 0);
    }

    #[test]
    fn a_row_cut_short_is_refused() {
        assert_eq!(parse("heading\n 100: 0100007F:1151 0\n"), None);
    }
}
