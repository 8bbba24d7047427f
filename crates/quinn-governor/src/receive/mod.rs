//! The receiving side: connections' flow control windows, reduced while the socket overflows.
//!
//! Each number has its reason in [`constants`].
//!
//! # What it does
//!
//! A receiver's socket can be the bottleneck too: its buffer overflows when the program does not
//! read in time. The sender finds out by loss, again and again, because it does not know how much
//! the buffer holds; the receiver's kernel knows both. A [`ReceiveGovernor`] reduces the flow
//! control windows of a socket's connections: [`Governors::receiving`](crate::Governors::receiving)
//! makes one, [`ReceiveGovernor::govern`] adds a connection.
//!
//! - When the socket drops, all its peers together may have as much in flight as the path and the
//!   buffer hold, in equal parts for the connections that receive. The path holds, by Little's law,
//!   what arrives in a (minimum) round trip; the buffer holds its size times the payload's share.
//!   The window is never below what the path holds.
//! - If it overflows even with that limit, the buffer's part is reduced to 0.7 of it. A reduction
//!   takes effect when credit granted before is used up: drops until then count once.
//! - Without drops the limit grows by an eighth a second, for ten seconds only up to what
//!   overflowed. It ends when it reaches the configured windows.
//! - Without signals, with a source that does not see what arrives, and for a connection that has
//!   received nothing for a second, windows are as configured.
//!
//! Credit cannot be withdrawn once granted (RFC 9000 section 4.1), and quinn's `set_receive_window`
//! takes effect only as data is read for which credit was granted before. So the configured window
//! has to be finite, and the first overflow, in a sender's slow start, is not prevented. quinn's
//! default for a connection is unlimited: then no limit can take effect. A sender that a
//! window limits ends each credit that is announced to it, an eighth of the window, with a
//! datagram that is not full, and the sizes repeat from window to window. Where each datagram takes
//! time to read, that costs up to 4 % of the goodput in simulation on windows of 110 to 155 kB,
//! also on such that are fixed.
//!
//! # Sensitivity
//!
//! What half and double of each number do in the simulator, as `cargo run --release -p netlab
//! --example sensitivity -- receiving` measures it: stock senders, and a receiver that takes 40
//! Mbit/s with 100 kB of buffer at 20 ms, for 8 s (means of 4 runs). "recovers" is how long it
//! takes, from when the receiver takes 100 Mbit/s, until nine tenths of that arrive; 29 s are the
//! rest of the run. Numbers that change nothing here guard against what these scenarios do not
//! contain (several connections, a source with stale signals, an unknown buffer), or are far from
//! where they matter.
//!
#![doc = include_str!("sensitivity.md")]

mod connection;
pub(crate) mod constants;
mod control;
mod quinn;
mod rate;
mod socket;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ebpf_congestion_signals::Watch;
use parking_lot::Mutex;
use quinn_proto::VarInt;

pub use self::connection::ReceiveWindow;
use self::constants::ReceiveTuning;
pub use self::control::{ReceiveControl, ReceiveProgress, ReceiveSignals};
pub(crate) use self::socket::SocketReceiving;

/// A connection whose window of flow control can be set.
pub trait ReceivingConnection: Send + Sync {
    /// Bytes of datagrams received so far.
    fn received(&self) -> u64;
    /// Its estimate of the round trip.
    fn round_trip(&self) -> Duration;
    /// The size of its full datagrams, bytes.
    fn datagram(&self) -> u16;
    /// Sets the window: how much its peer may have in flight.
    fn set_window(&self, window: VarInt);
}

/// Holds back the peers of one socket while its receive buffer overflows. Cheap to clone; clones
/// are the same. Made by [`Governors::receiving`](crate::Governors::receiving).
#[derive(Clone)]
pub struct ReceiveGovernor {
    inner: Arc<Inner>,
}

struct Inner {
    watch: Watch,
    /// Each connection's window while there is no limit.
    most: VarInt,
    state: Mutex<State>,
    reductions: AtomicU64,
}

struct State {
    tuning: &'static ReceiveTuning,
    control: ReceiveControl,
    drops: u64,
    updated_at: Option<Instant>,
    received: u64,
    connections: Vec<Connection>,
    names: u64,
}

struct Connection {
    name: u64,
    connection: Box<dyn ReceivingConnection>,
    received: u64,
    /// The shortest round trip so far.
    round_trip: Duration,
    /// When it last received something; `None` before the first update.
    active: Option<Instant>,
    window: u64,
}

/// A connection whose window is governed, until this is dropped.
#[must_use = "the window is governed until this is dropped"]
pub struct ReceiveGuard {
    inner: Arc<Inner>,
    name: u64,
}

impl ReceiveGovernor {
    /// How often to call [`poll`](Self::poll): a call costs a few loads from memory, and between
    /// two calls at most a burst or two overflows.
    pub const INTERVAL: Duration = Duration::from_millis(5);

    /// A governor of a watched socket (not of a single peer) whose connections have this window
    /// each.
    pub fn new(watch: Watch, window: VarInt) -> Self {
        Self::with(watch, window, &ReceiveTuning::STANDARD)
    }

    /// The same with other numbers, to measure what each does.
    #[cfg(feature = "tuning")]
    #[doc(hidden)]
    pub fn with_tuning(watch: Watch, window: VarInt, tuning: &'static ReceiveTuning) -> Self {
        Self::with(watch, window, tuning)
    }

    fn with(watch: Watch, window: VarInt, tuning: &'static ReceiveTuning) -> Self {
        Self {
            inner: Arc::new(Inner {
                state: Mutex::new(State {
                    tuning,
                    control: ReceiveControl::with(window.into_inner(), tuning),
                    drops: ReceiveSignals::of(&watch.sample()).drops,
                    updated_at: None,
                    received: 0,
                    connections: Vec::new(),
                    names: 0,
                }),
                watch,
                most: window,
                reductions: AtomicU64::new(0),
            }),
        }
    }

    /// The value to which every connection's [`receive_window`] must be set: that passed to
    /// [`new`](Self::new).
    ///
    /// [`receive_window`]: quinn_proto::TransportConfig::receive_window
    pub fn window(&self) -> VarInt {
        self.inner.most
    }

    /// Governs a connection's window until the returned guard is dropped. The guard also keeps the
    /// connection: drop it with the last handle to the connection.
    pub fn govern(&self, connection: impl ReceivingConnection + 'static) -> ReceiveGuard {
        let mut state = self.inner.state.lock();
        state.names += 1;
        let name = state.names;
        state.connections.push(Connection {
            name,
            received: connection.received(),
            round_trip: connection.round_trip(),
            connection: Box::new(connection),
            active: None,
            window: self.inner.most.into_inner(),
        });
        ReceiveGuard {
            inner: Arc::clone(&self.inner),
            name,
        }
    }

    /// Samples the socket, and sets windows if something is to be changed.
    pub fn poll(&self, now: Instant) {
        let signals = ReceiveSignals::of(&self.inner.watch.sample());
        let mut state = self.inner.state.lock();
        let quiet = state
            .updated_at
            .is_some_and(|at| now < at + state.tuning.update_interval);
        if signals.drops == state.drops && quiet {
            return;
        }
        state.drops = signals.drops;
        state.updated_at = Some(now);
        let before = state.control.limit();
        let progress = state.progress(now);
        let limit = state.control.update(now, &signals, &progress);
        let most = self.inner.most.into_inner();
        if limit.unwrap_or(most) < before.unwrap_or(most) {
            self.inner.reductions.fetch_add(1, Ordering::Relaxed);
        }
        state.divide(now, limit, most);
    }

    /// What all peers together may have in flight now; `None`: no limit.
    pub fn limit(&self) -> Option<u64> {
        self.inner.state.lock().control.limit()
    }

    /// Times that the limit was reduced.
    pub fn reductions(&self) -> u64 {
        self.inner.reductions.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for ReceiveGovernor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiveGovernor")
            .field("watch", &self.inner.watch)
            .field("limit", &self.limit())
            .field("reductions", &self.reductions())
            .finish_non_exhaustive()
    }
}

impl Drop for ReceiveGuard {
    fn drop(&mut self) {
        let mut state = self.inner.state.lock();
        let place = state.connections.iter().position(|c| c.name == self.name);
        let gone = place.map(|place| state.connections.swap_remove(place));
        // Dropping a connection may run its own code: not under the lock.
        drop(state);
        drop(gone);
    }
}

impl fmt::Debug for ReceiveGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiveGuard").finish_non_exhaustive()
    }
}

impl State {
    fn progress(&mut self, now: Instant) -> ReceiveProgress {
        let tuning = self.tuning;
        let mut round_trip = Duration::ZERO;
        let mut least = 0;
        for governed in &mut self.connections {
            let received = governed.connection.received();
            let more = received.saturating_sub(governed.received);
            governed.received = received;
            if more > 0 || governed.active.is_none() {
                governed.active = Some(now);
            }
            self.received = self.received.saturating_add(more);
            if governed.is_active(now, tuning) {
                let latest = governed.connection.round_trip();
                governed.round_trip = governed.round_trip.min(latest);
                round_trip = round_trip.max(governed.round_trip);
                least += governed.least(tuning);
            }
        }
        ReceiveProgress {
            received: self.received,
            round_trip,
            least,
        }
    }

    /// Divides the limit equally among the connections that receive.
    fn divide(&mut self, now: Instant, limit: Option<u64>, most: u64) {
        let tuning = self.tuning;
        let active = self
            .connections
            .iter()
            .filter(|c| c.is_active(now, tuning))
            .count();
        for governed in &mut self.connections {
            let window = match limit {
                Some(limit) if governed.is_active(now, tuning) => {
                    (limit / active.max(1) as u64).clamp(governed.least(tuning).min(most), most)
                }
                _ => most,
            };
            if window != governed.window {
                governed.window = window;
                let window = VarInt::from_u64(window).unwrap_or(VarInt::MAX);
                governed.connection.set_window(window);
            }
        }
    }
}

impl Connection {
    fn is_active(&self, now: Instant, tuning: &ReceiveTuning) -> bool {
        self.active
            .is_some_and(|at| now.saturating_duration_since(at) < tuning.idle)
    }

    fn least(&self, tuning: &ReceiveTuning) -> u64 {
        tuning.least_datagrams * u64::from(self.connection.datagram())
    }
}
