//! What must hold in several scenarios.
//!
//! A bound compares the governed flows with stock ones in the same place and the same minutes.
//! "No worse than stock" is within 2 %, which is what two runs of stock differ by on a real machine.

use crate::lab::check::Bound::{AtLeast, AtMost, Within};
use crate::lab::check::Quantity::{Gap, Governed, More, OverIdle, Ratio};
use crate::lab::check::{Check, check};
use crate::lab::figures::Figure;
use crate::lab::figures::Figure::{
    ConnectMs, DropsAndMarks, GoodputMbps, LinkUsePercent, LostPackets, QueueDrops,
    RecoveredGoodputMbps, RecoveredLost, RecoveredRttMs, RttP50Ms, RttP99Ms, SharePercent,
    SteadyGoodputMbps,
};
use crate::lab::parameters::Parameters;

/// A server accepts as fast as stock, and governs what it sends.
pub(super) fn accepts(p: &Parameters) -> Vec<Check> {
    vec![
        check(Ratio(ConnectMs), AtMost(1.2)).or(AtMost(5.0)),
        over_idle(p, RttP50Ms, 4.0).or(AtMost(20.0)),
        check(Ratio(LostPackets), AtMost(0.02)).or(AtMost(0.5)),
        check(Ratio(GoodputMbps), AtLeast(0.98)).or(AtLeast(0.8)),
    ]
}

/// After a change of the path everything is as on the lab's local queue within two seconds.
pub(super) fn recovers(p: &Parameters) -> Vec<Check> {
    vec![
        over_idle(p, RecoveredRttMs, 3.0).or(AtMost(15.0)),
        check(Ratio(RecoveredLost), AtMost(0.01)).or(AtMost(0.5)),
        check(Ratio(RecoveredGoodputMbps), AtLeast(0.98)).or(AtLeast(0.8)),
    ]
}

/// Whether a datagram takes more than half a millisecond to send: then those few that keep the link
/// busy take longer than where the goals were set, at 50 Mbit/s.
fn is_slow(p: &Parameters) -> bool {
    p.rate_mbps < 25.0
}

/// That a round trip is this much above the idle path's: on a slow link 4 ms. What is left in the
/// queue there is three datagrams or half a one more, from run to run.
pub(super) fn over_idle(p: &Parameters, figure: Figure, goal: f64) -> Check {
    if is_slow(p) {
        check(OverIdle(figure), AtMost(goal.max(4.0))).known_to_miss(AtMost(5.0))
    } else {
        check(OverIdle(figure), AtMost(goal))
    }
}

/// What hosts have for a queue.
pub(super) fn host_queue(p: &Parameters) -> Vec<Check> {
    vec![
        check(Ratio(SteadyGoodputMbps), AtLeast(0.995)).or(AtLeast(0.8)),
        over_idle(p, RttP50Ms, 3.0).or(AtMost(20.0)),
        check(Ratio(DropsAndMarks), AtMost(0.1)),
    ]
}

/// Beside TCP where the queue keeps flows apart: each gets its part, and TCP loses no more than
/// beside stock. CoDel drops what has waited for 5 ms all through 100 ms: beside the batches of a
/// stock sender TCP's queue falls below that now and then, beside a steady one it does not.
pub(super) fn apart(_: &Parameters) -> Vec<Check> {
    vec![
        check(Governed(SharePercent), Within(45.0, 60.0)).or(Within(20.0, 80.0)),
        check(More(QueueDrops), AtMost(0.0)).known_to_miss(AtMost(60.0)),
    ]
}

pub(super) fn local_queue(p: &Parameters) -> Vec<Check> {
    vec![
        check(Ratio(LostPackets), AtMost(0.01)).or(AtMost(0.5)),
        over_idle(p, RttP50Ms, 2.0).or(AtMost(15.0)),
        check(
            OverIdle(RttP99Ms),
            AtMost(if is_slow(p) { 8.0 } else { 5.0 }),
        ),
        check(Ratio(GoodputMbps), AtLeast(0.99)).or(AtLeast(0.8)),
        check(Governed(LinkUsePercent), AtLeast(98.0)).or(AtLeast(70.0)),
    ]
}

/// Where this host is not the bottleneck, nothing changes.
pub(super) fn as_base(_: &Parameters) -> Vec<Check> {
    vec![
        check(Ratio(GoodputMbps), Within(0.98, 1.02)).or(Within(0.6, 1.6)),
        check(Gap(LostPackets), AtMost(0.1)),
    ]
}
