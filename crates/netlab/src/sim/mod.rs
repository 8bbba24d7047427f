//! A simulator: real QUIC endpoints in virtual time.
//!
//! quinn-proto's endpoints and connections are driven without sockets and without a clock, over
//! hops that have queues, rates, delays and losses. The queue of the sender's host tells what the
//! probes in a kernel would tell, through a
//! [`MockSource`](ebpf_congestion_signals::MockSource), to the controllers of flows that listen.
//!
//! ```
//! use std::time::Duration;
//!
//! use netlab::sim::{Control, FlowSpec, LinkConfig, Scenario};
//! use quinn_proto::congestion::CubicConfig;
//!
//! let bottleneck = LinkConfig::device(50_000_000, 150_000);
//! let outcome = Scenario::local(bottleneck, Duration::from_millis(20))
//!     .flow(FlowSpec::new(Control::stock(CubicConfig::default())))
//!     .lasting(Duration::from_secs(2))
//!     .run();
//! assert!(outcome.flows[0].lost_packets > 0);
//! ```
//!
//! # What is real and what is not
//!
//! Real: everything in quinn-proto (recovery, pacing, acknowledgements, path MTU discovery, flow
//! control, controllers). Modelled after quinn's driver and Linux: batches for segmentation
//! offload that a queue takes or drops whole, timers with a granularity of a millisecond, a send
//! buffer that says EAGAIN when it is full and takes more when it is half empty. Not there:
//! the time that code takes to run, other load of the host but for [`Stalls`], and TLS, which is replaced by a
//! session of the same packet sizes without secrets.
//!
//! # The same seed, the same outcome
//!
//! Randomness comes from [`Scenario::seed`] alone: connection IDs, the endpoints' own choices,
//! losses, jitter, noise. The wall clock is read once, because quinn-proto takes
//! [`Instant`](std::time::Instant)s, and only differences to that reading are used. One thing
//! cannot be seeded: quinn's BBR draws where in its gain cycle it begins. It has no
//! influence on the window, and the pacer does not ask BBR for a rate.

mod app;
mod codel;
mod crypto;
mod events;
mod ids;
mod link;
mod loss;
mod number;
mod observe;
mod outcome;
mod packet;
mod process;
mod processor;
mod quic;
mod random;
mod receiver;
mod scenario;
pub mod scenarios;
mod signals;
mod tcp;
mod tcp_window;
mod time;
mod trace;
mod window;
mod world;

pub use app::{App, Completion};
pub use link::{Discipline, LinkConfig, LinkStats};
pub use loss::Loss;
pub use observe::{SharedFactory, Step};
pub use outcome::{FlowOutcome, Latencies, Outcome, TcpOutcome, fairness};
pub use packet::{TCP_WIRE_OVERHEAD, UDP_WIRE_OVERHEAD};
pub use process::{Process, ProcessContext};
pub use processor::Stalls;
pub use receiver::ReceiverConfig;
pub use scenario::{Control, FlowSpec, HostConfig, Outage, Scenario, TransportChange, Watching};
pub use signals::{EndManner, SignalConfig, SignalEnd};
pub use tcp::{TcpSpec, TcpStats};
pub use tcp_window::TcpLaw;
pub use trace::{Trace, TraceRow};
pub use window::{ReceiverState, WindowControl, Windows};
