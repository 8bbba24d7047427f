//! The numbers of the receiving side: unit, reason, source.
//!
//! What half and double of each do was measured in the simulator; the table is in the [module's
//! documentation](super).

use std::time::Duration;

use crate::tuning::tuning;

/// quinn announces more credit when an eighth of the window was read (quinn-proto 0.11, connection/
/// streams/state.rs): up to so much of it is not announced yet. Given by quinn, not chosen.
pub(super) const ANNOUNCED: u64 = 8;

/// Headers and tags are at most a sixteenth of full datagrams, 3 % as a rule: so much more than the
/// credit is received before the credit is used up. Given by RFC 9000 section 17.3, not chosen.
pub(super) const HEADERS: u64 = 16;

tuning! {
    /// The receiving side's numbers.
    #[derive(Clone, Copy, Debug, PartialEq)]
    ReceiveTuning;

    /// Factor for the buffer's part of a limit under which the buffer overflowed. Cubic's own
    /// factor for the same loss (RFC 9438 section 4.6), the largest of quinn's: a sender reduces by
    /// as much itself.
    reduction: f64 = 0.3;

    /// The first overflow happens without a limit, so what overflowed is not known: at most this many
    /// times what the path and the buffer hold. A sender in slow start has twice as much in flight.
    unknown_level: u64 = 2;

    /// By what part of it the limit grows at once, as a divisor ([`ReceiveTuning::step`] apart): an
    /// eighth, as much as quinn announces at once.
    growth_divisor: u64 = 8;

    /// By what part of it the limit stays under what overflowed, as a divisor: one step of growth.
    overflow_divisor: u64 = 8;

    /// Time from one step of growth to the next. Cubic takes seconds to come back to where it lost.
    step: Duration = Duration::from_secs(1);

    /// For so long the limit stays below what overflowed; as long as on the sending side after a queue
    /// overflowed.
    hold: Duration = Duration::from_secs(10);

    /// The signals are stale when the source observed nothing for so long while datagrams arrived.
    /// The kernel's time stamp is exact to 10 ms; probes observe each receive.
    silence: Duration = Duration::from_secs(1);

    /// Time over which the rate of arrival is measured: long enough that a batch more or less does
    /// not matter, short enough that a sender in slow start is seen.
    rate_span: Duration = Duration::from_millis(20);

    /// The payload's share of a buffer where it is not known. The kernel charges 2,304 bytes for a
    /// datagram of 1,452 and 768 for one of 100; half is less than what bulk data reaches.
    unknown_share: f64 = 0.5;

    /// The least share that is accepted from the kernel: an acknowledgement at the head of the buffer
    /// says nothing of the data behind it.
    least_share: f64 = 0.25;

    /// The largest: a coalesced GRO packet has little overhead, but not all are full. Double this
    /// would be no bound.
    most_share: f64 = 0.75;

    /// The least window of a connection, datagrams: as on the sending side, two that the receiver
    /// acknowledges at once and two in flight meanwhile.
    least_datagrams: u64 = 4;

    /// A connection that received nothing for so long has no part of the limit, and is not held
    /// back: a program that reads its streams in an order of its own may wait for one that the
    /// window keeps from coming.
    idle: Duration = Duration::from_secs(1);

    /// How often connections are updated when nothing was dropped.
    update_interval: Duration = Duration::from_millis(100);
}
