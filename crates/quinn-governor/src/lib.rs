//! A congestion controller for quinn that reacts to what the sender's own kernel knows.
//!
//! A QUIC sender does not notice when its own host is the bottleneck: `sendmsg` succeeds for a
//! datagram that the outgoing queue drops, and the loss shows a round trip later, after the queue
//! was filled. The kernel knows at once, and tells TCP. With this crate a quinn connection is told
//! too, over any congestion controller (the *base*, Cubic unless you say otherwise):
//!
//! ```
//! use std::net::UdpSocket;
//! use std::sync::Arc;
//! use ebpf_congestion_signals::MockSource;
//! use quinn_governor::Governors;
//! use quinn_proto::TransportConfig;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let source = Arc::new(MockSource::new()); // in a service: the source over eBPF
//! let governors = Governors::new(source);
//! let socket = UdpSocket::bind("127.0.0.1:0")?;
//!
//! let mut transport = TransportConfig::default();
//! transport.congestion_controller_factory(governors.socket(&socket)?);
//! # Ok(())
//! # }
//! ```
//!
//! A socket's connections may share one [`Governor`], as above. To tell peers apart, drops
//! included, give each its own with [`Governors::client_config`] and `Endpoint::connect_with`, or
//! [`Governors::server_config`] and `Incoming::accept_with`.
//!
//! # What it does to a connection
//!
//! - While the host's outgoing queue stands, the congestion window is capped so that this process
//!   keeps in the queue what keeps the link busy, or as much as everybody else has there, in equal
//!   parts for its connections. The path then has the delay of an empty queue at the full rate.
//! - Slow start ends when that queue has filled, before it overflows.
//! - A datagram that the queue drops reduces the window at once, not a round trip later; and once,
//!   not again when the loss is reported.
//!
//! The window is never above base's, and never below four datagrams unless base's is.
//!
//! # When it does nothing
//!
//! - Where the bottleneck is elsewhere: as long as the host's queue runs empty between bursts, every
//!   call goes to base as it came and the window is base's, step by step.
//! - Where the signals are missing, late, or cannot be true: the cap is let go, growing by an
//!   eighth a round trip, and then base decides alone. [`GovernorReport::blind_periods`] counts it.
//! - Where no queue is known (loopback has none): drops count, there is no cap.
//! - Where a rule of the firewall drops: that is not congestion.
//!
//! [`GovernorConfig`] switches parts off. [`Governor::report`] tells what was done.
//!
//! # On the receiving side
//!
//! A receiver's socket may be the bottleneck too: its buffer overflows when the program does not
//! get to read. The sender finds out by loss, again and again, because it does not know how much
//! the buffer holds; the receiver's kernel knows both. A [`ReceiveGovernor`] holds back the windows
//! of flow control of a socket's connections: [`Governors::receiving`] makes it,
//! [`ReceiveGovernor::govern`] takes a connection.
//!
//! - When the socket drops, all peers of it together may have as much on the way as the path and
//!   the buffer hold, in equal parts for the connections that receive. What the path holds is, by
//!   Little's law, what arrives in a round trip (the shortest there was); what the buffer holds is
//!   the payload's share of it. The window is never below what the path holds.
//! - If that much was granted and overflows all the same, the buffer's part is reduced to 0.7. A
//!   reduction takes effect when credit given before is used up: drops until then count once.
//! - Without drops the limit grows by an eighth a second, for ten seconds not to what overflowed,
//!   and ends when it is as wide as configured.
//! - Without signals, with a source that does not see what arrives, and for a connection that has
//!   received nothing for a second, windows are as configured.
//!
//! Credit that was given cannot be taken back (RFC 9000 section 4.1), and quinn's
//! `set_receive_window` takes effect only as what was given before is read. So the configured
//! window has to be finite, and the first overflow, in a sender's slow start, is not prevented.
//! quinn's default for a connection is without limit, and then nothing can ever be held back.
//! A sender that a window holds back ends each credit that is announced to it, an eighth of the
//! window, with a datagram that is not full, and the sizes repeat from window to window. Where
//! reading takes a time for each datagram, that costs up to 4 % of the goodput in simulation
//! on windows of 110 to 155 kB, also on such that are fixed.
//!
//! # The law, derived
//!
//! **What to control.** In flight is what the path holds and what stands in queues. Of these only
//! the host's own queue can be seen directly, so the law controls that and leaves the path to base:
//! `cap = in flight + allowance`, where the allowance is how much more may be put into the queue.
//! There is no model of the path in it, nothing to estimate, and no delay in the loop: what was put
//! into the queue is seen before the next datagram is considered. Where a source tells late, what
//! was sent and not yet observed is counted as in the queue, which keeps this true.
//!
//! **How much may stand in the queue.** A FIFO gives each sender the share of the link that it has
//! of the queue. So, all governed connections together: as much as everybody else together has
//! there (15/16 of it, so that two processes that match each other come to rest); and where nobody
//! else is, the least that keeps the link busy. That least is found like the limits that Linux keeps
//! for a device's ring (dynamic queue limits, `lib/dynamic_queue_limits.c`): a datagram more when
//! the link had nothing to send *after* the limit had held back a datagram that base and the
//! application wanted to send; less, after a second, by what was in the queue all the time; half
//! when the queue overflowed. Up to 0.8% of the time the link may have nothing to send because of
//! the limit, and while it is less the limit shrinks: to allow for every gap between
//! acknowledgements would have everything wait as long as the longest one, and feeds on itself,
//! because bursts make gaps and a limit that allows for gaps makes bursts. It is one limit for each
//! queue, shared by all connections: limits of their own would add up. A limit that the queue could
//! not hold is not tried again for ten seconds: a short queue would have to overflow each time to
//! tell of itself.
//!
//! Where the source knows how much the queue holds, no more is added than it still takes. What
//! others fill to the brim drops what comes next, whoever sends it, and a sender that answers to
//! each drop gives way to those who caused it; so it waits for the room that the link makes. Its
//! window is still never below four datagrams: a queue that is full all the time starves nobody.
//!
//! **What may leave at once.** quinn hands up to ten datagrams to the kernel as one (UDP GSO). They
//! enter the queue together, and a token bucket lets them out together, so that they are
//! acknowledged together, which sends the next ten: however small the limit, a batch stands in the
//! queue. While the cap is in force a batch is therefore bounded to a millisecond of the
//! connection's own rate, two datagrams at least, as Linux does for TCP (`tcp_tso_autosize`,
//! `sk_pacing_shift`). It is a bound on the batch alone: the next one follows in the same turn if
//! the cap has room for it, so nothing waits to be woken. The price is more calls to the kernel; and
//! where a rule of this host drops batches, smaller ones are losses more often. So for ten seconds
//! after a rule took something of the flow, batches are as base has them.
//!
//! **Equal parts.** Each of n connections that want to send more may keep an n-th of that, and at
//! least a datagram. Equal parts of a queue make equal rates only while each has something in it.
//! A queue as short as this is often empty of one or the other, and then rates would stay as they
//! came about; so who sends less than the mean may keep up to twice the part, who sends more down
//! to half. Of a socket that several connections share, the source knows only the sum:
//! each connection counts an equal part of it as its own, and the weight makes rates equal.
//!
//! **When it is in force.** When the queue has not run empty for 5 ms (a round trip where that is
//! shorter) nor become shorter: quinn paces in bursts of 2 ms, so a queue that outlives two of them
//! does not drain between them. Or when it dropped something, or is more than half full (a window
//! in slow start doubles in a round trip, and could overflow it in the next), or when another
//! connection of the process is held back there. And only once acknowledgements come: a sender that was held back is
//! woken by them alone, so right after a pause base decides. It ends when the queue ran empty and
//! for two round trips nothing was held back, or the application paused until nothing is in flight
//! (a processor that was away is no such pause: base would burst). The former proves nothing
//! for ten seconds after the queue overflowed: a queue shorter than two bursts is empty or
//! overflows, it never stands. Nor does it while base's window is more than twice what is in
//! flight: then something else holds the connection back at the moment (quinn's pacer, after the
//! queue was emptied, works with a round trip that is still too long), and base would burst.
//!
//! **After a pause that nobody wanted.** A sender whose processor was taken away finds its
//! acknowledgements in a lump, and the queue empty. `In flight + allowance` alone would let a few
//! datagrams pass and wait for acknowledgements, which do not come while the hole goes round: the
//! hole would come back each round trip, and quinn's pacer, which goes by the window, would fill it
//! at the pace of what the pause left over. So once the queue was found empty, the window is at
//! least what was in flight besides the queue within the last two round trips: so much the path
//! holds. That ends when the hole is filled or the queue holds more than two bursts of the pacer. It
//! is left out after an overflow, and where others are in the queue: then the hole is theirs to fill
//! as well. What the link misses during the
//! pause itself is lost all the same: the queue would have to be as long as the pause.
//!
//! **Base behind the cap.** A loss-based base that cannot use its window must not grow it (RFC 9002
//! section 7.8), so while the cap binds it is told that the application limited sending. Slow start
//! is the exception: it may go on until its window is four times the cap, and when then the queue has
//! stood for a round trip, one congestion event ends it. Four times is
//! what base comes to by itself behind a queue of one bandwidth-delay product; and as the worst
//! reduction is to half (RFC 9002 section 7.3.2; Cubic's is to 0.7, RFC 9438 section 4.6), base
//! still covers the cap after it, and after one more. BBR is told nothing: what it measures behind a
//! busy local queue is true, and its window follows from that (see [`BaseKind`]).
//!
//! **Local drops.** Linux's TCP reduces in the same call when its own queue drops (`tcp_enter_cwr`).
//! Here base hears `on_congestion_event(now, now, false, 0)` at the next call after the drop, at
//! most once a smoothed round trip as RFC 9002 section 7.3.2 wants, and only if packets that QUIC
//! counts for congestion may be among what was dropped: acknowledgements alone are not. The later report of a loss sent
//! before that is withheld: quinn's Cubic and NewReno would ignore it by themselves, others might
//! not. Persistent congestion and ECN marks always pass.
//!
//! **Trust.** The samples carry no heartbeat, and need none. What is acknowledged has left this
//! host: about once a round trip the law asks whether the source had observed all that was sent up
//! to a datagram that is acknowledged. If not, the source is dead, or reports later than
//! acknowledgements do, and is not trusted until the next answer. What never will be observed (a
//! send failed, a firewall took it, the device was down) is missing before every send alike, and
//! forgotten: nothing distrusts for ever. Counters only grow, and a flow cannot have more in the
//! queue than everybody: of samples that contradict each other the harmless value is taken. While
//! something is not yet observed, or the sample stands still for a quarter of a round trip, as much
//! is sent as is acknowledged. When a source is no longer trusted, the cap starts from what was in
//! flight in the last round trips and grows by an eighth of what is acknowledged (slow start would
//! be all of it, RFC 9002 section 7.3.1): the link was busy, so what is added goes into the queue,
//! and base needs a round trip to answer.
//!
//! **Units.** The queue is told in bytes on the wire, windows count payload. The allowance is a few
//! datagrams and is measured anew at every look, so the 3 to 5% of headers in it do not add up, and
//! nothing is converted.
//!
//! # What it does not do
//!
//! - Where the queue is not a FIFO but keeps flows apart (`fq`, `fq_codel`), occupancy is not share:
//!   beside others a connection may keep more in its own part there than it needs.
//! - After the link of this host became many times faster, the window must first grow as base grows
//!   it in congestion avoidance, as it must without the law.
//! - Beside a sender that loses most of what it sends without slowing down (quinn's BBR behind a
//!   queue of this host does) a connection starves as it does without the law, where the source
//!   does not know how much the queue holds: whatever answers to loss gives way to what does not.
#![forbid(unsafe_code)]

mod base;
mod base_clock;
mod binding;
mod config;
mod controller;
mod decisions;
mod endpoint;
mod fallback;
mod flow;
mod governor;
mod governors;
mod law;
mod poller;
#[cfg(feature = "qlog")]
mod qlog;
mod queue_limit;
mod receive;
mod report;
mod runtime;
mod seat;
mod shared;
mod socket;
mod sockets;
mod tuning;

#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;

pub use base::BaseKind;
pub use config::{ConfigError, GovernorConfig};
pub use controller::GovernedController;
pub use fallback::{Fallback, Fallbacks};
pub use governor::{BaseFactory, Governor};
pub use governors::{Governors, GovernorsBuilder, Socket};
#[cfg(feature = "tuning")]
#[doc(hidden)]
pub use law::constants::Tuning;
#[cfg(feature = "qlog")]
pub use qlog::DecisionLog;
#[cfg(feature = "tuning")]
#[doc(hidden)]
pub use receive::constants::ReceiveTuning;
pub use receive::{
    GovernedWindow, ReceiveGovernor, ReceiveLaw, ReceiveProgress, ReceiveSignals, ReceiveWindow,
    Receiving,
};
pub use report::GovernorReport;
pub use socket::GovernedSocket;
