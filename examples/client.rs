//! Uploads to a `server` on another machine, or in another namespace; or downloads from it.

use std::path::PathBuf;

use clap::Parser;
use examples::args::{Common, Load};
use examples::certificate::Trust;
use examples::peer::Peer;
use examples::program::{self, Session};

/// Uploads zeros to a server for a time and prints what arrived, what was lost and what the
/// kernel reported.
#[derive(Debug, Parser)]
#[command(name = "client")]
struct Args {
    /// Host and port of the server, such as example.org:4433 or 192.0.2.1:4433.
    #[arg(long, value_name = "HOST:PORT")]
    connect: Peer,
    /// Trust only the server with this certificate: the file that the server wrote with its --cert.
    /// Without it any server is trusted.
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Download: the server sends, and is the end to govern. Its report has the losses.
    #[arg(long, conflicts_with_all = ["stagger", "download_first", "Baseline", "bytes", "detach_after", "trace", "record", "qlog"])]
    download: bool,
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
    let trust = match &args.cert {
        Some(file) => Trust::from_file(file)?,
        // An upload of zeros has nothing to keep secret.
        None => Trust::Any,
    };
    let server = args.connect.resolve()?;
    let session = Session::start(&args.common).await?;
    if args.download {
        return session.download(server, &trust, &args.load).await;
    }
    let others = |_: &_| Vec::new();
    session.upload(server, &trust, args.load, others).await
}
