//! The numbers of the law: unit, reason, source.
//!
//! What half and double of each do was measured in the simulator; the table is in the [law's
//! documentation](super). Where a reason below says what half or double would do, that is the
//! reasoning behind the choice, and the table is the test of it.

use std::time::Duration;

use crate::tuning::tuning;

/// Headers around a datagram's payload on the wire, bytes: Ethernet 14, IPv6 40, UDP 8. A backlog
/// counts bytes on the wire, a window payload. Only the few datagrams of the allowance are
/// subject to the difference (5% of them with IPv6, 3% with IPv4), and as each sample measures the
/// backlog anew, the error does not add up; so the law converts nothing and uses this only
/// so that a share of one datagram admits one.
pub(crate) const WIRE_OVERHEAD: u64 = 62;

/// Where a queue's limit starts, datagrams. The least that lets sending go on while the
/// acknowledgement of a pair is on its way, two pairs. The limit finds its size from here on
/// within milliseconds where it is too small, and by a datagram each [`Tuning::shrink_time`] where it
/// is too large.
pub(crate) const INITIAL_LIMIT_DATAGRAMS: u64 = 4;

/// Upper bound of a queue's limit, bytes, unless set otherwise: what Linux lets one TCP socket keep
/// below itself (`tcp_limit_output_bytes`, 1 MiB from 5.0 to 6.9, 4 MiB since). It is there so that
/// a misled limit cannot undo the cap, and is far above what any case needed.
pub(crate) const MAX_LIMIT_BYTES: u64 = 1 << 20;

/// Least upper bound that may be set, bytes: one batch of ten datagrams and some room.
pub(crate) const MAX_LIMIT_FLOOR: u64 = 16 << 10;

/// Greatest upper bound that may be set, bytes: 5 ms of a 100 Gbit/s link.
pub(crate) const MAX_LIMIT_CEILING: u64 = 64 << 20;

/// Round trip assumed before the first is measured (RFC 9002 section 6.2.2).
pub(crate) const INITIAL_RTT: Duration = Duration::from_millis(333);

/// What quinn's pacer lets out at once (connection/pacing.rs): what 5/4 of the window a round trip
/// gives in 2 ms, and ten datagrams at least. Given by quinn, so not among the numbers to tune.
pub(crate) const PACER_BURST: Duration = Duration::from_millis(2);
/// See [`PACER_BURST`].
pub(crate) const PACER_BURST_DATAGRAMS: u64 = 10;

tuning! {
    /// The law's numbers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    Tuning;

    /// Lower bound of the window, datagrams. quinn sends while `in flight + datagram < window`, so
    /// this admits three: a receiver acknowledges every second datagram at once (RFC 9000 section
    /// 13.2.2), and fewer would wait for its delayed acknowledgement. Half (one datagram in flight)
    /// stalls a short path for the receiver's 25 ms; double doubles the least backlog of many
    /// flows.
    min_window_datagrams: u64 = 4;

    /// What may leave as one batch while the cap is in force, as time at the flow's own rate. A
    /// batch enters the queue whole and, through a token bucket, leaves it whole, is acknowledged
    /// at once and so makes the next one: the backlog cannot be less than a batch.
    /// Linux's TCP sizes its batches so (`tcp_tso_autosize` with `sk_pacing_shift` 10: 1/1024 s).
    batch_time: Duration = Duration::from_millis(1);

    /// The least batch, datagrams: what a receiver acknowledges at once, and what
    /// `tcp_min_tso_segs` is for TCP.
    batch_datagrams: u64 = 2;

    /// How long the queue must not have run empty before it counts as the bottleneck, at most; shorter round trips wait for one of theirs. quinn's pacer sends in
    /// bursts of 2 ms (connection/pacing.rs), so a queue that outlives two of them does not drain
    /// between them; it is also what CoDel calls a standing queue (RFC 8289 section 4.4: 5 ms).
    standing_max: Duration = Duration::from_millis(5);

    /// Bursts of the pacer that a queue must hold to count as the bottleneck before its backlog has
    /// stood for long: slow start can fill a short queue within [`Tuning::standing_max`]. One is on its
    /// way in any case, a second may have come upon it.
    outgrown_bursts: u64 = 2;

    /// Round trips in which nothing was held back before the cap may end: what was held back last
    /// has then been acknowledged, and what that let go too.
    unused_rounds: u32 = 2;

    /// How long a queue that overflowed is remembered: as long the cap does not end, and the
    /// queue's limit hardly grows over what overflowed. As long a firewall's drop is remembered, and
    /// GSO batches are not split. A queue shorter than two bursts is empty or overflows, and never
    /// has a standing backlog. The wrapped controller comes back to the window that overflowed meanwhile: ten
    /// seconds is Cubic's period (RFC 9438 section 4.2) for 1,300 datagrams.
    overflow_memory: Duration = Duration::from_secs(10);

    /// How long the queue must not have run empty before others' backlog in it is matched; and half
    /// of how long it is from then on. Governed processes find limits with which the queue runs
    /// empty several times in that time; half is too short for three of them, double leaves a
    /// sender with little beside a TCP flow that has reduced.
    crowd_time: Duration = Duration::from_millis(200);

    /// How much less than others keep in the queue governed flows keep too, as a divisor: an eighth.
    /// Two processes that match each other come down from where noise brought them, because it is
    /// less than all; and a TCP flow beside two of them keeps its third. With a sixteenth it keeps a
    /// fifteenth.
    match_margin_divisor: u64 = 8;

    /// How far a controller's part of the target may be from an equal part, as a factor, because
    /// it sends less or more than the others. Two: what a window may change by in a round trip
    /// anyway. Half (no weight) leaves every distribution of rates as it came about; double only
    /// reaches equality faster.
    max_weight: u64 = 2;

    /// Slow start goes on behind the cap until base's window is this many times the cap. Four is
    /// what base itself comes to behind a queue of one bandwidth-delay product: two fill path and
    /// queue, and the window doubles once more before the loss is reported. A congestion event
    /// halves it at worst (RFC 9002 section 7.3.2; Cubic keeps 0.7, RFC 9438 section 4.6), so it
    /// still covers the cap after the one that ends slow start, and after one more that has another
    /// reason: noise on the path, a firewall. Half leaves base less than it would have
    /// without a cap where such losses come soon; double is more than it would have.
    slow_start_cover: u64 = 4;

    /// Round trips in which the window doubles while the cap is released because the source is no
    /// longer trusted: it grows by a sixteenth of what is acknowledged. The link was busy: all that is
    /// more goes into a queue that is not observed now. A sixteenth a round trip is what base can
    /// answer within one. After twice as many round trips base decides alone.
    release_rounds: u32 = 16;

    /// Lower bound of a queue's limit, datagrams: one being sent, one that waits. Below it a link
    /// runs dry after every datagram whatever is done.
    min_limit_datagrams: u64 = 2;

    /// How long a queue's limit must have held something back, with the link never idle because of it,
    /// before it shrinks by a datagram: a round trip or a few of most paths. Half and double move
    /// where it comes to rest: where the link has nothing to send for a moment once in this time.
    shrink_time: Duration = Duration::from_millis(32);
}
