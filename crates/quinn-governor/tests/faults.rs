//! System calls that fail under a governed connection: whatever fails, no connection fails for it that
//! would not fail without the governor.
//!
//! `strace` makes a call fail, one after the other, in a child that transfers over loopback.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

#[macro_use]
extern crate live_test;

use std::env;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ebpf_congestion_signals::SocketSource;
#[cfg(feature = "ebpf")]
use ebpf_congestion_signals::SourceKind;
use live_test::TestResult;
use quinn::Endpoint;
use quinn::congestion::CubicConfig;
use quinn_governor::Governors;
use quinn_governor::testing::quic_configs;
use tokio::time::timeout;

/// Set for a child: its signals.
const SIGNALS: &str = "GOVERNOR_FAULTS_SIGNALS";

/// Longer than any transfer takes that comes to an end.
const LIMIT: Duration = Duration::from_secs(20);

/// Bytes of each of the child's streams.
const UPLOAD: usize = 100_000;

const LOOPBACK: &str = "127.0.0.1:0";

fn main() -> ExitCode {
    match env::var(SIGNALS) {
        Ok(signals) => transfer(&signals),
        Err(_) => live_test::main(),
    }
}

/// What a child does: two connections, several streams there and back.
fn transfer(signals: &str) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    // Nothing of ours has been called so far.
    let Ok(runtime) = runtime else {
        return ExitCode::FAILURE;
    };
    let governors = match signals {
        "socket" => match SocketSource::probe() {
            Ok(source) => Governors::new(Arc::new(source)),
            Err(_) => Governors::without_signals(Arc::new(CubicConfig::default())),
        },
        "auto" => Governors::auto(),
        _ => Governors::without_signals(Arc::new(CubicConfig::default())),
    };
    match runtime.block_on(async { timeout(LIMIT, echo(&governors)).await }) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("failed: too late");
            ExitCode::FAILURE
        }
    }
}

async fn echo(governors: &Governors) -> TestResult {
    let (client_config, server_config) = quic_configs();
    let server = governors.server(server_config, LOOPBACK.parse()?)?;
    let accepting = server.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else {
                    return;
                };
                while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                    let Ok(all) = receive.read_to_end(usize::MAX).await else {
                        return;
                    };
                    if send.write_all(&all).await.is_ok() {
                        let _ = send.finish();
                    }
                }
            });
        }
    });
    let address = server.local_addr()?;
    for _ in 0..2 {
        let client: Endpoint = governors.client(LOOPBACK.parse()?)?;
        let config = governors.client_config(client_config.clone());
        let connection = client.connect_with(config, address, "localhost")?.await?;
        for _ in 0..3 {
            let (mut send, mut receive) = connection.open_bi().await?;
            send.write_all(&vec![7; UPLOAD]).await?;
            send.finish()?;
            let back = receive.read_to_end(usize::MAX).await?;
            if back.len() != UPLOAD {
                return Err("not all came back".into());
            }
        }
    }
    Ok(())
}

/// How a child ended.
#[derive(Debug)]
struct Outcome {
    succeeded: bool,
    /// Calls that were made to fail.
    injected: usize,
    said: String,
}

impl Outcome {
    fn assert_no_panic(&self, name: &str) {
        assert!(!self.said.contains("panicked"), "{name}: {}", self.said);
    }
}

/// Runs a child in which a call fails with an error: `when` is strace's expression for which.
fn child(signals: &str, call: &str, error: &str, when: &str) -> Outcome {
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o", "/proc/self/fd/2"])
        .args(["-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:error={error}:when={when}")])
        .arg(env::current_exe().unwrap())
        .env(SIGNALS, signals)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Outcome {
        succeeded: output.status.success(),
        injected: said.matches("(INJECTED)").count(),
        said: said
            .lines()
            .filter(|line| !line.contains('('))
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

/// Runs in which each of a child's calls fails, one in each run, and how many of them failed for it.
#[derive(Clone, Copy, Debug)]
struct Runs {
    all: usize,
    fatal: usize,
}

/// Calls that are tried, at most: those that follow are for more of the same.
const MOST_CALLS: usize = 50;

fn each_call(signals: &str, call: &str, error: &str) -> Runs {
    let mut runs = Runs { all: 0, fatal: 0 };
    for number in 1..=MOST_CALLS {
        let outcome = child(signals, call, error, &number.to_string());
        if outcome.injected == 0 {
            break;
        }
        outcome.assert_no_panic(&format!("{signals}, {call} {error} {number}"));
        runs.all += 1;
        runs.fatal += usize::from(!outcome.succeeded);
    }
    runs
}

/// Without the governor, a call that fails for lack of a descriptor or of memory can fail an endpoint
/// or a connection. With it, there are more calls, and no more of them may be fatal.
#[test]
fn no_call_of_the_governor_is_fatal() -> TestResult {
    live_test::require_program("strace")?;
    let calls = [
        ("socket", "EMFILE"),
        ("bind", "ENOMEM"),
        ("fcntl", "EMFILE"),
        ("epoll_ctl", "ENOMEM"),
        ("setsockopt", "ENOPROTOOPT"),
        ("getsockopt", "ENOBUFS"),
        ("getsockname", "ENOBUFS"),
        ("clone3", "EAGAIN"),
    ];
    let results = thread::scope(|scope| {
        let run = |(call, error)| {
            scope.spawn(move || {
                let without = each_call("none", call, error);
                (call, without, each_call("socket", call, error))
            })
        };
        let running: Vec<_> = calls.into_iter().map(run).collect();
        running
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect::<Vec<_>>()
    });
    for result in results {
        let (call, without, with) = result.map_err(|_| "a child's test panicked")?;
        println!("{call}: without {without:?}, with {with:?}");
        assert!(with.all > 0, "{call} is not called");
        assert!(with.fatal <= without.fatal, "{call}: {without:?}, {with:?}");
    }
    Ok(())
}

/// One in so many calls is tried, unless the variable says otherwise; each takes a second.
#[cfg(feature = "ebpf")]
const EVERY: usize = 37;
#[cfg(feature = "ebpf")]
const EVERY_VARIABLE: &str = "GOVERNOR_FAULTS_EVERY";

#[cfg(feature = "ebpf")]
#[test]
fn whichever_call_of_loading_probes_fails_connections_run() -> TestResult {
    live_test::require_program("strace")?;
    let loaded = Governors::auto();
    let is_loaded = loaded.source().map(|source| source.kind()) == Some(SourceKind::Ebpf);
    live_test::require((!is_loaded).then_some("this process may not load probes: run as root"))?;
    drop(loaded);
    let every = env::var(EVERY_VARIABLE)
        .ok()
        .and_then(|every| every.parse().ok());
    let mut errors = ["EMFILE", "ENOMEM", "EPERM", "EINVAL", "EAGAIN"]
        .into_iter()
        .cycle();
    let mut runs = 0;
    for number in (1..).step_by(every.unwrap_or(EVERY)) {
        let error = errors.next().ok_or("errors go round")?;
        let outcome = child("auto", "bpf", error, &number.to_string());
        if outcome.injected == 0 {
            break;
        }
        let name = format!("bpf {error} {number}");
        outcome.assert_no_panic(&name);
        assert!(outcome.succeeded, "{name}: {}", outcome.said);
        runs += 1;
    }
    println!("{runs} runs");
    assert!(runs > 3, "loading makes more calls than that");
    Ok(())
}

/// Errors that a send may meet now and then.
const SENDS: [&str; 12] = [
    "ENOBUFS",
    "EPERM",
    "EINTR",
    "EAGAIN",
    "ENOMEM",
    "EIO",
    "EINVAL",
    "EMSGSIZE",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "ECONNREFUSED",
    "ENETDOWN",
];

/// The same of a receive.
const RECEIVES: [&str; 6] = [
    "EINTR",
    "EAGAIN",
    "ECONNREFUSED",
    "EHOSTUNREACH",
    "ENOMEM",
    "ENOBUFS",
];

#[test]
fn an_error_now_and_then_fails_nothing_that_stock_survives() -> TestResult {
    live_test::require_program("strace")?;
    let sends = SENDS.map(|error| ("sendmsg", error));
    let receives = RECEIVES.map(|error| ("recvmmsg", error));
    let others = [("epoll_wait", "EINTR"), ("getsockopt", "ENOMEM")];
    for (call, error) in sends.into_iter().chain(receives).chain(others) {
        let governed = child("socket", call, error, "6+13");
        assert!(governed.injected > 0, "{call} {error}: {}", governed.said);
        governed.assert_no_panic(&format!("{call} {error}"));
        if !governed.succeeded {
            let stock = child("none", call, error, "6+13");
            println!("{call} {error}: {} (stock: {stock:?})", governed.said);
            assert!(!stock.succeeded, "{call} {error}: {}", governed.said);
        }
    }
    Ok(())
}
