//! Downloads for a time over a number of connections.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::{ClientConfig, Endpoint};
use quinn_governor::ReceiveWindow;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::args::Load;
use crate::certificate::{Transfer, Trust};
use crate::connect;
use crate::control::Control;
use crate::endpoint;
use crate::interrupt;
use crate::receive::Receiving;
use crate::units::{bytes, counted, megabits_per_second, rounded};

/// How long to wait at the end for the server to close a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What arrived, as the receiver counted it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DownloadReport {
    /// For how long was received.
    pub seconds: f64,
    /// Connections.
    pub flows: usize,
    /// Bytes of their streams.
    pub received_bytes: u64,
    /// These by the time.
    pub goodput_mbps: f64,
    /// Goodput of each flow, in the order in which they connected.
    pub per_flow_goodput_mbps: Vec<f64>,
    /// How long each took to connect, milliseconds, in that order.
    pub connect_ms: Vec<f64>,
}

/// Connections to a server, ready to download.
pub struct Downloads {
    flows: Vec<Flow>,
    seconds: Duration,
    rebind_after: Option<Duration>,
}

struct Flow {
    endpoint: Endpoint,
    connection: quinn::Connection,
    connect_time: Duration,
    _window: ReceiveWindow,
}

impl Downloads {
    /// Connects as often as the load says. What the connections receive is governed.
    pub async fn connect(
        server: SocketAddr,
        trust: &Trust,
        load: &Load,
        control: &Control,
    ) -> anyhow::Result<Self> {
        let mut flows: Vec<Flow> = Vec::new();
        let client = ClientConfig::new(Arc::new(trust.client(Transfer::Download)?));
        connect::half_open(server, &client, load.half_open).await?;
        for _ in 0..load.flows {
            let shared = flows.first().filter(|_| load.one_socket);
            let endpoint = match shared {
                Some(first) => first.endpoint.clone(),
                None => control.endpoint(None, endpoint::bind_for(server)?)?,
            };
            let mut config = client.clone();
            config.transport_config(Arc::new(control.transport(None)));
            let (connected, connect_time) =
                connect::connect(&endpoint, config, server, load).await?;
            let connection = connected.connection().clone();
            flows.push(Flow {
                endpoint,
                _window: control.governors().receive(&connection),
                connection,
                connect_time,
            });
        }
        Ok(Self {
            flows,
            seconds: load.seconds,
            rebind_after: load.rebind_after,
        })
    }

    /// Downloads over all of them until the time is over, one fails or the user asks for an end.
    pub async fn run(self) -> anyhow::Result<DownloadReport> {
        let (stop, stopped) = watch::channel(false);
        let mut fetching = JoinSet::new();
        let mut received = Vec::new();
        for flow in &self.flows {
            let receiving = Receiving::default();
            received.push(receiving.clone());
            let (connection, stopped) = (flow.connection.clone(), stopped.clone());
            fetching.spawn(async move { receiving.fetch(&connection, stopped).await });
        }
        let began = Instant::now();
        let rebind = async {
            if let Some(time) = self.rebind_after {
                sleep(time).await;
                for flow in &self.flows {
                    let server = flow.connection.remote_address();
                    flow.endpoint.rebind(endpoint::bind_for(server)?)?;
                }
                crate::say!("rebound to new sockets");
            }
            std::future::pending::<anyhow::Result<()>>().await
        };
        tokio::select! {
            () = sleep(self.seconds) => {}
            failed = rebind => failed?,
            asked = interrupt::requested() => {
                asked?;
                crate::say!("interrupted: what was received so far");
            }
            // Before its time: it failed.
            Some(ended) = fetching.join_next() => ended??,
        }
        let time = began.elapsed();
        let connect_times = self.flows.iter().map(|flow| flow.connect_time);
        let report = DownloadReport::new(time, &received, connect_times);
        stop.send_replace(true);
        let ended = timeout(CLOSE_TIMEOUT, async {
            while let Some(ended) = fetching.join_next().await {
                ended??;
            }
            anyhow::Ok(())
        });
        ended.await.unwrap_or(Ok(()))?;
        for flow in self.flows {
            // Elapsed or not, there is nothing more to do for it.
            let _ = timeout(Duration::from_secs(1), flow.endpoint.wait_idle()).await;
        }
        Ok(report)
    }
}

impl DownloadReport {
    fn new(
        time: Duration,
        received: &[Receiving],
        connect_times: impl Iterator<Item = Duration>,
    ) -> Self {
        let rate = |bytes| rounded(megabits_per_second(bytes, time));
        let received: Vec<u64> = received.iter().map(Receiving::bytes).collect();
        let received_bytes = received.iter().sum();
        Self {
            seconds: rounded(time.as_secs_f64()),
            flows: received.len(),
            received_bytes,
            goodput_mbps: rate(received_bytes),
            per_flow_goodput_mbps: received.into_iter().map(rate).collect(),
            connect_ms: connect_times
                .map(|time| rounded(time.as_secs_f64() * 1e3))
                .collect(),
        }
    }
}

impl fmt::Display for DownloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} in {:.2} s: {:.1} Mbit/s",
            counted(self.flows, "download"),
            bytes(self.received_bytes),
            self.seconds,
            self.goodput_mbps
        )
    }
}
