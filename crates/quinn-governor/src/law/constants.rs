//! The numbers of the law: unit, reason, source, and what half and double of each would do.

use std::time::Duration;

/// Headers around a datagram's payload on the wire, bytes: Ethernet 14, IPv6 40, UDP 8. Backlog is
/// told in bytes on the wire, a window counts payload. Only the few datagrams of the allowance are
/// subject to the difference (5% of them with IPv6, 3% with IPv4), and as the backlog is measured
/// again at every look the error does not add up; so the law converts nothing and uses this only
/// so that a share of one datagram admits one.
pub(crate) const WIRE_OVERHEAD: u64 = 62;

/// Lower bound of the window, datagrams. quinn sends while `in flight + datagram < window`, so this
/// admits three: a receiver acknowledges every second datagram at once (RFC 9000 section 13.2.2),
/// and fewer would wait for its delayed acknowledgement. Half (one datagram in flight) stalls a
/// short path for the receiver's 25 ms; double doubles what many flows keep standing at least.
pub(crate) const MIN_WINDOW_DATAGRAMS: u64 = 4;

/// Where a queue's limit starts, datagrams. The least that lets sending go on while the
/// acknowledgement of a pair is on its way, two pairs. The limit finds its size from here on
/// within milliseconds where it is too small and within [`HOLD`] where it is too large, so half or
/// double only changes the first of these.
pub(crate) const INITIAL_LIMIT_DATAGRAMS: u64 = 4;

/// Lower bound of a queue's limit, datagrams: one being sent, one that waits. Below it a link runs
/// dry after every datagram whatever is done.
pub(crate) const MIN_LIMIT_DATAGRAMS: u64 = 2;

/// Upper bound of a queue's limit, bytes, unless set otherwise: what Linux lets one TCP socket keep
/// below itself (`tcp_limit_output_bytes`, 1 MiB from 5.0 to 6.9, 4 MiB since). It is there so that
/// a misled limit cannot undo the cap, and is far above what any case needed.
pub(crate) const MAX_LIMIT_BYTES: u64 = 1 << 20;

/// Least upper bound that may be set, bytes: one batch of ten datagrams and some room.
pub(crate) const MAX_LIMIT_FLOOR: u64 = 16 << 10;

/// Greatest upper bound that may be set, bytes: 5 ms of a 100 Gbit/s link.
pub(crate) const MAX_LIMIT_CEILING: u64 = 64 << 20;

/// How long a backlog must have been more than needed before the limit shrinks by all of it. One
/// second, as in Linux's dynamic queue limits (`lib/dynamic_queue_limits.c`): long against the
/// rhythm of acknowledgements on any path, short against a transfer. Half lets the limit follow
/// bursts with gaps of half a second; double keeps for two seconds what a hiccup raised.
pub(crate) const HOLD: Duration = Duration::from_secs(1);

/// Part of the time that the link may have nothing to send because of the limit, as a divisor:
/// 0.8%. A limit that tolerates none has to allow for the longest gap between acknowledgements that
/// ever comes, and everything waits in a queue of that length: in simulation at 50 Mbit/s 3.6 ms
/// stood so, and 2.2 ms with this, at the same goodput. Half changes that by a tenth of a
/// millisecond or two; double would cost more than 1% of the rate.
pub(crate) const IDLE_DIVISOR: u32 = 128;

/// Idle time that must have been left unused before the limit shrinks by a datagram: with
/// [`IDLE_DIVISOR`] that is once in 32 ms, a round trip or a few of most paths. Double shrinks half
/// as fast; half would answer to what single acknowledgements bring.
pub(crate) const IDLE_STEP: Duration = Duration::from_micros(250);

/// How long the queue must have stood without running empty before it counts as the bottleneck,
/// at most; shorter round trips wait for one of theirs. quinn's pacer sends in bursts of 2 ms
/// (connection/pacing.rs), so a queue that outlives two of them does not drain between them; it is
/// also what CoDel calls a standing queue (RFC 8289 section 4.4: 5 ms). Half could take two
/// bursts in a row for a standing queue; double lets slow start put twice as much into the queue.
pub(crate) const STANDING_MAX: Duration = Duration::from_millis(5);

/// The same, at least: below a millisecond timers and schedulers decide, not the queue.
pub(crate) const STANDING_MIN: Duration = Duration::from_millis(1);

/// How much of what others keep in the queue governed flows keep too, as a fraction. One would
/// give equal shares, but two processes that match each other so have no reason ever to come down
/// from where noise brought them: each overshoot of one would be the measure of the other. At 7/8
/// an overshoot of k datagrams settles at 8k, and the share beside others is 47%. At 3/4 these are
/// 4k and 43%, at 15/16 16k and 48%.
pub(crate) const MATCH_NUMERATOR: u64 = 7;
/// See [`MATCH_NUMERATOR`].
pub(crate) const MATCH_DENOMINATOR: u64 = 8;

/// Worst reduction of a base controller on one congestion event, as a divisor of its window: 2
/// (RFC 9002 section 7.3.2; Cubic keeps 0.7, RFC 9438 section 4.6). Slow start goes on behind the
/// cap until the window is this many times the cap, so that the one event that ends it leaves a
/// window that still covers the cap.
pub(crate) const SLOW_START_COVER: u64 = 2;

/// How much gauges that are read one after the other may contradict each other, bytes: one batch
/// of segments (the largest GSO buffer, 64 KiB) may be in one and not yet in the other.
pub(crate) const TORN_READ: u64 = 64 << 10;

/// How long gauges may contradict each other at all, or stand still although something waits in
/// the queue, before they are doubted; a quarter of the round trip where that is longer. A datagram
/// takes 10 ms at 1 Mbit/s, and where it takes longer the round trip is long, because several wait.
/// What doubt does is harmless (see `Freeze`), so half or double matter only to how long a source
/// that died holds a sender back.
pub(crate) const DOUBT: Duration = Duration::from_millis(10);

/// How long a source that misled is not believed, at least, and how long sends may go unobserved
/// before it counts as blind when no acknowledgement tells earlier; twice the round trip where
/// that is longer. Ten looks of a reader that samples every 10 ms.
pub(crate) const DISTRUST: Duration = Duration::from_millis(100);

/// Round trip assumed before the first is measured (RFC 9002 section 6.2.2).
pub(crate) const INITIAL_RTT: Duration = Duration::from_millis(333);

/// How far a controller's part of the target may be from an equal part, as a factor, because it
/// sends less or more than the others. Two: what a window may change by in a round trip anyway.
/// Half (no weight) leaves every distribution of rates as it came about; double only reaches
/// equality faster.
pub(crate) const MAX_WEIGHT: u64 = 2;

/// Growth of the flight in a round trip from which on a slow start counts as still going on
/// although the cap holds it back: a quarter, as in BBR's test for a full pipe
/// (draft-ietf-ccwg-bbr, "Exiting Startup Based on Bandwidth Plateau"). Half would wait longer with
/// no harm, since the cap holds meanwhile; double could end the slow start of a flow that joins
/// others and gets its part only little by little.
pub(crate) const GROWTH_NUMERATOR: u128 = 5;
/// See [`GROWTH_NUMERATOR`].
pub(crate) const GROWTH_DENOMINATOR: u128 = 4;

/// How late the source may tell of packets, as a divisor of the round trip: half of one. What was
/// sent meanwhile is counted as still in the queue, which keeps the law stable; but from there on
/// acknowledgements tell hardly later than the source does, and base is as good without it.
pub(crate) const LAG_DIVISOR: u32 = 2;

/// The same, at least: what a reader that samples every millisecond needs.
pub(crate) const LAG_MIN: Duration = Duration::from_millis(2);

/// Batches in a row that must be observed too late before the source counts as lagging. One or two
/// happen where a firewall's rule keeps a packet from ever being observed.
pub(crate) const LATE_PROBES: u32 = 3;

/// Round trips after which a cap that is being let go is gone in any case. It doubles in each, so
/// it has passed every window by then, but for that of a base that doubles with it (BBR starting).
pub(crate) const RELEASE_ROUNDS: u32 = 16;

/// A source that misleads again before it has been right for this many times as long as it was not
/// believed is not believed for twice as long: one that is right half of the time is used little.
pub(crate) const RELAPSE_FACTOR: u32 = 8;

/// Doublings of that time, at most: 6.4 s instead of 100 ms.
pub(crate) const MAX_RELAPSES: u32 = 6;

/// What quinn's pacer lets out at once (connection/pacing.rs): what a 5/4 of the window a round trip
/// gives in 2 ms, and ten datagrams at least.
pub(crate) const PACER_BURST: Duration = Duration::from_millis(2);
/// See [`PACER_BURST`].
pub(crate) const PACER_BURST_DATAGRAMS: u64 = 10;

/// Bursts of the pacer that a queue must hold to count as the bottleneck before it has stood for
/// long: slow start can fill a short queue within [`STANDING_MAX`]. One is on its way in any case, a
/// second may have come upon it. Half would
/// take a burst for a bottleneck; double is most of a queue of 150 kB at 50 Mbit/s and 20 ms, and
/// leaves slow start little room to stop in.
pub(crate) const OUTGROWN_BURSTS: u64 = 2;
