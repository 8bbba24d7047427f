//! A drop-in congestion controller factory for quinn that reacts to the sender's own kernel.
//!
//! A QUIC sender does not notice when its own host is the bottleneck: `sendmsg` succeeds for a
//! datagram that the outgoing queue drops, and the loss shows a round trip later, after the queue
//! was filled. The kernel knows at once, and tells TCP. With this crate it tells quinn's
//! connections too, over any congestion controller (the *base*; Cubic unless you say otherwise).
//!
//! ```no_run
//! # fn ends(
//! #     server_config: quinn::ServerConfig,
//! #     client_config: quinn::ClientConfig,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let governors = quinn_governor::Governors::auto();
//!
//! // A server:
//! let endpoint = governors.server(server_config, "[::]:4433".parse()?)?;
//! // A client:
//! let mut endpoint = governors.client("[::]:0".parse()?)?;
//! endpoint.set_default_client_config(governors.client_config(client_config));
//! # Ok(())
//! # }
//! ```
//!
//! # What it does
//!
//! - While the local queue has a standing backlog, the window is capped: this process queues only
//!   enough to keep the link busy, or as much as competing traffic has there. The path then has the
//!   delay of an empty queue at the full rate.
//! - Slow start ends when that queue has filled, before it overflows.
//! - A local drop reduces the window at once, and once: not again when QUIC finds the loss.
//!
//! The window is never above the base controller's, and never below four datagrams unless the
//! base's is.
//!
//! # When it does nothing
//!
//! - Where the bottleneck is elsewhere: the window is the base controller's.
//! - Where signals are missing or stale: the cap is released, growing by a sixteenth a round trip
//!   ([`GovernorReport::stale_periods`]).
//! - Where the queue is unknown (loopback has none): drops count, there is no cap.
//! - Where a firewall drops: that is not congestion.
//! - Where something fails: a socket or a peer that cannot be watched has its connections run under
//!   the socket's governor or the base controller ([`GovernorReport::fallbacks`]).
//!
//! [`GovernorConfig`] switches parts off, [`Governors::set_enabled`] all of it while it runs, and
//! [`Governors::report`] says what was done. [`Governors::receive`] governs what a connection
//! receives. How the window is computed is derived in the repository's `docs/law.md`.
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
mod kept;
mod law;
mod mechanism;
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
mod time;
mod tuning;

#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;

pub use base::BaseKind;
pub use config::{ConfigError, GovernorConfig};
pub use controller::GovernedController;
pub use fallback::{Fallback, Fallbacks};
pub use governor::{BaseFactory, Factory};
pub use governors::{Builder, Governors, Socket};
#[cfg(feature = "tuning")]
#[doc(hidden)]
pub use law::constants::Tuning;
#[cfg(feature = "tuning")]
#[doc(hidden)]
pub use mechanism::Mechanism;
#[cfg(feature = "qlog")]
pub use qlog::DecisionLog;
#[cfg(feature = "tuning")]
#[doc(hidden)]
pub use receive::constants::ReceiveTuning;
pub use receive::{
    ReceiveControl, ReceiveGovernor, ReceiveGuard, ReceiveProgress, ReceiveSignals, ReceiveWindow,
    ReceivingConnection,
};
pub use report::GovernorReport;
pub use socket::GovernedSocket;

/// The example in this package's README compiles.
#[cfg(all(doctest, feature = "ring"))]
#[doc = include_str!("../README.md")]
struct Readme;
