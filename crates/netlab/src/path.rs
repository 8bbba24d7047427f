use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    thread,
    time::{Duration, Instant},
};

use crate::{
    device::{self, CableEnd, Device, Prefix},
    door::Door,
    error::Error,
    namespace::Namespace,
    qdisc::{self, QdiscStats, TokenBucket},
    relay::{Relay, RelayConfig, RelayStats},
    tun,
};

/// The sender's and the router's ends of the cable between them, or the sender's and receiver's.
const EGRESS: &str = "egress";
const INGRESS: &str = "ingress";
/// The TUN devices, in the router and in the receiver.
const RELAY: &str = "relay";

/// Link-layer addresses of the cable's ends, fixed so that neighbours need no discovery: no
/// packet crosses the queue that no test sent.
const EGRESS_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const INGRESS_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Packets that wait for the relay in the kernel, at most. The default of 500 is too few for a
/// burst of segmentation batches.
const TUN_QUEUE: u32 = 16_384;

/// How long the kernel may take for what it does in the background.
const PATIENCE: Duration = Duration::from_secs(5);

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];
}

/// The two ends' addresses, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// In the sender's namespace.
    pub sender: IpAddr,
    /// In the receiver's namespace.
    pub receiver: IpAddr,
}

/// Where the path is narrow. Towards the receiver only: the way back is never narrow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bottleneck {
    /// On the sender's own device: what waits there is still charged to the sending socket.
    Local(TokenBucket),
    /// On the router, where the sender observes nothing. Needs a relay.
    Remote(TokenBucket),
    /// Nowhere.
    #[default]
    None,
}

/// How to lay a [`Path`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathConfig {
    /// The narrow place.
    pub bottleneck: Bottleneck,
    /// A token bucket one hop on, besides a local bottleneck. Needs a relay.
    pub next_hop: Option<TokenBucket>,
    /// Delay, jitter and loss. Without it the two namespaces are joined by a cable alone, and
    /// every packet that leaves the bottleneck arrives.
    pub relay: Option<RelayConfig>,
    /// The largest IP packet, in bytes; at least 1,280, which IPv6 needs.
    pub mtu: u32,
    /// Give both ends a second pair of addresses, so that one socket can have two peers.
    pub second_peer: bool,
}

impl Default for PathConfig {
    /// A cable: no bottleneck, no relay, MTU 1,500, one pair of addresses a family.
    fn default() -> Self {
        Self {
            bottleneck: Bottleneck::None,
            next_hop: None,
            relay: None,
            mtu: 1500,
            second_peer: false,
        }
    }
}

impl PathConfig {
    /// The path of figures that name no other: 50 Mbit/s at the sender's own
    /// device, where 24 ms can wait, and 20 ms there and back.
    #[must_use]
    pub fn local_queue() -> Self {
        Self {
            bottleneck: Bottleneck::Local(TokenBucket {
                rate: 50_000_000,
                burst: 20_000,
                limit: 150_000,
            }),
            relay: Some(RelayConfig::symmetric(Duration::from_millis(10))),
            ..Self::default()
        }
    }
}

/// A path from a sender to a receiver, each in a namespace of its own.
///
/// Without a relay: sender, cable (veth), receiver. With one: sender, cable, router, TUN, relay,
/// TUN, receiver. Dropping it stops the relay and removes all of it.
#[derive(Debug)]
pub struct Path {
    // First, so that it stops before its devices go.
    relay: Option<Relay>,
    sender: Namespace,
    router: Option<Namespace>,
    receiver: Namespace,
    config: PathConfig,
}

impl Path {
    /// Lays a path; packets of both families pass when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a remote bottleneck without a relay or an MTU under 1,280, and what
    /// the system answers.
    pub fn new(config: &PathConfig) -> Result<Self, Error> {
        if matches!(config.bottleneck, Bottleneck::Remote(_)) && config.relay.is_none() {
            return Err(Error::Config("a remote bottleneck needs a relay"));
        }
        if config.next_hop.is_some()
            && (config.relay.is_none() || !matches!(config.bottleneck, Bottleneck::Local(_)))
        {
            return Err(Error::Config(
                "a bucket at the next hop needs a relay and a local bottleneck",
            ));
        }
        if config.mtu < 1280 {
            return Err(Error::Config("IPv6 needs an MTU of at least 1,280"));
        }
        let sender = Namespace::new()?;
        let receiver = Namespace::new()?;
        let router = config.relay.map(|_| Namespace::new()).transpose()?;
        let mut path = Self {
            relay: None,
            sender,
            router,
            receiver,
            config: *config,
        };
        path.lay_cable()?;
        if let (Some(router), Some(relay)) = (&path.router, &config.relay) {
            let devices = path.lay_relay(router)?;
            path.relay = Some(Relay::start(relay, config.mtu, devices)?);
        }
        path.address(&path.sender, EGRESS, End::Sender)?;
        path.address(&path.receiver, path.receiver_device(), End::Receiver)?;
        if let Some((namespace, device, bucket)) = path.bottleneck() {
            bucket.install(Device::find(namespace.netlink(), device)?)?;
        }
        if let (Some(bucket), Some(router)) = (config.next_hop, &path.router) {
            bucket.install(Device::find(router.netlink(), RELAY)?)?;
        }
        Ok(path)
    }

    /// The sender's namespace.
    #[must_use]
    pub fn sender(&self) -> &Namespace {
        &self.sender
    }

    /// The receiver's namespace.
    #[must_use]
    pub fn receiver(&self) -> &Namespace {
        &self.receiver
    }

    /// The router's namespace; there is one when there is a relay.
    #[must_use]
    pub fn router(&self) -> Option<&Namespace> {
        self.router.as_ref()
    }

    /// The name of the device by which the sender's packets leave its namespace.
    #[must_use]
    pub fn sender_device(&self) -> &'static str {
        EGRESS
    }

    /// The name of the device by which the receiver's packets leave its namespace.
    #[must_use]
    pub fn receiver_device(&self) -> &'static str {
        if self.router.is_some() {
            RELAY
        } else {
            INGRESS
        }
    }

    /// The two ends' addresses.
    #[must_use]
    pub fn addresses(&self, family: Family) -> Addresses {
        addresses(family, 1)
    }

    /// The two ends' second addresses, if [`PathConfig::second_peer`] asked for them.
    #[must_use]
    pub fn second_addresses(&self, family: Family) -> Option<Addresses> {
        self.config.second_peer.then(|| addresses(family, 2))
    }

    /// What the bottleneck's queue counted so far.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the path has none, and what the kernel refuses.
    pub fn bottleneck_stats(&self) -> Result<QdiscStats, Error> {
        let (namespace, device, _) = self.bottleneck().ok_or(NO_BOTTLENECK)?;
        qdisc::read(Device::find(namespace.netlink(), device)?)
    }

    /// Changes the bottleneck's rate, burst and limit; what waits there and its counters stay.
    ///
    /// # Errors
    ///
    /// As [`Path::bottleneck_stats`].
    pub fn change_bottleneck(&self, bucket: TokenBucket) -> Result<(), Error> {
        let (namespace, device, _) = self.bottleneck().ok_or(NO_BOTTLENECK)?;
        bucket.install(Device::find(namespace.netlink(), device)?)
    }

    /// Removes the sender's device, with all that belongs to it: addresses, routes and the queue.
    ///
    /// # Errors
    ///
    /// What the kernel refuses.
    pub fn remove_cable(&self) -> Result<(), Error> {
        Device::find(self.sender.netlink(), EGRESS)?.remove()
    }

    /// Makes the sender's device again, as it was when the path was laid.
    ///
    /// # Errors
    ///
    /// What the kernel refuses; also while the device is there.
    pub fn restore_cable(&self) -> Result<(), Error> {
        self.lay_cable()?;
        if let Some(router) = &self.router {
            self.lead_back(router)?;
        } else {
            self.address(&self.receiver, INGRESS, End::Receiver)?;
        }
        self.address(&self.sender, EGRESS, End::Sender)?;
        if let Bottleneck::Local(bucket) = self.config.bottleneck {
            bucket.install(Device::find(self.sender.netlink(), EGRESS)?)?;
        }
        Ok(())
    }

    /// What the relay did so far.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the path has none, and when /proc cannot be read.
    pub fn relay_stats(&self) -> Result<RelayStats, Error> {
        let (Some(relay), Some(router)) = (&self.relay, &self.router) else {
            return Err(Error::Config("the path has no relay"));
        };
        let mut stats = relay.stats();
        stats.forward.missed = router.device_stats(RELAY)?.send_dropped;
        stats.backward.missed = self.receiver.device_stats(RELAY)?.send_dropped;
        Ok(stats)
    }

    fn bottleneck(&self) -> Option<(&Namespace, &'static str, TokenBucket)> {
        match (self.config.bottleneck, &self.router) {
            (Bottleneck::Local(bucket), _) => Some((&self.sender, EGRESS, bucket)),
            (Bottleneck::Remote(bucket), Some(router)) => Some((router, RELAY, bucket)),
            _ => None,
        }
    }

    /// Joins the sender to the router, or to the receiver where there is none.
    fn lay_cable(&self) -> Result<(), Error> {
        let far = self.router.as_ref().unwrap_or(&self.receiver);
        let ends = [
            CableEnd {
                netlink: self.sender.netlink(),
                namespace: self.sender.descriptor(),
                name: EGRESS,
                link_layer_address: EGRESS_MAC,
            },
            CableEnd {
                netlink: far.netlink(),
                namespace: far.descriptor(),
                name: INGRESS,
                link_layer_address: INGRESS_MAC,
            },
        ];
        device::lay_cable(ends, self.config.mtu)?;
        let devices = [
            Device::find(self.sender.netlink(), EGRESS)?,
            Device::find(far.netlink(), INGRESS)?,
        ];
        for device in devices {
            device.silence()?;
            device.bring_up()?;
        }
        // A device that is up drops everything until then.
        devices.into_iter().try_for_each(|device| {
            let what = || format!("the carrier of {}", device.name);
            wait_until(what, || device.has_carrier())
        })
    }

    /// Makes the router forward between the cable and a TUN device, and another of these in the
    /// receiver. Returns the two, the router's first.
    fn lay_relay(&self, router: &Namespace) -> Result<(Door, Door), Error> {
        let devices = (
            Door::Tun(tun::open(router, RELAY)?),
            Door::Tun(tun::open(&self.receiver, RELAY)?),
        );
        for namespace in [router, &self.receiver] {
            let device = Device::find(namespace.netlink(), RELAY)?;
            device.set_mtu(self.config.mtu)?;
            device.set_queue_length(TUN_QUEUE)?;
            device.silence()?;
            device.bring_up()?;
        }
        for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            let file = format!("/proc/sys/net/{switch}");
            router.run(|| std::fs::write(&file, "1"))?.map_err(|e| {
                Error::system(
                    format!("write {file}"),
                    e,
                    "mount procfs writable, and enable IPv6",
                )
            })?;
        }
        let relay = Device::find(router.netlink(), RELAY)?;
        for family in Family::ALL {
            relay.add_route(End::Receiver.network(family), None)?;
        }
        self.lead_back(router)?;
        Ok(devices)
    }

    /// Adds the router's route to the sender.
    fn lead_back(&self, router: &Namespace) -> Result<(), Error> {
        let device = Device::find(router.netlink(), INGRESS)?;
        for family in Family::ALL {
            device.add_route(End::Sender.network(family), None)?;
        }
        self.introduce(router, INGRESS, End::Sender)
    }

    /// Gives a namespace its addresses and the routes to the other end's.
    fn address(&self, namespace: &Namespace, device: &str, end: End) -> Result<(), Error> {
        let found = Device::find(namespace.netlink(), device)?;
        for pair in self.pairs() {
            for family in Family::ALL {
                let (own, other) = end.own_and_other(addresses(family, pair));
                found.add_address(Prefix::host(own))?;
                wait_until(|| format!("the address {own}"), || found.takes(own))?;
                found.add_route(Prefix::host(other), Some(own))?;
            }
        }
        if device == RELAY {
            return Ok(());
        }
        self.introduce(namespace, device, end.opposite())
    }

    /// Adds a neighbour entry to a namespace: the link-layer address by which it reaches `end`.
    fn introduce(&self, namespace: &Namespace, device: &str, end: End) -> Result<(), Error> {
        let mac = if device == EGRESS {
            INGRESS_MAC
        } else {
            EGRESS_MAC
        };
        let device = Device::find(namespace.netlink(), device)?;
        for pair in self.pairs() {
            for family in Family::ALL {
                let (peer, _) = end.own_and_other(addresses(family, pair));
                device.set_neighbour(peer, mac)?;
            }
        }
        Ok(())
    }

    fn pairs(&self) -> impl Iterator<Item = u8> {
        1..=if self.config.second_peer { 2 } else { 1 }
    }
}

const NO_BOTTLENECK: Error = Error::Config("the path has no bottleneck");

#[derive(Clone, Copy)]
enum End {
    Sender,
    Receiver,
}

impl End {
    fn opposite(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }

    fn own_and_other(self, pair: Addresses) -> (IpAddr, IpAddr) {
        match self {
            Self::Sender => (pair.sender, pair.receiver),
            Self::Receiver => (pair.receiver, pair.sender),
        }
    }

    fn network(self, family: Family) -> Prefix {
        let (own, _) = self.own_and_other(addresses(family, 0));
        let bits = match family {
            Family::V4 => 24,
            Family::V6 => 64,
        };
        Prefix(own, bits)
    }
}

/// Pair 1 or 2; as pair 0, the networks of the ends.
fn addresses(family: Family, pair: u8) -> Addresses {
    let address = |end| match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 99, end, pair)),
        Family::V6 => {
            let (end, pair) = (u16::from(end), u16::from(pair));
            IpAddr::V6(Ipv6Addr::new(0xfd99, end, 0, 0, 0, 0, 0, pair))
        }
    };
    Addresses {
        sender: address(1),
        receiver: address(2),
    }
}

/// Waits for what the kernel does in the background.
fn wait_until(
    what: impl Fn() -> String,
    holds: impl Fn() -> Result<bool, Error>,
) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    while !holds()? {
        if Instant::now() > deadline {
            return Err(Error::TimedOut {
                what: what(),
                seconds: PATIENCE.as_secs(),
            });
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
