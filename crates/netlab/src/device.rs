//! Network devices of a namespace, their addresses and routes.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd},
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage},
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
        LinkFlags, LinkInfo, LinkMessage, State,
    },
    neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
        RouteType,
    },
};

use crate::{
    error::{Error, NEEDS_ROOT},
    netlink::Netlink,
};

/// One end of a cable that is to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CableEnd<'a> {
    pub(crate) netlink: &'a Netlink,
    pub(crate) namespace: BorrowedFd<'a>,
    pub(crate) name: &'static str,
    pub(crate) link_layer_address: [u8; 6],
}

/// An address and the bits of it that name a network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prefix(pub(crate) IpAddr, pub(crate) u8);

impl Prefix {
    pub(crate) fn host(address: IpAddr) -> Self {
        Self(address, if address.is_ipv4() { 32 } else { 128 })
    }
}

/// A device in a namespace, found by its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device<'a> {
    pub(crate) netlink: &'a Netlink,
    pub(crate) name: &'a str,
    pub(crate) index: u32,
}

/// Makes a veth pair, one end in each namespace.
pub(crate) fn lay_cable(ends: [CableEnd<'_>; 2], mtu: u32) -> Result<(), Error> {
    let message = |end: CableEnd<'_>| {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(end.name.to_owned()),
            LinkAttribute::Address(end.link_layer_address.to_vec()),
            LinkAttribute::Mtu(mtu),
        ];
        message
    };
    let [near, far] = ends;
    let mut peer = message(far);
    let namespace = far.namespace.as_raw_fd();
    peer.attributes.push(LinkAttribute::NetNsFd(namespace));
    let mut cable = message(near);
    cable.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    let request = RouteNetlinkMessage::NewLink(cable);
    let sent = near.netlink.request(request, NLM_F_CREATE | NLM_F_EXCL);
    refused(sent, || {
        format!("make the veth pair {} and {}", near.name, far.name)
    })
    .map(drop)
}

impl<'a> Device<'a> {
    pub(crate) fn find(netlink: &'a Netlink, name: &'a str) -> Result<Self, Error> {
        let shown = show(netlink, name)?;
        Ok(Self {
            netlink,
            name,
            index: shown.header.index,
        })
    }

    /// Makes the device one that never speaks by itself: without ARP (TUN has none), groups and a
    /// link-local address there are no neighbour, router or group messages to spoil the counts.
    pub(crate) fn silence(&self) -> Result<(), Error> {
        let mut message = self.message();
        message.header.change_mask = LinkFlags::Noarp | LinkFlags::Multicast;
        message.header.flags = LinkFlags::Noarp;
        message
            .attributes
            .push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
                vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)],
            )]));
        self.change(message, "silence")
    }

    /// Removes it, and of a veth pair the other end too.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let request = RouteNetlinkMessage::DelLink(self.message());
        self.request(request, 0, || format!("remove {}", self.name))
    }

    pub(crate) fn set_mtu(&self, mtu: u32) -> Result<(), Error> {
        let mut message = self.message();
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.change(message, "set the MTU of")
    }

    /// Sets how many packets may wait for a device that has a queue of its own, such as TUN.
    pub(crate) fn set_queue_length(&self, packets: u32) -> Result<(), Error> {
        let mut message = self.message();
        message.attributes.push(LinkAttribute::TxQueueLen(packets));
        self.change(message, "set the queue length of")
    }

    pub(crate) fn bring_up(&self) -> Result<(), Error> {
        let mut message = self.message();
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = LinkFlags::Up;
        self.change(message, "bring up")
    }

    /// Whether the kernel has noticed that both ends are up. Until then a device drops everything.
    pub(crate) fn has_carrier(&self) -> Result<bool, Error> {
        let shown = show(self.netlink, self.name)?;
        Ok(shown
            .attributes
            .contains(&LinkAttribute::OperState(State::Up)))
    }

    pub(crate) fn add_address(&self, address: Prefix) -> Result<(), Error> {
        let Prefix(ip, bits) = address;
        let mut message = AddressMessage::default();
        message.header.family = family(ip);
        message.header.prefix_len = bits;
        message.header.index = self.index;
        message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
        if ip.is_ipv6() {
            // Otherwise it is no valid source until the kernel has looked for duplicates.
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        let request = RouteNetlinkMessage::NewAddress(message);
        self.request(request, NLM_F_CREATE | NLM_F_EXCL, || {
            format!("add the address {ip}/{bits}")
        })
    }

    /// Whether the kernel accepts packets to this own address. An IPv6 address that was just
    /// added it routes somewhat later.
    pub(crate) fn takes(&self, own: IpAddr) -> Result<bool, Error> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(own);
        message.header.destination_prefix_length = Prefix::host(own).1;
        message.attributes = vec![RouteAttribute::Destination(route_address(own))];
        let request = RouteNetlinkMessage::GetRoute(message);
        let answer = match self.netlink.request(request, 0) {
            Err(e) if e.kind() == io::ErrorKind::NetworkUnreachable => None,
            answer => refused(answer, || format!("ask for the route to {own}"))?,
        };
        let Some(RouteNetlinkMessage::NewRoute(route)) = answer else {
            return Ok(false);
        };
        Ok(route.header.kind == RouteType::Local)
    }

    /// Routes packets for `to` through the device; from `source`, where the sender leaves that
    /// open.
    pub(crate) fn add_route(&self, to: Prefix, source: Option<IpAddr>) -> Result<(), Error> {
        let Prefix(network, bits) = to;
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(network),
            destination_prefix_length: bits,
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Static,
            scope: if network.is_ipv4() {
                RouteScope::Link
            } else {
                RouteScope::Universe
            },
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        message.attributes = vec![
            RouteAttribute::Destination(route_address(network)),
            RouteAttribute::Oif(self.index),
        ];
        let source = source.map(|source| RouteAttribute::PrefSource(route_address(source)));
        message.attributes.extend(source);
        let request = RouteNetlinkMessage::NewRoute(message);
        self.request(request, NLM_F_CREATE | NLM_F_EXCL, || {
            format!("add the route {network}/{bits}")
        })
    }

    /// Sets a permanent link-layer address of a neighbour.
    pub(crate) fn set_neighbour(&self, neighbour: IpAddr, address: [u8; 6]) -> Result<(), Error> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(neighbour);
        message.header.ifindex = self.index;
        message.header.state = NeighbourState::Permanent;
        message.attributes = vec![
            NeighbourAttribute::Destination(neighbour.into()),
            NeighbourAttribute::LinkLayerAddress(address.to_vec()),
        ];
        let request = RouteNetlinkMessage::NewNeighbour(message);
        self.request(request, NLM_F_CREATE | NLM_F_REPLACE, || {
            format!("set the neighbour {neighbour}")
        })
    }

    /// Sends a request about this device that is answered with nothing.
    pub(crate) fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        action: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        let answer = self.netlink.request(message, flags);
        refused(answer, || {
            format!("{} at the device {}", action(), self.name)
        })
        .map(drop)
    }

    fn message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = self.index;
        message
    }

    fn change(&self, message: LinkMessage, action: &str) -> Result<(), Error> {
        let answer = self
            .netlink
            .request(RouteNetlinkMessage::SetLink(message), 0);
        refused(answer, || format!("{action} the device {}", self.name)).map(drop)
    }
}

/// Asks the kernel for a device.
fn show(netlink: &Netlink, name: &str) -> Result<LinkMessage, Error> {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    let answer = netlink.request(RouteNetlinkMessage::GetLink(message), 0);
    let action = || format!("ask for the device {name}");
    match refused(answer, action)? {
        Some(RouteNetlinkMessage::NewLink(link)) => Ok(link),
        answer => Err(Error::unreadable(
            format!("the kernel's answer about the device {name}"),
            format!("{answer:?}"),
        )),
    }
}

pub(crate) fn refused<T>(
    answer: io::Result<T>,
    action: impl FnOnce() -> String,
) -> Result<T, Error> {
    answer.map_err(|e| Error::system(action(), e, NEEDS_ROOT))
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}
