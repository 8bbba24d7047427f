//! The numbers of the receiving side: unit, reason, source.
//!
//! What half and double of each do was measured in the simulator; the table is in the [module's
//! documentation](super).

use std::time::Duration;

use crate::tuning::tuning;

/// quinn announces more credit when an eighth of the window was read (quinn-proto 0.11, connection/
/// streams/state.rs): up to so much of it the peer does not know yet. A fact of quinn.
pub(super) const ANNOUNCED: u64 = 8;

/// Headers and tags are at most a sixteenth of full datagrams, 3 % as a rule: so much more than the
/// credit is received before the credit is used up. A fact of QUIC (RFC 9000 section 17.3).
pub(super) const HEADERS: u64 = 16;

tuning! {
    /// The receiving side's numbers.
    #[derive(Clone, Copy, Debug, PartialEq)]
    ReceiveTuning;

    /// How much is taken of the buffer's part of a limit that overflowed though it should have
    /// held. Cubic's own reduction for the same loss (RFC 9438 section 4.6), the gentlest of
    /// quinn's: the window then takes nothing from a sender that it does not give up by itself.
    reduction: f64 = 0.3;

    /// What overflowed the first time is not known, because windows were wide open: taken to be at
    /// most this many times what the path and the buffer hold. A sender in slow start has twice as
    /// much on the way.
    unknown_level: u64 = 2;

    /// By what part of it the limit grows at once, as a divisor ([`ReceiveTuning::step`] apart): an
    /// eighth, as much as quinn announces at once.
    growth_divisor: u64 = 8;

    /// By what part of it the limit stays under what overflowed, as a divisor: one step of growth.
    overflow_divisor: u64 = 8;

    /// Time from one step of growth to the next. Cubic takes seconds to come back to where it lost.
    step: Duration = Duration::from_secs(1);

    /// For so long what overflowed is not tried again; as long as the sending side remembers what a
    /// queue could not hold.
    hold: Duration = Duration::from_secs(10);

    /// The signals are stale when the source saw nothing for so long while datagrams arrived. The
    /// kernel's own time stamp is exact to 10 ms; probes see each receive.
    silence: Duration = Duration::from_secs(1);

    /// Time over which the rate of arrival is measured: long enough that a batch more or less does
    /// not matter, short enough that a sender in slow start is seen.
    rate_span: Duration = Duration::from_millis(20);

    /// How much of a buffer is payload where nothing is known. The kernel charges 2,304 bytes for a
    /// datagram of 1,452 and 768 for one of 100; half is less than what bulk data reaches.
    unknown_share: f64 = 0.5;

    /// The least value that is accepted from the kernel: a packet at the buffer's head that is
    /// an acknowledgement says nothing of the data behind it.
    least_share: f64 = 0.25;

    /// The most: a coalesced batch has little overhead, but they are not all full. Double is no
    /// bound at all.
    most_share: f64 = 0.75;

    /// The least window of a connection, datagrams: as on the sending side, so many that the
    /// receiver acknowledges every second one at once and something is on the way meanwhile.
    least_datagrams: u64 = 4;

    /// A connection that received nothing for so long has no part of the limit, and is not held
    /// back: a program that reads its streams in an order of its own may wait for one that the
    /// window keeps from coming.
    idle: Duration = Duration::from_secs(1);

    /// How often connections are updated when nothing was dropped.
    look: Duration = Duration::from_millis(100);
}
