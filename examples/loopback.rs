//! Server and client in one process: a QUIC upload over 127.0.0.1 and what the kernel tells of it.

use std::net::{Ipv4Addr, SocketAddr};

use clap::Parser;
use ebpf_congestion_signals::Watch;
use examples::args::{Common, Load};
use examples::certificate::{self, Trust};
use examples::endpoint;
use examples::program::{self, Session};
use examples::receive::Receiving;
use examples::signals::Observation;
use quinn::Endpoint;
use quinn_governor::Governors;

/// Uploads over 127.0.0.1 from a client to a server in this process, and shows what the kernel
/// tells meanwhile. Loopback has no queue to fill: what is dropped here was dropped because the
/// receiver did not keep up.
#[derive(Debug, Parser)]
#[command(name = "loopback")]
struct Args {
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    common: Common,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    args.load.check::<Args>();
    program::init_logs();
    let session = Session::start(&args.common).await?;

    let (certificate, tls) = certificate::generate()?;
    let socket = endpoint::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = socket.local_addr()?;
    // The receiver is watched too, for drops at its socket, and what it receives is governed.
    let watch = session.control.watch(&socket, None);
    let config = session.control.server_config(endpoint::server_config(tls));
    let server = session.control.endpoint(Some(config), socket)?;
    tokio::spawn(serve(server, session.control.governors().clone()));

    let trust = Trust::Only(certificate);
    let receiver = |observation: &Observation| {
        let of = |watch: &Watch| observation.flow("receiver".to_owned(), watch);
        watch.iter().map(of).collect()
    };
    session.upload(address, &trust, args.load, receiver).await
}

/// Receives every upload; ends with the process.
async fn serve(server: Endpoint, governors: Governors) {
    while let Some(incoming) = server.accept().await {
        let governors = governors.clone();
        tokio::spawn(async move {
            let received = async {
                let connection = incoming.await?;
                let _window = governors.receive(&connection);
                Receiving::default().receive(&connection).await
            };
            if let Err(error) = received.await {
                tracing::warn!("a connection failed: {error:#}");
            }
        });
    }
}
