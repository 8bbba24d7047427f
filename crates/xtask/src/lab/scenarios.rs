//! The scenarios: what each is, and what must hold.
//!
//! A bound compares the governed flows with stock ones in the same place and the same minutes.
//! "No worse than stock" is within 2 %, which is what two runs of stock differ by.

use super::check::Bound::{AtLeast, AtMost, Within};
use super::check::Quantity::{Gap, Governed, More, OverIdle, Ratio, Surely};
use super::check::{Check, check};
use super::disturb::Disturbance;
use super::figures::Figure::{
    BurstMaxMs, BurstP50Ms, ConnectMs, Fairness, GoodputMbps, LaterGoodputMbps, LinkUsePercent,
    LocalReductions, LostPackets, ReceiverDrops, RecoveredGoodputMbps, RecoveredLost,
    RecoveredRttMs, RiseSeconds, RttAfterFallMs, RttP50Ms, RttP99Ms, SharePercent, StallMs,
    WindowMaxKb, WorstSecondLost,
};
use super::parameters::{Parameters, Place, Tree};

/// A named set of parameters with what must hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// What it is, in one line.
    pub(super) about: &'static str,
    pub(super) parameters: fn(Parameters) -> Parameters,
    pub(super) checks: fn(&Parameters) -> Vec<Check>,
}

impl Scenario {
    /// The scenario of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|scenario| scenario.name == name)
    }

    /// Its own parameters.
    pub(super) fn own(&self) -> Parameters {
        (self.parameters)(Parameters::default())
    }
}

/// Packets that the governor may take for local drops without being mistaken about policy: a
/// filter that drops 1 % drops hundreds.
const FEW: f64 = 5.0;

pub(super) static ALL: &[Scenario] = &[
    Scenario {
        name: "local-queue",
        about: "one flow, the bottleneck in its own host",
        parameters: |p| p,
        checks: |_| local_queue(),
    },
    Scenario {
        name: "local-queue-fast",
        about: "the same at 300 Mbit/s, 300 kB of queue and 10 ms",
        parameters: |p| Parameters {
            rate_mbps: 300.0,
            queue_kb: 300.0,
            delay_ms: 10.0,
            ..p
        },
        checks: |_| local_queue(),
    },
    Scenario {
        name: "short-queue",
        about: "a queue of 20 kB",
        parameters: |p| Parameters {
            queue_kb: 20.0,
            ..p
        },
        checks: |_| {
            vec![
                check(Ratio(LostPackets), AtMost(0.1)),
                check(Ratio(GoodputMbps), AtLeast(1.0)).or(AtLeast(0.8)),
            ]
        },
    },
    Scenario {
        name: "deep-queue",
        about: "a queue of 2 MB, larger than the send buffer",
        parameters: |p| Parameters {
            queue_kb: 2000.0,
            ..p
        },
        checks: |_| {
            vec![
                check(OverIdle(RttP50Ms), AtMost(2.0)).or(AtMost(20.0)),
                // Eight times what the path holds; stock Cubic reaches tens of MB.
                check(Governed(WindowMaxKb), AtMost(1000.0)),
                check(Ratio(GoodputMbps), AtLeast(0.98)).or(AtLeast(0.8)),
            ]
        },
    },
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
        name: "rate-step",
        about: "50, then 10, then 50 Mbit/s, a third of the time each",
        parameters: |p| Parameters {
            step_mbps: Some(10.0),
            seconds: 12.0,
            ..p
        },
        checks: |_| {
            vec![
                check(OverIdle(RttAfterFallMs), AtMost(10.0)),
                check(Governed(RiseSeconds), AtMost(2.0)),
            ]
        },
    },
    Scenario {
        name: "remote-queue",
        about: "the bottleneck one hop on, the own queue empty",
        parameters: |p| Parameters {
            bottleneck: Place::Remote,
            ..p
        },
        checks: |_| as_base(),
    },
    Scenario {
        name: "random-loss",
        about: "0.1 % random loss on a path with its bottleneck one hop on (also: --loss 1)",
        parameters: |p| Parameters {
            bottleneck: Place::Remote,
            loss_percent: 0.1,
            ..p
        },
        checks: |_| as_base(),
    },
    Scenario {
        name: "policy-drops",
        about: "nftables drops 1 % of what leaves the sender's host",
        parameters: |p| Parameters {
            policy_percent: 1.0,
            ..p
        },
        checks: |_| {
            vec![
                check(Ratio(GoodputMbps), AtLeast(0.98)).or(AtLeast(0.8)),
                check(Governed(LocalReductions), AtMost(FEW)),
            ]
        },
    },
    Scenario {
        name: "slow-receiver",
        about: "a receiver with a small socket buffer on the same host, whose processors are busy",
        parameters: |p| Parameters {
            bottleneck: Place::SameHost,
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
        name: "htb-pfifo",
        about: "htb with a pfifo of 1,000 packets (also: --tree)",
        parameters: |p| Parameters {
            tree: Some(Tree::HtbPfifo1000),
            ..p
        },
        checks: |_| {
            vec![
                check(Ratio(GoodputMbps), AtLeast(0.98)).or(AtLeast(0.8)),
                check(OverIdle(RttP50Ms), AtMost(3.0)).or(AtMost(20.0)),
            ]
        },
    },
    Scenario {
        name: "moves-on",
        about: "the local limit goes; the next hop has 80 Mbit/s and 200 kB (also: --next-hop)",
        parameters: |p| Parameters {
            next_hop_mbps: Some(80.0),
            disturb: Some(Disturbance::MovesOn),
            seconds: 15.0,
            ..p
        },
        checks: |_| {
            vec![
                check(More(RecoveredLost), AtMost(10.0)).or(AtMost(200.0)),
                check(Ratio(RecoveredGoodputMbps), AtLeast(0.98)).or(AtLeast(0.8)),
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
        name: "two-connections",
        about: "two connections from one socket",
        parameters: |p| Parameters {
            flows: 2,
            one_socket: true,
            ..p
        },
        checks: |_| {
            vec![
                check(Ratio(LostPackets), AtMost(0.01)).or(AtMost(0.5)),
                check(OverIdle(RttP50Ms), AtMost(3.0)).or(AtMost(20.0)),
                check(Governed(Fairness), AtLeast(0.9)).or(AtLeast(0.5)),
                check(Governed(LinkUsePercent), AtLeast(98.0)).or(AtLeast(70.0)),
            ]
        },
    },
    Scenario {
        name: "reconnect",
        about: "two peers that connect and close twenty times before they download",
        parameters: |p| Parameters {
            peers: 2,
            reconnects: 20,
            ..p
        },
        checks: |_| accepts(),
    },
    Scenario {
        name: "half-open",
        about: "eight peers that come after 5,000 half-open connections",
        parameters: |p| Parameters {
            peers: 8,
            half_open: 5000,
            ..p
        },
        checks: |_| accepts(),
    },
    Scenario {
        name: "rebind",
        about: "the client goes on from another socket",
        parameters: |p| Parameters {
            disturb: Some(Disturbance::Rebind),
            seconds: 12.0,
            ..p
        },
        checks: |_| recovers(),
    },
    Scenario {
        name: "migration",
        about: "four peers of a server go on from another port",
        parameters: |p| Parameters {
            peers: 4,
            disturb: Some(Disturbance::Rebind),
            seconds: 12.0,
            ..p
        },
        checks: |_| recovers(),
    },
    Scenario {
        name: "mtu-change",
        about: "the device's MTU is 1280 for two seconds",
        parameters: |p| Parameters {
            disturb: Some(Disturbance::Mtu),
            disturb_s: 2.0,
            seconds: 15.0,
            ..p
        },
        checks: |_| recovers(),
    },
    Scenario {
        name: "link-flap",
        about: "the device is down for 0.2 s (also: --disturb-seconds, --disturb route)",
        parameters: |p| Parameters {
            disturb: Some(Disturbance::Link),
            disturb_s: 0.2,
            seconds: 12.0,
            ..p
        },
        checks: |_| recovers(),
    },
    Scenario {
        name: "device-replaced",
        about: "the device is removed, and half a second later one like it is there",
        parameters: |p| Parameters {
            disturb: Some(Disturbance::Device),
            disturb_s: 0.5,
            seconds: 12.0,
            ..p
        },
        checks: |_| recovers(),
    },
    Scenario {
        name: "queue-replaced",
        about: "the root queue becomes one of another kind (also: --disturb queue-again)",
        parameters: |p| Parameters {
            disturb: Some(Disturbance::Queue),
            seconds: 12.0,
            ..p
        },
        checks: |_| recovers(),
    },
];

/// A server accepts as fast as stock, and governs what it sends.
fn accepts() -> Vec<Check> {
    vec![
        check(Ratio(ConnectMs), AtMost(1.2)).or(AtMost(5.0)),
        check(OverIdle(RttP50Ms), AtMost(4.0)).or(AtMost(20.0)),
        check(Ratio(LostPackets), AtMost(0.02)).or(AtMost(0.5)),
        check(Ratio(GoodputMbps), AtLeast(0.98)).or(AtLeast(0.8)),
    ]
}

/// After a change of the path everything is as on the lab's local queue within two seconds.
fn recovers() -> Vec<Check> {
    vec![
        check(OverIdle(RecoveredRttMs), AtMost(3.0)).or(AtMost(15.0)),
        check(Ratio(RecoveredLost), AtMost(0.01)).or(AtMost(0.5)),
        check(Ratio(RecoveredGoodputMbps), AtLeast(0.98)).or(AtLeast(0.8)),
    ]
}

fn local_queue() -> Vec<Check> {
    vec![
        check(Ratio(LostPackets), AtMost(0.01)).or(AtMost(0.5)),
        check(OverIdle(RttP50Ms), AtMost(2.0)).or(AtMost(15.0)),
        check(OverIdle(RttP99Ms), AtMost(5.0)),
        check(Ratio(GoodputMbps), AtLeast(0.99)).or(AtLeast(0.8)),
        check(Governed(LinkUsePercent), AtLeast(98.0)).or(AtLeast(70.0)),
    ]
}

/// Where this host is not the bottleneck, nothing changes.
fn as_base() -> Vec<Check> {
    vec![
        check(Ratio(GoodputMbps), Within(0.98, 1.02)).or(Within(0.6, 1.6)),
        check(Gap(LostPackets), AtMost(0.1)),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::lab::parameters::Overrides;

    #[test]
    fn every_scenario_can_be_had_and_has_something_to_hold() {
        let names: BTreeSet<_> = ALL.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), ALL.len(), "two have one name");
        for scenario in ALL {
            let own = Overrides::default().apply(scenario.own());
            let own = own.unwrap_or_else(|error| panic!("{}: {error:#}", scenario.name));
            assert!(!(scenario.checks)(&own).is_empty(), "{}", scenario.name);
        }
    }

    #[test]
    fn the_documentation_lists_the_scenarios() {
        let document = include_str!("../../../../docs/lab.md");
        for Scenario { name, about, .. } in ALL {
            let line = format!("| `{name}` | {about} |");
            assert!(document.contains(&line), "{line}");
        }
    }

    #[test]
    fn wide_bounds_are_wider_than_goals() {
        for scenario in ALL {
            for check in (scenario.checks)(&scenario.own()) {
                let (low, high) = ends(check.goal);
                let Some(wide) = check.wide.map(ends) else {
                    continue;
                };
                assert!(wide.0 <= low && wide.1 >= high, "{}", scenario.name);
            }
        }
    }

    fn ends(bound: crate::lab::check::Bound) -> (f64, f64) {
        match bound {
            AtMost(most) => (f64::NEG_INFINITY, most),
            AtLeast(least) => (least, f64::INFINITY),
            Within(least, most) => (least, most),
        }
    }

    #[test]
    fn beside_three_tcp_flows_a_fifth_to_a_half_is_right() {
        let beside = Scenario::named("beside-tcp").unwrap();
        let three = Parameters {
            tcp: 3,
            ..beside.own()
        };
        let share = (beside.checks)(&three)[0];
        assert_eq!(share.goal, Within(20.0, 50.0));
    }
}
