//! The path over which both senders send.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use clap::Args;
#[cfg(target_os = "linux")]
use netlab::{
    Bottleneck, DatagramRelay, Family, Path, PathConfig, RelayConfig, TokenBucket,
    acquire_privilege,
};
use serde::Serialize;

use crate::endpoint;
use crate::units::bytes;

/// A token bucket lets so many bytes through at once: more than a GSO batch, so that none is split.
#[cfg(target_os = "linux")]
const BURST: u32 = 20_000;

/// The slow uplink.
#[derive(Args, Clone, Copy, Debug)]
pub struct UplinkOptions {
    /// Rate of the uplink, in Mbit/s.
    #[arg(long, value_name = "MBIT", default_value_t = 50.0, allow_negative_numbers = true,
        value_parser = parse_rate)]
    pub rate: f64,
    /// Bytes that may wait for it in this machine's queue; what comes beyond is dropped.
    #[arg(long, value_name = "BYTES", default_value_t = 150_000,
        value_parser = clap::value_parser!(u32).range(20_000..=100_000_000))]
    pub queue: u32,
    /// Round trip of the path while its queue is empty, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 20,
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rtt: u16,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text
        .parse()
        .map_err(|_| "give a number of Mbit/s, such as 50".to_owned())?;
    if (0.5..=1000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("give 0.5 to 1000 Mbit/s".to_owned())
    }
}

/// Where was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum NetworkKind {
    /// Over a slow uplink, in network namespaces of this process.
    Uplink,
    /// Over 127.0.0.1.
    Loopback,
}

/// The path, laid.
pub(super) enum Network {
    /// A slow uplink.
    #[cfg(target_os = "linux")]
    Uplink {
        path: Box<Path>,
        options: UplinkOptions,
    },
    /// 127.0.0.1, and why there is no uplink.
    Loopback(String),
}

/// The ends of one sender's path; what is between lives as long.
pub(super) struct Ends {
    /// Where the sender sends to.
    pub(super) destination: SocketAddr,
    /// The receiver's address and port.
    receiver: SocketAddr,
    #[cfg(target_os = "linux")]
    relay: Option<DatagramRelay>,
}

/// What was dropped, in datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drops {
    /// By the queue of the uplink.
    pub(super) queue: Option<u64>,
    /// Since the receiver's buffer was full.
    pub(super) receiver: u64,
    /// By the relay that emulates the network, because the processor was busy.
    pub(super) relay: u64,
}

impl Network {
    /// The uplink where namespaces are allowed, else loopback.
    #[cfg(target_os = "linux")]
    pub(super) fn lay(options: &UplinkOptions) -> anyhow::Result<Self> {
        let config = PathConfig {
            bottleneck: Bottleneck::Local(TokenBucket {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "it was checked to be some megabits"
                )]
                rate: (options.rate * 1e6) as u64,
                burst: BURST,
                limit: options.queue,
            }),
            ..PathConfig::default()
        };
        let path = acquire_privilege().and_then(|_| Path::new(&config));
        Ok(match path {
            Ok(path) => Self::Uplink {
                path: Box::new(path),
                options: *options,
            },
            Err(error) => Self::Loopback(error.to_string()),
        })
    }

    /// Loopback.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn lay(_options: &UplinkOptions) -> anyhow::Result<Self> {
        let why = "network namespaces are Linux's";
        Ok(Self::Loopback(why.to_owned()))
    }

    pub(super) fn kind(&self) -> NetworkKind {
        match self {
            #[cfg(target_os = "linux")]
            Self::Uplink { .. } => NetworkKind::Uplink,
            Self::Loopback(_) => NetworkKind::Loopback,
        }
    }

    /// Bytes that the queue holds at most.
    pub(super) fn queue_limit(&self) -> Option<u32> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Uplink { options, .. } => Some(options.queue),
            Self::Loopback(_) => None,
        }
    }

    /// A socket for the receiver.
    pub(super) fn receiver(&self) -> anyhow::Result<UdpSocket> {
        let bind = || endpoint::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        match self {
            #[cfg(target_os = "linux")]
            Self::Uplink { path, .. } => path.receiver().run(bind)?,
            Self::Loopback(_) => bind(),
        }
    }

    /// Joins a new sender to this receiver.
    pub(super) fn join(&self, receiver: SocketAddr) -> anyhow::Result<Ends> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Uplink { path, options } => {
                let one_way = Duration::from_millis(options.rtt.into()) / 2;
                let relay = DatagramRelay::start(path, &RelayConfig::symmetric(one_way), receiver)?;
                Ok(Ends {
                    destination: relay.entrance(),
                    receiver,
                    relay: Some(relay),
                })
            }
            Self::Loopback(_) => Ok(Ends {
                destination: receiver,
                receiver,
                #[cfg(target_os = "linux")]
                relay: None,
            }),
        }
    }

    /// Runs the sender where it belongs.
    pub(super) fn run<T: Send>(&self, sender: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Uplink { path, .. } => Ok(path.sender().run(sender)?),
            Self::Loopback(_) => Ok(sender()),
        }
    }

    /// Bytes that wait in the queue of the uplink now.
    pub(super) fn backlog(&self) -> Option<u64> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Uplink { path, .. } => Some(path.bottleneck_stats().ok()?.backlog_bytes),
            Self::Loopback(_) => None,
        }
    }

    /// What was dropped of so many datagrams that the sender sent.
    #[cfg(target_os = "linux")]
    pub(super) fn drops(&self, ends: &Ends, sent: u64) -> anyhow::Result<Drops> {
        let Self::Uplink { path, .. } = self else {
            return Ok(Drops {
                receiver: netlab::udp_socket_drops(ends.receiver.port())?,
                ..Drops::default()
            });
        };
        let mut drops = Drops::default();
        let sockets = path
            .receiver()
            .udp_sockets(Family::V4, ends.receiver.port())?;
        drops.receiver = sockets.iter().map(|socket| socket.drops).sum();
        if let Some(relay) = &ends.relay {
            let stats = relay.stats(path)?;
            let forward = stats.forward;
            drops.queue = Some(sent.saturating_sub(forward.received + forward.missed));
            drops.relay = forward.unintended_drops() + stats.backward.unintended_drops();
        }
        Ok(drops)
    }

    /// Not known here.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn drops(&self, _ends: &Ends, _sent: u64) -> anyhow::Result<Drops> {
        Ok(Drops::default())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(target_os = "linux")]
            Self::Uplink { options, .. } => write!(
                f,
                "path: an uplink of {} Mbit/s with a queue of {}, a round trip of {} ms, in network \
                 namespaces of this process",
                options.rate,
                bytes(options.queue.into()),
                options.rtt
            ),
            Self::Loopback(why) => write!(
                f,
                "path: loopback alone, where nothing is slow but the receiver, which is what is \
                 governed: {why}"
            ),
        }
    }
}
