//! The numbers of the receiving side: unit, reason, source.

use std::time::Duration;

/// quinn announces more credit when an eighth of the window was read (quinn-proto 0.11, connection/
/// streams/state.rs): up to so much of it the peer does not know yet.
pub(super) const ANNOUNCED: u64 = 8;

/// How much is left of the buffer's part of a limit that overflowed though it should have held. Cubic's
/// own reduction for the same loss (RFC 9438 section 4.6), the gentlest of quinn's: the window then
/// takes nothing from a sender that it does not give up by itself.
pub(super) const REDUCTION: f64 = 0.7;

/// What overflowed the first time is not known, because windows were wide open: taken to be at most
/// this many times what the path and the buffer hold. A sender in slow start has twice as much on
/// the way.
pub(super) const UNKNOWN_LEVEL: u64 = 2;

/// The limit grows by an eighth ([`STEP`] apart), and stops an eighth below what overflowed.
pub(super) const GROWTH: u64 = 8;

/// Time from one step of growth to the next. Cubic takes seconds to come back to where it lost.
pub(super) const STEP: Duration = Duration::from_secs(1);

/// For so long what overflowed is not tried again; as long as the sending side remembers what a
/// queue could not hold.
pub(super) const HOLD: Duration = Duration::from_secs(10);

/// A source that saw nothing for so long, while datagrams arrived, is blind. The kernel's own time
/// stamp is exact to 10 ms; probes see each receive.
pub(super) const SILENCE: Duration = Duration::from_secs(1);

/// Headers and tags are at most a sixteenth of full datagrams, 3 % as a rule: an overflow is held
/// for the same one for so much longer.
pub(super) const HEADERS: u64 = 16;

/// How much of a buffer is payload where nothing is known. The kernel charges 2,304 bytes for a
/// datagram of 1,452 and 768 for one of 100; half is less than what bulk data reaches.
pub(super) const UNKNOWN_SHARE: f64 = 0.5;

/// The least that is believed of what the kernel tells: a packet at the buffer's head that is an
/// acknowledgement says nothing of the data behind it.
pub(super) const LEAST_SHARE: f64 = 0.25;

/// The most: a coalesced batch has little overhead, but they are not all full.
pub(super) const MOST_SHARE: f64 = 0.75;

/// The least window of a connection, datagrams: as on the sending side, so many that the receiver
/// acknowledges every second one at once and something is on the way meanwhile.
pub(super) const LEAST_DATAGRAMS: u64 = 4;

/// A connection that received nothing for so long has no part of the limit, and is not held back:
/// a program that reads its streams in an order of its own may wait for one that the window keeps
/// from coming.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// How often connections are looked at when nothing was dropped.
pub(super) const LOOK: Duration = Duration::from_millis(100);
