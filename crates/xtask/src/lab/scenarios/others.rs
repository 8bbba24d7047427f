//! Competing traffic, several connections, and what else a host does.

use super::Scenario;
use super::bounds::{accepts, apart, over_idle};
use crate::lab::check::Bound::{AtLeast, AtMost, Within};
use crate::lab::check::Quantity::{Governed, OverIdle, Ratio, Surely};
use crate::lab::check::check;
use crate::lab::choices::{BottleneckAt, Tree};
use crate::lab::figures::Figure::{
    BurstMaxMs, BurstP50Ms, DropsAndMarks, Fairness, GoodputMbps, LaterGoodputMbps, LinkUsePercent,
    LostPackets, ReceiverDrops, RttP50Ms, SharePercent, StallMs, SteadyGoodputMbps,
    WorstSecondLost,
};
use crate::lab::parameters::Parameters;

/// TCP Cubic below a queue discipline that keeps flows apart.
fn beside_tcp(parameters: Parameters, tree: Tree) -> Parameters {
    Parameters {
        tree: Some(tree),
        tcp: 1,
        seconds: 12.0,
        ..parameters
    }
}

pub(super) static ALL: &[Scenario] = &[
    Scenario {
        name: "beside-tcp",
        about: "beside TCP Cubic on the same queue",
        parameters: |p| Parameters {
            tcp: 1,
            seconds: 20.0,
            ..p
        },
        checks: |p| {
            // Beside one, near the half; beside more, around the even share: 20 to 50 % of three.
            let (least, most) = match p.tcp {
                0 | 1 => (40.0, 60.0),
                others => (80.0 / f64::from(others + 1), 200.0 / f64::from(others + 1)),
            };
            vec![
                check(Governed(SharePercent), Within(least, most)).or(Within(5.0, 95.0)),
                check(Governed(LinkUsePercent), AtLeast(97.0)).or(AtLeast(70.0)),
            ]
        },
    },
    Scenario {
        name: "beside-stock",
        about: "beside a stock QUIC flow on the same queue",
        parameters: |p| Parameters {
            rivals: 1,
            seconds: 12.0,
            ..p
        },
        checks: |_| vec![check(Governed(SharePercent), AtLeast(30.0)).or(AtLeast(5.0))],
    },
    Scenario {
        name: "fq-codel-beside-tcp",
        about: "beside TCP Cubic, htb with fq_codel",
        parameters: |p| beside_tcp(p, Tree::HtbFqCodel),
        checks: apart,
    },
    Scenario {
        name: "cake-beside-tcp",
        about: "beside TCP Cubic, cake",
        parameters: |p| beside_tcp(p, Tree::Cake),
        checks: apart,
    },
    Scenario {
        name: "fq-codel-four",
        about: "four flows with a socket each, htb with fq_codel",
        parameters: |p| Parameters {
            tree: Some(Tree::HtbFqCodel),
            flows: 4,
            ..p
        },
        checks: |_| {
            vec![
                check(Governed(Fairness), AtLeast(0.95)).or(AtLeast(0.6)),
                check(Ratio(SteadyGoodputMbps), AtLeast(0.995)).or(AtLeast(0.8)),
                check(Ratio(DropsAndMarks), AtMost(0.1)),
            ]
        },
    },
    Scenario {
        name: "four-flows",
        about: "four flows with a socket each, that start half a second after one another",
        parameters: |p| Parameters {
            flows: 4,
            stagger_s: 0.5,
            seconds: 12.0,
            ..p
        },
        checks: |_| {
            vec![
                check(Governed(Fairness), AtLeast(0.95)).or(AtLeast(0.6)),
                check(Ratio(LostPackets), AtMost(0.02)).or(AtMost(0.5)),
                check(OverIdle(RttP50Ms), AtMost(4.0)).or(AtMost(20.0)),
                check(Governed(LinkUsePercent), AtLeast(98.0)).or(AtLeast(70.0)),
            ]
        },
    },
    Scenario {
        name: "three-sockets",
        about: "three flows with a socket each, all from the beginning",
        parameters: |p| Parameters { flows: 3, ..p },
        checks: |_| {
            vec![
                check(Governed(Fairness), AtLeast(0.95)).or(AtLeast(0.6)),
                check(Ratio(LostPackets), AtMost(0.01)).or(AtMost(0.5)),
                check(OverIdle(RttP50Ms), AtMost(5.0)).or(AtMost(20.0)),
            ]
        },
    },
    Scenario {
        name: "two-connections",
        about: "two connections from one socket",
        parameters: |p| Parameters {
            flows: 2,
            one_socket: true,
            ..p
        },
        checks: |p| {
            vec![
                check(Ratio(LostPackets), AtMost(0.01)).or(AtMost(0.5)),
                over_idle(p, RttP50Ms, 3.0).or(AtMost(20.0)),
                check(Governed(Fairness), AtLeast(0.9)).or(AtLeast(0.5)),
                check(Governed(LinkUsePercent), AtLeast(98.0)).or(AtLeast(70.0)),
            ]
        },
    },
    Scenario {
        name: "fifty-peers",
        about: "a server that sends from its one socket to 50 peers",
        parameters: |p| Parameters {
            peers: 50,
            seconds: 12.0,
            ..p
        },
        checks: |_| {
            vec![
                check(Governed(Fairness), AtLeast(0.9)).or(AtLeast(0.5)),
                check(Ratio(LostPackets), AtMost(0.02)),
            ]
        },
    },
    Scenario {
        name: "slow-receiver",
        about: "a receiver with a small socket buffer on the same host, whose processors are busy",
        parameters: |p| Parameters {
            bottleneck: BottleneckAt::SameHost,
            delay_ms: 0.0,
            receive_buffer_kb: Some(32.0),
            busy: 2,
            ..p
        },
        checks: |_| {
            vec![
                // Fewer, and not by chance.
                check(Surely(ReceiverDrops), AtMost(0.99)),
                check(Ratio(GoodputMbps), AtLeast(1.0)).or(AtLeast(0.5)),
            ]
        },
    },
    Scenario {
        name: "source-dies",
        about: "the probes are taken away at half time",
        parameters: |p| Parameters {
            detach: Some(0.5),
            ..p
        },
        checks: |_| {
            vec![
                check(Ratio(LaterGoodputMbps), AtLeast(0.98)).or(AtLeast(0.75)),
                check(Ratio(WorstSecondLost), AtMost(1.0)).or(AtMost(3.0)),
            ]
        },
    },
    Scenario {
        name: "busy-host",
        about: "both processors of the host busy with other things",
        parameters: |p| Parameters { busy: 2, ..p },
        checks: |_| {
            vec![
                check(Ratio(GoodputMbps), AtLeast(0.98)).or(AtLeast(0.5)),
                // Fifty round trips.
                check(Governed(StallMs), AtMost(1000.0)),
            ]
        },
    },
    Scenario {
        name: "app-limited",
        about: "a sender that bursts 500 kB and pauses",
        parameters: |p| Parameters {
            burst_kb: Some(500.0),
            ..p
        },
        checks: |_| {
            vec![
                check(Ratio(BurstP50Ms), AtMost(1.02)).or(AtMost(2.0)),
                check(Ratio(BurstMaxMs), AtMost(1.02)),
            ]
        },
    },
    Scenario {
        name: "ack-flood",
        about: "a client downloads while UDP floods its uplink, then uploads 1 MB",
        parameters: |p| Parameters {
            flood_mbps: 60.0,
            download_first_s: 6.0,
            burst_kb: Some(1000.0),
            pause_ms: 60_000.0,
            seconds: 8.0,
            ..p
        },
        checks: |_| vec![check(Ratio(BurstP50Ms), AtMost(1.03)).or(AtMost(2.0))],
    },
    Scenario {
        name: "reconnect",
        about: "two peers that connect and close twenty times before they download",
        parameters: |p| Parameters {
            peers: 2,
            reconnects: 20,
            ..p
        },
        checks: accepts,
    },
    Scenario {
        name: "half-open",
        about: "eight peers that connect after 5,000 half-open connections",
        parameters: |p| Parameters {
            peers: 8,
            half_open: 5000,
            ..p
        },
        checks: accepts,
    },
];
