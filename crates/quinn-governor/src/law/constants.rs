//! The numbers of the law: unit, reason, source.
//!
//! The effect of half and double of each was measured in the simulator: see the table in the [law's
//! documentation](super). Where a reason below states such an effect, that is why the number was
//! chosen, and the table is the test of it.

use std::time::Duration;

use crate::tuning::tuning;

/// Headers around a datagram's payload on the wire, bytes: Ethernet 14, IPv6 40, UDP 8. A backlog
/// counts bytes on the wire, a window payload. Only the few datagrams of the allowance are
/// subject to the difference (5% of them with IPv6, 3% with IPv4), and each sample measures the
/// backlog anew, so the error does not accumulate. Used only so that a share of one datagram admits
/// one.
pub(crate) const WIRE_OVERHEAD: u64 = 62;

/// Where a queue's limit starts, datagrams. The least that keeps a sender sending while the
/// acknowledgement of a pair is in flight: two pairs. The limit finds its size from here on
/// within milliseconds where it is too small, and by a datagram each [`Tuning::shrink_time`] where it
/// is too large.
pub(crate) const INITIAL_LIMIT_DATAGRAMS: u64 = 4;

/// Upper bound of a queue's limit, bytes, unless set otherwise: what Linux lets one TCP socket keep
/// below itself (`tcp_limit_output_bytes`, 1 MiB from 5.0 to 6.9, 4 MiB since). It bounds the effect of
/// wrong signals, and is far above what any scenario needed.
pub(crate) const MAX_LIMIT_BYTES: u64 = 1 << 20;

/// Least upper bound that may be set, bytes: one batch of ten datagrams and some room.
pub(crate) const MAX_LIMIT_FLOOR: u64 = 16 << 10;

/// Greatest upper bound that may be set, bytes: 5 ms of a 100 Gbit/s link.
pub(crate) const MAX_LIMIT_CEILING: u64 = 64 << 20;

/// Round trip assumed before the first is measured (RFC 9002 section 6.2.2).
pub(crate) const INITIAL_RTT: Duration = Duration::from_millis(333);

/// The largest burst of quinn's pacer (connection/pacing.rs): 2 ms at 5/4 of the window in a round
/// trip, at least ten datagrams. Given by quinn, so not among the numbers to tune.
pub(crate) const PACER_BURST: Duration = Duration::from_millis(2);
/// See [`PACER_BURST`].
pub(crate) const PACER_BURST_DATAGRAMS: u64 = 10;

/// The window with which quinn's pacer, which sends 5/4 of a window in a round trip, doubles what is in
/// flight, as a fraction of that: 8/5.
pub(crate) const PACED_WINDOW_TO_DOUBLE: (u64, u64) = (8, 5);

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

    /// The largest GSO batch while the cap is in force, as time at the flow's own rate. A batch enters
    /// the queue whole and, through a token bucket, leaves it whole; it is acknowledged at once, which
    /// triggers the next one: the backlog cannot be less than a batch.
    /// Linux's TCP sizes its batches so (`tcp_tso_autosize` with `sk_pacing_shift` 10: 1/1024 s).
    batch_time: Duration = Duration::from_millis(1);

    /// The least batch, datagrams: what a receiver acknowledges at once, and TCP's
    /// `tcp_min_tso_segs`.
    batch_datagrams: u64 = 2;

    /// How long the queue must not have run empty before it counts as the bottleneck: this, or a round
    /// trip where that is shorter. quinn's pacer sends in
    /// bursts of 2 ms (connection/pacing.rs), so a queue that outlives two of them does not drain
    /// between them; it is also what CoDel calls a standing queue (RFC 8289 section 4.4: 5 ms).
    standing_max: Duration = Duration::from_millis(5);

    /// Bursts of the pacer that a queue must hold to count as the bottleneck before
    /// [`Tuning::standing_max`] has passed, within which slow start can fill a short queue. One burst is
    /// normal, and a second may have followed it.
    outgrown_bursts: u64 = 2;

    /// Round trips in which sending was not limited before the cap may end: what was limited last has
    /// then been sent and acknowledged, and what followed it too.
    unused_rounds: u32 = 2;

    /// For how long after an overflow the cap does not end, and the queue's limit hardly grows above
    /// what overflowed; and for how long after a firewall's drop GSO batches are not split. A queue shorter than two bursts is empty or overflows, and never
    /// has a standing backlog. The wrapped controller returns to the window that overflowed meanwhile: ten
    /// seconds is Cubic's period (RFC 9438 section 4.2) for 1,300 datagrams.
    overflow_memory: Duration = Duration::from_secs(10);

    /// How long the queue must not have run empty before competing traffic's backlog is matched; and
    /// half of how long it is matched from then on. Governed processes find limits with which the queue runs
    /// empty several times in that time; half is too short for three of them, double leaves a
    /// sender with little beside a TCP flow that has reduced.
    competing_time: Duration = Duration::from_millis(200);

    /// By how much governed flows stay below competing traffic's backlog, as a divisor: an eighth.
    /// Because they match less than all of it, two processes that match each other converge; and a TCP
    /// flow beside two of them keeps its third. With a sixteenth it keeps a fifteenth.
    match_margin_divisor: u64 = 8;

    /// How far a controller's part of the target may be from an equal part, as a factor, because
    /// it sends less or more than the others. Two: what a window may change by in a round trip
    /// anyway. Half (no weight) preserves any distribution of rates; double only reaches equality
    /// faster.
    max_weight: u64 = 2;

    /// Slow start continues behind the cap until the wrapped controller's window is this many times the
    /// cap. Four is what it reaches by itself behind a queue of one bandwidth-delay product: two fill path and
    /// queue, and the window doubles once more before the loss is reported. A congestion event
    /// halves it at worst (RFC 9002 section 7.3.2; Cubic keeps 0.7, RFC 9438 section 4.6), so it
    /// still covers the cap after the one that ends slow start, and after one more with another cause:
    /// noise on the path, a firewall. Half leaves the wrapped controller less than it would have without
    /// a cap where such losses come soon; double is more than it would have.
    slow_start_cover: u64 = 4;

    /// Round trips in which the window doubles while the cap is released because the source is no
    /// longer trusted: it grows by a sixteenth of what is acknowledged. The link was busy, so all
    /// additional packets are queued, without being observed. The wrapped controller can respond to a
    /// sixteenth within a round trip. After twice as many round trips the cap has ended.
    release_rounds: u32 = 16;

    /// Lower bound of a queue's limit, datagrams: one being sent, one queued. Below it a link runs idle
    /// after every datagram.
    min_limit_datagrams: u64 = 2;

    /// How long a queue's limit must have limited sending, without the link running idle, before it
    /// shrinks by a datagram: one or a few round trips of most paths. It converges to where the link is
    /// idle for a moment once in this time.
    shrink_time: Duration = Duration::from_millis(32);
}
