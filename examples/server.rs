//! Receives uploads of `client`s on other machines or in other network namespaces, and serves their
//! downloads.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use examples::args::{Common, parse_seconds};
use examples::program::{self, Session, print_drops};
use examples::serve::{End, Server};
use examples::{certificate, endpoint};

/// Receives uploads until Ctrl-C and reports to each sender what arrived; serves downloads. Each
/// peer is a flow of its own: its drops are counted separately, and what the server sends to it is
/// governed.
#[derive(Debug, Parser)]
#[command(name = "server")]
struct Args {
    /// Address and port to listen on, such as 0.0.0.0:4433.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// Write the server's certificate, a new one at each start, to this file, for clients that
    /// trust no other.
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Stop after this time.
    #[arg(long, allow_negative_numbers = true, value_parser = parse_seconds)]
    seconds: Option<Duration>,
    /// Stop after this many uploads and downloads.
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..))]
    flows: Option<u16>,
    /// Size of the socket's receive buffer in bytes, instead of the system's default. A small one
    /// overflows when the receiver is busy.
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true,
        value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    receive_buffer: Option<u32>,
    /// Validate the address of each peer by a QUIC Retry before accepting its connection.
    #[arg(long)]
    retry: bool,
    /// Write the state of each download to this file every 10 ms, one JSON object a line (the
    /// module `trace` of this package describes the fields).
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    program::init_logs();
    let session = Session::start(&args.common).await?;

    let (made, tls) = certificate::generate()?;
    let socket = endpoint::bind(args.listen)?;
    if let Some(bytes) = args.receive_buffer {
        endpoint::set_receive_buffer(&socket, bytes)?;
    }
    let server = Server::new(&session.control, tls, socket, args.retry)?;
    if let Some(file) = &args.cert {
        certificate::write(&made, file)?;
    }
    examples::say!("listening at {}", server.address()?);

    let end = End {
        time: args.seconds,
        uploads: args.flows.map(usize::from),
    };
    let report = server.run(&session, end, args.trace.as_deref()).await?;
    examples::say!("\nSummary: {report}");
    if let Some(observation) = &session.observation {
        print_drops(observation, &report.totals);
    }
    session.finish(&report)
}
