//! Queues and routes, which rtnetlink reports without privilege.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption, TcStats2};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::sample::QdiscName;

/// Longest wait for an answer: a holder of the kernel's lock over all devices (RTNL) delays it.
const ANSWER_TIMEOUT_MS: i64 = 1000;

/// More than the kernel puts into one part of an answer (`NLMSG_GOODSIZE` and a dump's 32 kB).
const ANSWER_BYTES: usize = 65_536;

/// A queue discipline, as reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qdisc {
    /// Index of its device.
    pub ifindex: u32,
    /// Its handle, `tc`'s major number in the high 16 bits.
    pub handle: u32,
    /// The class that it hangs on.
    pub parent: u32,
    /// Its kind.
    pub kind: QdiscName,
    /// Its limit, in whatever its kind counts; `None` where it has none or it is not understood.
    pub limit: Option<u32>,
    /// Bytes in it.
    pub backlog: u32,
    /// Packets in it.
    pub packets: u32,
    /// Packets that it dropped. Wraps.
    pub drops: u32,
}

impl Qdisc {
    /// Whether it is its device's root.
    pub fn is_root(&self) -> bool {
        self.parent == u32::from(TcHandle::ROOT)
    }
}

/// One message of the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A queue discipline.
    Qdisc(Qdisc),
    /// The device of a route.
    Device(u32),
    /// The kernel refused, with this error number.
    Refused(i32),
    /// The end of a list, or of an answer.
    Done,
    /// Anything else.
    Other,
}

/// Reads the messages in what was received; ends at the first that makes no sense.
pub fn answers(mut received: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Ok(buffer) = NetlinkBuffer::new_checked(received) {
        // Messages begin at multiples of four bytes.
        let length = (buffer.length() as usize).next_multiple_of(4).max(4);
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(received) else {
            break;
        };
        answers.push(answer(message.payload));
        received = received.get(length..).unwrap_or_default();
    }
    answers
}

fn answer(payload: NetlinkPayload<RouteNetlinkMessage>) -> Answer {
    match payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewQueueDiscipline(message)) => {
            qdisc(message).map_or(Answer::Other, Answer::Qdisc)
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(message)) => {
            let device = message.attributes.iter().find_map(|attribute| {
                let RouteAttribute::Oif(device) = attribute else {
                    return None;
                };
                Some(*device)
            });
            device.map_or(Answer::Other, Answer::Device)
        }
        NetlinkPayload::Error(error) => match error.raw_code() {
            0 => Answer::Done,
            code => Answer::Refused(code.saturating_abs()),
        },
        NetlinkPayload::Done(_) => Answer::Done,
        _ => Answer::Other,
    }
}

fn qdisc(message: TcMessage) -> Option<Qdisc> {
    let mut qdisc = Qdisc {
        ifindex: u32::try_from(message.header.index).ok()?,
        handle: message.header.handle.into(),
        parent: message.header.parent.into(),
        kind: QdiscName::new([0; 16]),
        limit: None,
        backlog: 0,
        packets: 0,
        drops: 0,
    };
    let mut options = Vec::new();
    for attribute in message.attributes {
        match attribute {
            TcAttribute::Kind(kind) => qdisc.kind = QdiscName::from_name(&kind),
            TcAttribute::Options(reported) => options = reported,
            TcAttribute::Stats2(stats) => {
                for stat in stats {
                    if let TcStats2::Queue(queue) = stat {
                        qdisc.backlog = queue.backlog;
                        qdisc.packets = queue.qlen;
                        qdisc.drops = queue.drops;
                    }
                }
            }
            _ => {}
        }
    }
    qdisc.limit = limit(qdisc.kind.as_str(), &options);
    Some(qdisc)
}

/// The limit among a queue discipline's options, which each kind lays out in its own way
/// (`linux/pkt_sched.h`).
fn limit(kind: &str, options: &[TcOption]) -> Option<u32> {
    use netlink_packet_core::Nla;
    use netlink_packet_route::tc::TcQdiscFqCodelOption;

    options.iter().find_map(|option| match option {
        TcOption::FqCodel(TcQdiscFqCodelOption::Limit(packets)) => Some(*packets),
        TcOption::Other(raw) => {
            let mut value = vec![0; raw.value_len()];
            raw.emit_value(&mut value);
            match kind {
                // struct tc_fifo_qopt
                "bfifo" | "pfifo" | "pfifo_head_drop" => word(&value, 0),
                // TCA_TBF_PARMS: struct tc_tbf_qopt, behind two rates of 12 bytes
                "tbf" => nested(&value, 1).and_then(|params| word(params, 24)),
                // struct tc_netem_qopt, behind the latency
                "netem" => word(&value, 4),
                // TCA_FQ_PLIMIT, TCA_CODEL_LIMIT, TCA_PIE_LIMIT, TCA_FQ_PIE_LIMIT
                "fq" | "fq_pie" => nested(&value, 1).and_then(|value| word(value, 0)),
                "codel" | "pie" => nested(&value, 2).and_then(|value| word(value, 0)),
                _ => None,
            }
        }
        _ => None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// The value of an attribute among those that `bytes` hold one after the other.
fn nested(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let found = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]);
        let value = bytes.get(4..length)?;
        if found == kind {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

/// A netlink socket for requests.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
    received: Vec<u8>,
}

impl Netlink {
    /// Opens one in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let timeout = TimeVal::milliseconds(ANSWER_TIMEOUT_MS);
        setsockopt(&socket, ReceiveTimeout, &timeout)?;
        Ok(Self {
            socket,
            sequence: 0,
            received: Vec::with_capacity(ANSWER_BYTES),
        })
    }

    /// The kernel's number of its network namespace.
    pub(super) fn netns(&self) -> Option<u64> {
        // SAFETY: the descriptor is the socket's, which outlives the borrow.
        let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(self.socket.as_raw_fd()) };
        super::kernel::netns(socket)
    }

    /// All queue disciplines of a device, those included that `tc` does not show. The kernel lists
    /// those of all devices: to a question about one it answers every listener of the machine.
    pub(super) fn qdiscs(&mut self, ifindex: u32) -> io::Result<Vec<Qdisc>> {
        let mut message = TcMessage::default();
        message.attributes.push(TcAttribute::DumpInvisible(true));
        self.send(RouteNetlinkMessage::GetQueueDiscipline(message), NLM_F_DUMP)?;
        let mut qdiscs = Vec::new();
        loop {
            for answer in self.receive()? {
                match answer {
                    Answer::Qdisc(qdisc) if qdisc.ifindex == ifindex => qdiscs.push(qdisc),
                    Answer::Done => return Ok(qdiscs),
                    Answer::Refused(code) => return Err(io::Error::from_raw_os_error(code)),
                    _ => {}
                }
            }
        }
    }

    /// The device that packets for an address leave by.
    pub(super) fn device(&mut self, destination: IpAddr) -> io::Result<u32> {
        let mut message = RouteMessage::default();
        let (family, address, bits) = match destination {
            IpAddr::V4(v4) => (AddressFamily::Inet, RouteAddress::Inet(v4), 32),
            IpAddr::V6(v6) => (AddressFamily::Inet6, RouteAddress::Inet6(v6), 128),
        };
        message.header.address_family = family;
        message.header.destination_prefix_length = bits;
        message
            .attributes
            .push(RouteAttribute::Destination(address));
        self.send(RouteNetlinkMessage::GetRoute(message), NLM_F_ACK)?;
        self.one(|answer| match answer {
            Answer::Device(device) => Some(device),
            _ => None,
        })
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.sequence_number = self.sequence;
        header.flags = NLM_F_REQUEST | flags;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        uninterrupted(|| self.socket.send(&bytes, 0)).map(drop)
    }

    fn receive(&mut self) -> io::Result<Vec<Answer>> {
        loop {
            self.received.clear();
            uninterrupted(|| self.socket.recv(&mut self.received, 0))?;
            // What answers an earlier question came too late.
            let about = NetlinkBuffer::new_checked(&self.received)
                .map_or(self.sequence, |buffer| buffer.sequence_number());
            if about == self.sequence {
                return Ok(answers(&self.received));
            }
        }
    }

    fn one<T>(&mut self, wanted: impl Fn(Answer) -> Option<T>) -> io::Result<T> {
        for answer in self.receive()? {
            if let Answer::Refused(code) = answer {
                return Err(io::Error::from_raw_os_error(code));
            }
            if let Some(found) = wanted(answer) {
                return Ok(found);
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Calls again where a signal of the program's came between.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_its_own_addresss_device_and_has_no_queue() {
        let mut netlink = Netlink::open().unwrap();
        let loopback = netlink.device(IpAddr::from([127, 0, 0, 1])).unwrap();
        let qdiscs = netlink.qdiscs(loopback).unwrap();
        let root = qdiscs.iter().find(|qdisc| qdisc.is_root()).unwrap();
        assert_eq!(root.kind.as_str(), "noqueue");
        assert_eq!((root.backlog, root.limit), (0, None));
        assert_eq!(
            netlink.netns(),
            super::super::kernel::netns(std::net::UdpSocket::bind("127.0.0.1:0").unwrap())
        );
    }

    #[test]
    fn a_device_that_does_not_exist_has_no_queue() {
        let mut netlink = Netlink::open().unwrap();
        assert_eq!(netlink.qdiscs(0x7fff_fff0).unwrap(), []);
    }

    #[test]
    fn what_makes_no_sense_is_no_answer() {
        assert_eq!(answers(&[]), []);
        assert_eq!(answers(&[0xff; 64]), []);
        assert_eq!(nested(&[0, 0, 1, 0], 1), None);
        assert_eq!(
            nested(&[4, 0, 2, 0, 8, 0, 1, 0, 7, 0, 0, 0], 1),
            Some(&[7, 0, 0, 0][..])
        );
    }
}
