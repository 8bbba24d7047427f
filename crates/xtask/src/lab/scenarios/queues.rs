//! One flow and the queue before it, in its own host or beyond.

use super::Scenario;
use super::bounds::{as_base, host_queue, local_queue, over_idle};
use crate::lab::check::Bound::{AtLeast, AtMost};
use crate::lab::check::Quantity::{Governed, OverIdle, Ratio};
use crate::lab::check::check;
use crate::lab::choices::{BottleneckAt, Tree};
use crate::lab::figures::Figure::{
    GoodputMbps, LinkUsePercent, LocalReductions, LostPackets, RiseSeconds, RttAfterFallMs,
    RttP50Ms, SteadyGoodputMbps, WindowMaxKb,
};
use crate::lab::parameters::Parameters;

/// Packets that the governor may take for local drops without being mistaken about policy: a
/// filter that drops 1 % drops hundreds.
const FEW: f64 = 5.0;

pub(super) static ALL: &[Scenario] = &[
    Scenario {
        name: "local-queue",
        about: "one flow, the bottleneck in its own host",
        parameters: |p| p,
        checks: local_queue,
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
        checks: local_queue,
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
        name: "htb-pfifo",
        about: "htb with a pfifo of 1,000 packets (also: --tree)",
        parameters: |p| Parameters {
            tree: Some(Tree::HtbPfifo1000),
            ..p
        },
        checks: |p| {
            vec![
                check(Ratio(SteadyGoodputMbps), AtLeast(0.98)).or(AtLeast(0.8)),
                over_idle(p, RttP50Ms, 3.0).or(AtMost(20.0)),
            ]
        },
    },
    Scenario {
        name: "htb-sibling",
        about: "htb with a class beside the flow's where 1 MB waits",
        parameters: |p| Parameters {
            tree: Some(Tree::HtbSibling),
            flood_mbps: 20.0,
            ..p
        },
        checks: |p| {
            vec![
                check(Ratio(SteadyGoodputMbps), AtLeast(0.995)).or(AtLeast(0.8)),
                over_idle(p, RttP50Ms, 3.0).or(AtMost(20.0)),
                check(Ratio(LostPackets), AtMost(0.1)),
            ]
        },
    },
    Scenario {
        name: "pfifo-fast",
        about: "htb with pfifo_fast",
        parameters: |p| Parameters {
            tree: Some(Tree::HtbPfifoFast),
            ..p
        },
        checks: host_queue,
    },
    Scenario {
        name: "fq",
        about: "htb with fq",
        parameters: |p| Parameters {
            tree: Some(Tree::HtbFq),
            ..p
        },
        checks: host_queue,
    },
    Scenario {
        name: "fq-paced",
        about: "fq that paces each flow at the rate, as with SO_MAX_PACING_RATE",
        parameters: |p| Parameters {
            tree: Some(Tree::FqMaxrate),
            ..p
        },
        checks: host_queue,
    },
    Scenario {
        name: "fq-codel",
        about: "htb with fq_codel",
        parameters: |p| Parameters {
            tree: Some(Tree::HtbFqCodel),
            ..p
        },
        checks: host_queue,
    },
    Scenario {
        name: "tbf-fq-codel",
        about: "a token bucket with fq_codel",
        parameters: |p| Parameters {
            tree: Some(Tree::TbfFqCodel),
            ..p
        },
        checks: host_queue,
    },
    Scenario {
        name: "cake",
        about: "cake, which shapes by itself",
        parameters: |p| Parameters {
            tree: Some(Tree::Cake),
            ..p
        },
        checks: host_queue,
    },
    Scenario {
        name: "fq-codel-ce",
        about: "htb with an fq_codel that marks after a millisecond (`ce_threshold 1ms`)",
        parameters: |p| Parameters {
            tree: Some(Tree::HtbFqCodelCe),
            ..p
        },
        checks: |_| {
            vec![check(Governed(LinkUsePercent), AtLeast(95.0)).known_to_miss(AtLeast(50.0))]
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
        about: "the bottleneck one hop on, the sender's own queue empty",
        parameters: |p| Parameters {
            bottleneck: BottleneckAt::Remote,
            ..p
        },
        checks: as_base,
    },
    Scenario {
        name: "random-loss",
        about: "0.1 % random loss on a path with its bottleneck one hop on (also: --loss 1)",
        parameters: |p| Parameters {
            bottleneck: BottleneckAt::Remote,
            loss_percent: 0.1,
            ..p
        },
        checks: as_base,
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
];
