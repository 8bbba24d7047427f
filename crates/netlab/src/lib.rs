//! Two places to see senders side by side: [`sim`], a simulator that runs anywhere, and paths
//! with real queues in network namespaces, on Linux.
//!
//! # Paths in namespaces
//!
//! A [`Path`] joins a sender's and a receiver's [`Namespace`]. The local bottleneck is a token
//! bucket of the kernel on the sender's own device, so that what it queues stays charged to the
//! sending socket; delay and loss come from a relay in user space, because not every kernel has a
//! queueing discipline for them.
//!
#![cfg_attr(target_os = "linux", doc = "```no_run")]
#![cfg_attr(not(target_os = "linux"), doc = "```ignore")]
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
//! Everything needs the capabilities CAP_SYS_ADMIN and CAP_NET_ADMIN, and no program. Where user
//! namespaces are allowed, any process has these after [`acquire_privilege`].
//! [`missing_privilege`] says what is missing. Nothing is left behind: namespaces, devices and threads
//! go with the values that own them, and with the process if it is killed.
//!
//! On systems other than Linux there is the simulator alone.

pub mod sim;

#[cfg(target_os = "linux")]
mod busy;
#[cfg(target_os = "linux")]
mod datagram_relay;
#[cfg(target_os = "linux")]
mod delay_line;
#[cfg(target_os = "linux")]
mod device;
#[cfg(target_os = "linux")]
mod door;
#[cfg(target_os = "linux")]
mod error;
#[cfg(target_os = "linux")]
mod flood;
#[cfg(target_os = "linux")]
mod iperf;
#[cfg(target_os = "linux")]
mod namespace;
#[cfg(target_os = "linux")]
mod netlink;
#[cfg(target_os = "linux")]
mod path;
#[cfg(target_os = "linux")]
mod privilege;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod qdisc;
#[cfg(target_os = "linux")]
mod relay;
#[cfg(target_os = "linux")]
mod stats;
#[cfg(target_os = "linux")]
mod tun;
#[cfg(target_os = "linux")]
mod user_namespace;

#[cfg(target_os = "linux")]
pub use busy::BusyProcessors;
#[cfg(target_os = "linux")]
pub use datagram_relay::DatagramRelay;
#[cfg(target_os = "linux")]
pub use error::Error;
#[cfg(target_os = "linux")]
pub use flood::UdpFlood;
#[cfg(target_os = "linux")]
pub use iperf::{Iperf3, Iperf3Config, TcpInterval, TcpReport};
#[cfg(target_os = "linux")]
pub use namespace::Namespace;
#[cfg(target_os = "linux")]
pub use path::{Addresses, Bottleneck, Family, Path, PathConfig};
#[cfg(target_os = "linux")]
pub use privilege::missing_privilege;
#[cfg(target_os = "linux")]
pub use process::Process;
#[cfg(target_os = "linux")]
pub use qdisc::{QdiscStats, TokenBucket};
#[cfg(target_os = "linux")]
pub use relay::{DirectionStats, Impairment, RelayConfig, RelayStats};
#[cfg(target_os = "linux")]
pub use stats::{DeviceStats, UdpCounters, UdpSocketStats, udp_socket_drops};
#[cfg(target_os = "linux")]
pub use user_namespace::{Privilege, acquire_privilege};
