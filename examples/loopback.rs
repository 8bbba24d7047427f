//! Server and client in one process, over a slow uplink in network namespaces of this process: what
//! a governor changes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use ebpf_congestion_signals::Watch;
use examples::args::{Common, Load};
use examples::certificate::{self, Trust};
use examples::comparison::{self, Plan, UplinkOptions};
use examples::endpoint;
use examples::program::{self, Session};
use examples::receive::Receiving;
use examples::signals::Observation;
use quinn::Endpoint;
use quinn_governor::Governors;
use tokio::runtime::Runtime;

/// Uploads from a client to a server in this process, first with plain quinn (stock), then
/// governed, and compares the two. The path is a slow uplink in network namespaces of this process;
/// nothing outside of it is changed. It needs no other program, and no privilege where user
/// namespaces are allowed. Where they are not, the path is 127.0.0.1, which has no queue: there the
/// receiving side is governed.
#[derive(Debug, Parser)]
#[command(name = "loopback")]
struct Args {
    /// Do not compare: upload once over 127.0.0.1, with both sides governed unless --governor is
    /// off, and print what the kernel reports. All options but --rate, --queue, --rtt, --svg,
    /// --seconds, --base, --source and --json need this one.
    #[arg(long, conflicts_with_all = ["rate", "queue", "rtt", "svg"])]
    plain: bool,
    #[command(flatten)]
    uplink: UplinkOptions,
    /// Draw round trip and backlog over time in this file (SVG).
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    common: Common,
}

/// How long each of the two sends that are compared, unless --seconds says otherwise.
const SECONDS: Duration = Duration::from_secs(6);

/// What a comparison takes none of, beside the options of its own.
const SHARED: [&str; 4] = ["seconds", "base", "source", "json"];

fn main() -> anyhow::Result<()> {
    let matches = Args::command().get_matches();
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    args.load.check::<Args>();
    program::init_logs();
    if args.plain {
        return Runtime::new()?.block_on(plain(args));
    }
    refuse_options_of_plain(&matches);
    let given = matches.value_source("seconds") == Some(ValueSource::CommandLine);
    comparison::run(&Plan {
        base: args.common.base,
        source: args.common.source,
        seconds: if given { args.load.seconds } else { SECONDS },
        uplink: args.uplink,
        svg: args.svg,
        json: args.common.json,
    })
}

fn refuse_options_of_plain(matches: &ArgMatches) {
    let own = ["rate", "queue", "rtt", "svg"];
    let wrong = matches.ids().map(clap::Id::as_str).find(|id| {
        let given = matches.value_source(id) == Some(ValueSource::CommandLine);
        given
            && !own.contains(id)
            && !SHARED.contains(id)
            && Args::command()
                .get_arguments()
                .any(|argument| argument.get_id() == id)
    });
    if let Some(id) = wrong {
        let mut command = Args::command();
        let option = command
            .get_arguments()
            .find(|argument| argument.get_id() == id);
        let option = option
            .and_then(clap::Arg::get_long)
            .unwrap_or(id)
            .to_owned();
        let advice = format!("--{option} is for --plain: give that too");
        command.error(ErrorKind::ArgumentConflict, advice).exit();
    }
}

/// One upload over 127.0.0.1.
async fn plain(args: Args) -> anyhow::Result<()> {
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
