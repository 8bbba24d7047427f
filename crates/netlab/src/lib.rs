//! Paths with real queues, in network namespaces.
//!
//! A [`Path`] joins a sender's and a receiver's [`Namespace`]. The local bottleneck is a token
//! bucket of the kernel on the sender's own device, so that what it queues stays charged to the
//! sending socket; delay and loss come from a relay in user space, because not every kernel has a
//! queueing discipline for them.
//!
//! ```no_run
//! use std::{net::UdpSocket, time::Duration};
//!
//! use netlab::{Bottleneck, Family, Path, PathConfig, RelayConfig, TokenBucket};
//!
//! let path = Path::new(&PathConfig {
//!     bottleneck: Bottleneck::Local(TokenBucket {
//!         rate: 50_000_000,
//!         burst: 20_000,
//!         limit: 150_000,
//!     }),
//!     relay: Some(RelayConfig::symmetric(Duration::from_millis(10))),
//!     ..PathConfig::default()
//! })?;
//! let ends = path.addresses(Family::V4);
//! let sink = path.receiver().run(|| UdpSocket::bind((ends.receiver, 4433)))??;
//! let source = path.sender().run(|| UdpSocket::bind((ends.sender, 0)))??;
//! source.send_to(b"hello", sink.local_addr()?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Everything needs root (or the capabilities CAP_SYS_ADMIN and CAP_NET_ADMIN) and iproute2.
//! Tests ask [`require_privilege`] first. Nothing is left behind: namespaces, devices and threads
//! go with the values that own them, and with the process if it is killed.
//!
//! On systems other than Linux this crate is empty.

#![cfg(target_os = "linux")]

mod delay_line;
mod error;
mod iperf;
mod namespace;
mod path;
mod privilege;
mod qdisc;
mod relay;
mod stats;
mod tun;

pub use error::Error;
pub use iperf::{Iperf3, Iperf3Config, TcpReport};
pub use namespace::Namespace;
pub use path::{Addresses, Bottleneck, Family, Path, PathConfig};
pub use privilege::{REQUIRE_PRIVILEGE, missing_privilege, require, require_privilege};
pub use qdisc::{QdiscStats, TokenBucket};
pub use relay::{DirectionStats, Impairment, RelayConfig, RelayStats};
pub use stats::{DeviceStats, UdpCounters, UdpSocketStats};
