//! Processor time of a transfer over loopback and through a veth, both ends in this process: quinn's
//! own socket beside ours, watched and governed. Runs take turns, so that the machine's other work
//! meets all alike; each ratio is to the stock run of the same turn, and the medians over all turns
//! are printed. Sending is segmented by the kernel (GSO), as quinn does where it can; through the
//! veth, batches reach the receiver's namespace unsplit.
//!
//! `cargo bench -p benches --bench transfer -- [ROUNDS] [MEGABYTES]`; 11 rounds of 200 MB without
//! arguments. Needs root for the probes and the veth; without, only what needs none is measured.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{EbpfSource, SignalSource, SocketSource, WatchTarget};
use netlab::{Family, Path, PathConfig};
use nix::sys::resource::{UsageWho, getrusage};
use quinn::congestion::CubicConfig;
use quinn::{ClientConfig, Endpoint, TransportConfig};
use quinn_governor::Governors;
use quinn_governor::testing::quic_configs;

/// What a transfer runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// quinn's socket and controller.
    Stock,
    /// Our socket over the source without privilege, governing switched off.
    OurSocket,
    /// The same, governed.
    GovernedBySocket,
    /// quinn's socket and controller while the probes watch the sending socket.
    WatchedByProbes,
    /// Our socket, governed by the probes.
    GovernedByProbes,
}

const ALL: [Kind; 5] = [
    Kind::Stock,
    Kind::OurSocket,
    Kind::GovernedBySocket,
    Kind::WatchedByProbes,
    Kind::GovernedByProbes,
];

/// What both ends are on.
enum Link {
    Loopback,
    /// Two namespaces, with a veth between them.
    Veth(Box<Path>),
}

impl Link {
    fn name(&self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Veth(_) => "veth",
        }
    }

    /// Whether a kind is measured here. The source without privilege asks the kernel about the
    /// devices of the namespace that it was made in, which is not the one of the veth.
    fn has(&self, kind: Kind) -> bool {
        match self {
            Self::Loopback => true,
            Self::Veth(_) => !matches!(kind, Kind::OurSocket | Kind::GovernedBySocket),
        }
    }

    fn sender(&self) -> Result<UdpSocket, Box<dyn Error>> {
        match self {
            Self::Loopback => Ok(bind(Ipv4Addr::LOCALHOST)?),
            Self::Veth(path) => {
                let address = path.addresses(Family::V4).sender;
                Ok(path.sender().run(|| bind(address))??)
            }
        }
    }

    fn receiver(&self) -> Result<UdpSocket, Box<dyn Error>> {
        match self {
            Self::Loopback => Ok(bind(Ipv4Addr::LOCALHOST)?),
            Self::Veth(path) => {
                let address = path.addresses(Family::V4).receiver;
                Ok(path.receiver().run(|| bind(address))??)
            }
        }
    }
}

fn bind(address: impl Into<IpAddr>) -> io::Result<UdpSocket> {
    UdpSocket::bind((address.into(), 0))
}

struct Sources {
    socket: Arc<SocketSource>,
    probes: Option<Arc<EbpfSource>>,
}

/// What a transfer took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    wall: Duration,
    processor: Duration,
}

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<usize> = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    // Without `cargo bench`, as CI runs it, only whether it works.
    let brief = std::env::args().all(|argument| argument != "--bench");
    let (rounds, megabytes) = if brief {
        (1, 2)
    } else {
        (
            numbers.first().copied().unwrap_or(11),
            numbers.get(1).copied().unwrap_or(200),
        )
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let probes = EbpfSource::load();
    if let Err(refused) = &probes {
        println!("without the probes: {refused}");
    }
    let sources = Sources {
        socket: Arc::new(SocketSource::new()),
        probes: probes.ok().map(Arc::new),
    };
    let mut links = vec![Link::Loopback];
    match netlab::missing_privilege() {
        Some(why) => println!("without the veth: {why}"),
        None => links.push(Link::Veth(Box::new(Path::new(&PathConfig::default())?))),
    }
    for link in &links {
        let kinds: Vec<Kind> = ALL
            .into_iter()
            .filter(|kind| sources.probes.is_some() || !kind.needs_probes())
            .filter(|kind| link.has(*kind))
            .collect();
        let mut costs = vec![Vec::new(); kinds.len()];
        for round in 0..rounds {
            for place in 0..kinds.len() {
                // Another order each time.
                let place = (place + round) % kinds.len();
                let cost = transfer(kinds[place], link, &sources, megabytes);
                costs[place].push(runtime.block_on(cost)?);
            }
        }
        print(link, &kinds, &costs, megabytes);
    }
    Ok(())
}

/// Prints the medians, and those of the ratios to the stock run of the same turn.
fn print(link: &Link, kinds: &[Kind], costs: &[Vec<Cost>], megabytes: usize) {
    println!(
        "{:<18} {:>10} {:>12} {:>16} {:>14}",
        link.name(),
        "Gbit/s",
        "CPU s/GB",
        "CPU by stock's",
        "time by stock's"
    );
    for (kind, of_kind) in kinds.iter().zip(costs) {
        let gigabytes = megabytes as f64 / 1e3;
        let rate = median(
            of_kind
                .iter()
                .map(|cost| 8.0 * gigabytes / cost.wall.as_secs_f64()),
        );
        let processor = median(
            of_kind
                .iter()
                .map(|cost| cost.processor.as_secs_f64() / gigabytes),
        );
        let pairs = || of_kind.iter().zip(&costs[0]);
        let by_processor = pairs()
            .map(|(cost, stock)| cost.processor.as_secs_f64() / stock.processor.as_secs_f64());
        let by_time =
            pairs().map(|(cost, stock)| cost.wall.as_secs_f64() / stock.wall.as_secs_f64());
        let name = format!("{kind:?}");
        println!(
            "{name:<18} {rate:>10.2} {processor:>12.2} {:>16.3} {:>14.3}",
            median(by_processor),
            median(by_time)
        );
    }
}

impl Kind {
    fn needs_probes(self) -> bool {
        matches!(self, Self::WatchedByProbes | Self::GovernedByProbes)
    }

    /// What governs, or only lends its socket.
    fn governors(self, sources: &Sources) -> Governors {
        let source: Arc<dyn SignalSource> = match (self, &sources.probes) {
            (Self::OurSocket | Self::GovernedBySocket, _) => Arc::clone(&sources.socket) as _,
            (Self::GovernedByProbes, Some(probes)) => Arc::clone(probes) as _,
            _ => return Governors::without_signals(Arc::new(CubicConfig::default())),
        };
        Governors::new(source)
    }
}

/// Sends so many megabytes from a client to a server.
async fn transfer(
    kind: Kind,
    link: &Link,
    sources: &Sources,
    megabytes: usize,
) -> Result<Cost, Box<dyn Error>> {
    let governors = kind.governors(sources);
    let (mut client_config, mut server_config) = quic_configs();
    let transport = |governors: &Governors| {
        let mut transport = TransportConfig::default();
        if kind != Kind::OurSocket {
            governors.govern(&mut transport);
        }
        Arc::new(transport)
    };
    server_config.transport_config(transport(&governors));
    // What is shared is left as it is.
    let _shared = (kind == Kind::OurSocket).then(|| Arc::clone(&server_config.transport));
    client_config.transport_config(transport(&governors));
    let server = governors.endpoint(
        quinn::EndpointConfig::default(),
        Some(server_config),
        link.receiver()?,
        Arc::new(quinn::TokioRuntime),
    )?;
    let receiving = tokio::spawn(receive(server.clone()));

    let socket = link.sender()?;
    let _watch = match (kind, &sources.probes) {
        (Kind::WatchedByProbes, Some(probes)) => {
            Some(probes.watch(WatchTarget::socket(&socket).sharing())?)
        }
        _ => None,
    };
    let client = governors.endpoint(
        quinn::EndpointConfig::default(),
        None,
        socket,
        Arc::new(quinn::TokioRuntime),
    )?;
    let (wall, processor) = (Instant::now(), processor_time()?);
    send(&client, client_config, server.local_addr()?, megabytes).await?;
    let cost = Cost {
        wall: wall.elapsed(),
        processor: processor_time()? - processor,
    };
    client.wait_idle().await;
    receiving.abort();
    Ok(cost)
}

async fn send(
    client: &Endpoint,
    config: ClientConfig,
    server: SocketAddr,
    megabytes: usize,
) -> Result<(), Box<dyn Error>> {
    let connection = client.connect_with(config, server, "localhost")?.await?;
    let mut stream = connection.open_uni().await?;
    let data = vec![0; 1_000_000];
    for _ in 0..megabytes {
        stream.write_all(&data).await?;
    }
    stream.finish()?;
    // Until all of it has been acknowledged.
    stream.stopped().await?;
    connection.close(0u32.into(), b"");
    Ok(())
}

async fn receive(server: Endpoint) {
    while let Some(incoming) = server.accept().await {
        tokio::spawn(async move {
            let connection = incoming.await.ok()?;
            let mut stream = connection.accept_uni().await.ok()?;
            while let Ok(Some(_)) = stream.read_chunk(usize::MAX, false).await {}
            connection.closed().await;
            Some(())
        });
    }
}

fn processor_time() -> nix::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = |time: nix::sys::time::TimeVal| {
        let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    };
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    f64::midpoint(values[half], values[values.len() - 1 - half])
}
