//! The path changes while something is sent.

use super::Scenario;
use super::bounds::recovers;
use crate::lab::check::Bound::{AtLeast, AtMost};
use crate::lab::check::Quantity::{More, Ratio};
use crate::lab::check::check;
use crate::lab::choices::Disturbance;
use crate::lab::figures::Figure::{RecoveredGoodputMbps, RecoveredLost};
use crate::lab::parameters::Parameters;

pub(super) static ALL: &[Scenario] = &[
    Scenario {
        name: "rebind",
        about: "the client goes on from another socket",
        parameters: |p| Parameters {
            disturb: Some(Disturbance::Rebind),
            seconds: 12.0,
            ..p
        },
        checks: recovers,
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
        checks: recovers,
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
        checks: recovers,
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
        checks: recovers,
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
        checks: recovers,
    },
    Scenario {
        name: "queue-replaced",
        about: "the root queue becomes one of another kind (also: --disturb queue-again)",
        parameters: |p| Parameters {
            disturb: Some(Disturbance::Queue),
            seconds: 12.0,
            ..p
        },
        checks: recovers,
    },
    Scenario {
        name: "moves-on",
        about: "the local limit is removed; the next hop has 80 Mbit/s and 200 kB (also: --next-hop)",
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
];
