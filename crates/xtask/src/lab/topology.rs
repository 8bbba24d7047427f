//! Where the ends of the connections are: a path, or a single host.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netlab::{
    Bottleneck, Family, Impairment, Namespace, Path, PathConfig, RelayConfig, TokenBucket,
};

use super::choices::BottleneckAt;
use super::parameters::Parameters;

/// Where the ends of the connections are.
pub(super) enum Topology {
    Path(Box<Path>),
    Host(Namespace),
}

/// Packets that netem holds, at most: more than any path here.
const NETEM_LIMIT: u32 = 100_000;

impl Topology {
    pub(super) fn set_up(parameters: &Parameters) -> Result<Self> {
        let local = bucket(parameters, parameters.rate_mbps);
        let bottleneck = match parameters.bottleneck {
            BottleneckAt::SameHost => return Ok(Self::Host(Namespace::new()?)),
            BottleneckAt::Local => Bottleneck::Local(local),
            BottleneckAt::Remote => Bottleneck::Remote(local),
        };
        let by_netem = parameters.by_netem();
        let way = |loss| Impairment {
            delay: millis(parameters.delay_ms / 2.0),
            jitter: millis(parameters.jitter_ms / 2.0),
            loss,
        };
        let path = Path::new(&PathConfig {
            bottleneck,
            next_hop: parameters.next_hop_mbps.map(|rate_mbps| TokenBucket {
                limit: bytes(parameters.next_hop_kb),
                ..bucket(parameters, rate_mbps)
            }),
            relay: (!by_netem).then(|| RelayConfig {
                forward: way(parameters.loss_percent / 100.0),
                backward: way(0.0),
                ..RelayConfig::symmetric(Duration::ZERO)
            }),
            ..PathConfig::default()
        })?;
        if by_netem {
            delay_way_back(&path, parameters)?;
        }
        Ok(Self::Path(Box::new(path)))
    }

    pub(super) fn sender(&self) -> &Namespace {
        match self {
            Self::Path(path) => path.sender(),
            Self::Host(host) => host,
        }
    }

    pub(super) fn receiver(&self) -> &Namespace {
        match self {
            Self::Path(path) => path.receiver(),
            Self::Host(host) => host,
        }
    }

    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Host(_) => None,
        }
    }

    /// The addresses of sender and receiver.
    pub(super) fn addresses(&self) -> (IpAddr, IpAddr) {
        match self {
            Self::Path(path) => {
                let ends = path.addresses(Family::V4);
                (ends.sender, ends.receiver)
            }
            Self::Host(_) => (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()),
        }
    }
}

/// Lets the receiver's own device delay what it sends: where the path neither jitters nor loses
/// anything, the sender cannot tell on which way the delay is.
pub(super) fn delay_way_back(path: &Path, parameters: &Parameters) -> Result<()> {
    let line = format!(
        "qdisc replace dev {} root netem delay {}ms limit {NETEM_LIMIT}",
        path.receiver_device(),
        parameters.delay_ms
    );
    command(path.receiver(), "tc", &line).map(drop)
}

/// Runs one of iproute2's programs; what it prints is the answer.
pub(super) fn command(namespace: &Namespace, program: &str, line: &str) -> Result<String> {
    let output = namespace
        .command(program)
        .args(line.split_whitespace())
        .output()
        .with_context(|| format!("cannot start {program}: install iproute2"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{program} {line}` failed: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Lets nftables drop a share of the datagrams that leave a namespace.
pub(super) fn drop_by_policy(namespace: &Namespace, percent: f64) -> Result<()> {
    // In ten-thousandths; what the filter drops it drops as it was sent, batches whole.
    let of_ten_thousand = (percent * 100.0).round();
    let rules = format!(
        "add table inet lab; \
         add chain inet lab leaving {{ type filter hook output priority 0; }}; \
         add rule inet lab leaving meta l4proto udp numgen random mod 10000 < {of_ten_thousand} drop"
    );
    let output = namespace.command("nft").arg(rules).output();
    let output = output.context("cannot start nft: install nftables")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft refused its rules: {said}");
    Ok(())
}

/// The bottleneck at this rate.
pub(super) fn bucket(parameters: &Parameters, rate_mbps: f64) -> TokenBucket {
    TokenBucket {
        rate: whole(rate_mbps * 1e6),
        burst: bytes(parameters.bucket_kb),
        limit: bytes(parameters.queue_kb),
    }
}

fn millis(millis: f64) -> Duration {
    Duration::from_secs_f64(millis / 1e3)
}

/// Whole bytes.
pub(super) fn bytes(kilobytes: f64) -> u32 {
    u32::try_from(whole(kilobytes * 1e3)).unwrap_or(u32::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "parameters are positive and far below 2^53, which was checked"
)]
pub(super) fn whole(value: f64) -> u64 {
    value.round() as u64
}
