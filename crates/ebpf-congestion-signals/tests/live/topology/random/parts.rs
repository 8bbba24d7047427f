//! What a topology is put together from.

use std::fmt;
use std::thread;
use std::time::Duration;

use netlab::Namespace;

use super::super::bed::{address, bind, cable, neighbour, quiet_up, try_sh};

/// A generator of numbers: SplitMix64 (Steele, Lea, Flood, 2014).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// From `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.next() % length as u64).expect("below a length")
    }

    pub(super) fn one_in(&mut self, several: u64) -> bool {
        self.next().is_multiple_of(several)
    }

    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }
}

/// How the sender's namespace is joined to the receiver's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Devices {
    Veth,
    /// A VLAN on it, which has the queue.
    Vlan,
    /// The same, and the queue below.
    VlanBelow,
    Macvlan,
    /// A bridge of the host between, whose far port has the queue.
    Bridge,
    /// What comes out of a container is sent through an intermediate functional block.
    Ifb,
}

const DEVICES: [Devices; 6] = [
    Devices::Veth,
    Devices::Vlan,
    Devices::VlanBelow,
    Devices::Macvlan,
    Devices::Bridge,
    Devices::Ifb,
];

/// Namespaces joined by devices; the receiver's address is 10.9.1.2.
pub(super) struct Topology {
    pub(super) devices: Devices,
    pub(super) sender: Namespace,
    pub(super) receiver: Namespace,
    host: Option<Namespace>,
    /// The device with the queue.
    pub(super) shaped: &'static str,
}

impl Topology {
    /// An `Err` where this kernel lacks a device of it.
    pub(super) fn new(dice: &mut Dice) -> Result<Self, String> {
        let devices = dice.of(&DEVICES);
        let namespace = || Namespace::new().map_err(|error| error.to_string());
        let (sender, receiver) = (namespace()?, namespace()?);
        let mut topology = Self {
            devices,
            sender,
            receiver,
            host: None,
            shaped: "a0",
        };
        if devices == Devices::Bridge {
            topology.bridge(namespace()?)?;
            return Ok(topology);
        }
        let (a, b) = (&topology.sender, &topology.receiver);
        cable([a, b], ["a0", "b0"], 1, "");
        let (mut ends, mut hardware) = (["a0", "b0"], "02:00:00:00:01:01");
        match devices {
            Devices::Vlan | Devices::VlanBelow => {
                for (namespace, below) in [(a, "a0"), (b, "b0")] {
                    let line = format!("ip link add link {below} name v{below} type vlan id 7");
                    try_sh(namespace, &line)?;
                    quiet_up(namespace, &format!("v{below}"));
                }
                ends = ["va0", "vb0"];
                if devices == Devices::Vlan {
                    topology.shaped = "va0";
                }
            }
            Devices::Macvlan => {
                try_sh(
                    a,
                    "ip link add link a0 name m0 address 02:00:00:00:77:01 type macvlan mode bridge",
                )?;
                quiet_up(a, "m0");
                (ends[0], hardware) = ("m0", "02:00:00:00:77:01");
                topology.shaped = "m0";
            }
            Devices::Ifb => {
                try_sh(b, "ip link add ifb0 type ifb")?;
                quiet_up(b, "ifb0");
                try_sh(
                    b,
                    "tc qdisc add dev b0 ingress && tc filter add dev b0 parent ffff: protocol ip \
                     u32 match u32 0 0 action mirred egress redirect dev ifb0",
                )?;
                topology.shaped = "ifb0";
            }
            Devices::Veth | Devices::Bridge => {}
        }
        address(a, ends[0], "10.9.1.1/24");
        address(b, ends[1], "10.9.1.2/24");
        neighbour(a, ends[0], "10.9.1.2", "02:00:00:00:01:02");
        neighbour(b, ends[1], "10.9.1.1", hardware);
        Ok(topology)
    }

    fn bridge(&mut self, host: Namespace) -> Result<(), String> {
        cable([&self.sender, &host], ["n0", "p0"], 1, "");
        cable([&host, &self.receiver], ["f0", "r0"], 2, "");
        try_sh(
            &host,
            "ip link add br0 type bridge forward_delay 0 mcast_snooping 0 && \
             ip link set p0 master br0 && ip link set f0 master br0",
        )?;
        quiet_up(&host, "br0");
        let unseen = || std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0").ok();
        host.run(unseen).map_err(|error| error.to_string())?;
        address(&self.sender, "n0", "10.9.1.1/24");
        address(&self.receiver, "r0", "10.9.1.2/24");
        neighbour(&self.sender, "n0", "10.9.1.2", "02:00:00:00:02:02");
        neighbour(&self.receiver, "r0", "10.9.1.1", "02:00:00:00:01:01");
        thread::sleep(Duration::from_millis(100));
        // The bridge learns where the far end is.
        let far = bind(&self.receiver, "10.9.1.2:0");
        let here = far.send_to(b"here", "10.9.1.1:9");
        here.map_err(|error| error.to_string())?;
        thread::sleep(Duration::from_millis(50));
        self.shaped = "f0";
        self.host = Some(host);
        Ok(())
    }

    /// Where the queue is.
    pub(super) fn at_queue(&self) -> &Namespace {
        match (&self.host, self.devices) {
            (Some(host), _) => host,
            (None, Devices::Ifb) => &self.receiver,
            (None, _) => &self.sender,
        }
    }

    /// Whether the kernel sends on what another device has held back.
    pub(super) fn is_stacked(&self) -> bool {
        matches!(self.devices, Devices::Vlan | Devices::Macvlan)
    }
}

/// What holds back or drops.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Shaper {
    kind: Kind,
    /// Mbit/s
    rate: u64,
    /// Packets that fit.
    limit: u64,
    /// Major number of its handle: the kernel changes what has the same, and replaces others.
    pub(super) major: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tbf,
    TbfPfifo,
    TbfHeadDrop,
    TbfFqCodel,
    HtbPfifo,
    HtbBfifo,
    HtbFqCodel,
    Fq,
    FqCodel,
    Netem,
    Pfifo,
}

const KINDS: [Kind; 11] = [
    Kind::Tbf,
    Kind::TbfPfifo,
    Kind::TbfHeadDrop,
    Kind::TbfFqCodel,
    Kind::HtbPfifo,
    Kind::HtbBfifo,
    Kind::HtbFqCodel,
    Kind::Fq,
    Kind::FqCodel,
    Kind::Netem,
    Kind::Pfifo,
];

impl fmt::Debug for Shaper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} Mbit/s {}", self.kind, self.rate, self.limit)
    }
}

impl Shaper {
    pub(super) fn new(dice: &mut Dice, major: u64) -> Self {
        Self {
            major,
            kind: dice.of(&KINDS),
            rate: dice.between(2, 20),
            limit: dice.between(10, 60),
        }
    }

    /// The same kind with other numbers, or another in its place.
    pub(super) fn changed(self, dice: &mut Dice) -> Self {
        const CHANGEABLE: [Kind; 5] =
            [Kind::Tbf, Kind::Fq, Kind::FqCodel, Kind::Netem, Kind::Pfifo];
        if CHANGEABLE.contains(&self.kind) && dice.one_in(2) {
            Self {
                kind: self.kind,
                ..Self::new(dice, self.major)
            }
        } else {
            Self::new(dice, self.major + 1)
        }
    }

    pub(super) fn handle(self) -> String {
        format!("{:x}:", self.major)
    }

    /// Makes it the root of a device, in place of what is there; an `Err` where this kernel lacks it.
    pub(super) fn put(&self, at: &Namespace, device: &str) -> Result<(), String> {
        let Self {
            kind, rate, limit, ..
        } = *self;
        let handle = self.handle();
        let bytes = limit * 1300;
        let root = format!("tc qdisc replace dev {device} root handle {handle}");
        let tbf = format!("{root} tbf rate {rate}mbit burst 15000 limit {bytes}");
        let htb = format!(
            "{root} htb default 1 && \
             tc class replace dev {device} parent {handle} classid {handle}1 htb rate {rate}mbit burst 3000"
        );
        let child = format!(
            "tc qdisc replace dev {device} parent {handle}1 handle {:x}:",
            self.major + 0x100
        );
        let line = match kind {
            Kind::Tbf => tbf,
            Kind::TbfPfifo => format!("{tbf} && {child} pfifo limit {limit}"),
            Kind::TbfHeadDrop => format!("{tbf} && {child} pfifo_head_drop limit {limit}"),
            Kind::TbfFqCodel => format!("{tbf} && {child} fq_codel limit {limit} noecn"),
            Kind::HtbPfifo => format!("{htb} && {child} pfifo limit {limit}"),
            Kind::HtbBfifo => format!("{htb} && {child} bfifo limit {bytes}"),
            Kind::HtbFqCodel => format!("{htb} && {child} fq_codel limit {limit} noecn"),
            Kind::Fq => format!("{root} fq maxrate {rate}mbit flow_limit {limit}"),
            Kind::FqCodel => format!("{root} fq_codel limit {limit} noecn"),
            Kind::Netem => format!("{root} netem rate {rate}mbit limit {limit}"),
            Kind::Pfifo => format!("{root} pfifo limit {limit}"),
        };
        try_sh(at, &line).map(drop)
    }
}
