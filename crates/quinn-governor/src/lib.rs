//! A drop-in congestion controller factory for quinn that reacts to the sender's own kernel.
//!
//! A QUIC sender does not notice when its own host is the bottleneck: `sendmsg` succeeds for a
//! datagram that the local queue drops, and the loss shows a round trip later, with the queue full.
//! The kernel knows at once, and informs TCP. This crate passes what the kernel knows to quinn's
//! connections, over any congestion controller (the *base* controller; Cubic by default).
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
//! - The bottleneck is elsewhere: the window is the base controller's.
//! - Signals are missing or stale: the cap is released, growing by a sixteenth a round trip
//!   ([`GovernorReport::stale_periods`]).
//! - The queue is unknown (loopback has none): there is no cap, but drops still count.
//! - A firewall drops: that is not congestion.
//! - A peer or socket cannot be watched: its connections run under the socket's governor or the
//!   base controller ([`GovernorReport::fallbacks`]).
//!
//! [`GovernorConfig`] switches parts off, [`Governors::set_enabled`] everything at run time, and
//! [`Governors::report`] says what was done. [`Governors::receive`] governs what a connection receives.
//! The repository's `docs/law.md` explains how the window is computed.
#![forbid(unsafe_code)]

mod base;
mod base_clock;
mod binding;
mod config;
mod controller;
mod decisions;
mod endpoint;
mod factory;
mod fallback;
mod flow;
mod flow_handle;
mod governors;
mod law;
mod mechanism;
mod poller;
#[cfg(feature = "qlog")]
mod qlog;
mod queue_limit;
mod receive;
mod report;
mod runtime;
mod shared;
mod socket;
mod socket_flows;
mod time;
mod tuning;
mod window_cache;

#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;

pub use base::BaseKind;
pub use config::{ConfigError, GovernorConfig};
pub use controller::GovernedController;
pub use factory::{BaseFactory, Factory};
pub use fallback::{Fallback, Fallbacks};
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
