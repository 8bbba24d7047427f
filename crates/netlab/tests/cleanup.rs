//! Nothing outlives a path. Alone in its process, whose threads and files it counts.
#![cfg(target_os = "linux")]

#[macro_use]
extern crate live_test;

use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead, BufReader},
    os::{
        fd::{AsFd, AsRawFd},
        unix::process::ExitStatusExt,
    },
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use netlab::{Bottleneck, Iperf3, Iperf3Config, Path, PathConfig, RelayConfig, TokenBucket};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    // Without privilege it runs in a user namespace; where that is refused, it is skipped.
    let _ = netlab::acquire_privilege();
    live_test::main()
}

const NAME: &str = "nothing_outlives_a_path_dropped_or_killed";

/// Set for a process that lays a path, tells about it and waits to be killed.
const TO_BE_KILLED: &str = "NETLAB_TEST_TO_BE_KILLED";

/// How long the kernel may take to tidy up.
const PATIENCE: Duration = Duration::from_secs(5);

fn lay() -> Outcome<(Path, Option<Iperf3>)> {
    let path = Path::new(&PathConfig {
        bottleneck: Bottleneck::Local(TokenBucket {
            rate: 10_000_000,
            burst: 5_000,
            limit: 50_000,
        }),
        relay: Some(RelayConfig::symmetric(Duration::from_millis(10))),
        ..PathConfig::default()
    })?;
    let competitor = match Iperf3::missing() {
        None => Some(Iperf3::start(&path, &Iperf3Config::default())?),
        Some(_) => None,
    };
    Ok((path, competitor))
}

/// The names of a path's namespaces, as the links under /proc show them.
fn namespaces(path: &Path) -> Outcome<Vec<String>> {
    let all = [Some(path.sender()), path.router(), Some(path.receiver())];
    let mut names = Vec::new();
    for namespace in all.into_iter().flatten() {
        let fd = namespace.as_fd().as_raw_fd();
        let link = fs::read_link(format!("/proc/self/fd/{fd}"))?;
        names.push(link.to_string_lossy().into_owned());
    }
    Ok(names)
}

/// The network namespaces that any process is in.
fn inhabited() -> BTreeSet<String> {
    let processes = fs::read_dir("/proc").expect("procfs is there");
    processes
        .filter_map(|entry| fs::read_link(entry.ok()?.path().join("ns/net")).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect()
}

fn become_uninhabited(names: &[String]) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let inhabited = inhabited();
        if !names.iter().any(|name| inhabited.contains(name)) {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

fn entries(directory: &str) -> usize {
    fs::read_dir(directory).expect("procfs is there").count()
}

fn threads_and_files() -> (usize, usize) {
    (entries("/proc/self/task"), entries("/proc/self/fd"))
}

#[test]
fn nothing_outlives_a_path_dropped_or_killed() -> Outcome {
    live_test::require(netlab::missing_privilege())?;
    if env::var_os(TO_BE_KILLED).is_some() {
        return wait_to_be_killed();
    }
    let before = threads_and_files();
    let laid = lay()?;
    let names = namespaces(&laid.0)?;
    assert_eq!(names.len(), 3);
    let during = threads_and_files();
    assert!(during > before);
    drop(laid);
    assert_eq!(threads_and_files(), before);
    assert!(become_uninhabited(&names));
    a_killed_process_leaves_nothing()
}

fn wait_to_be_killed() -> Outcome {
    let laid = lay()?;
    for name in namespaces(&laid.0)? {
        // A line of its own even behind the test harness's unfinished one.
        println!("\n{name}");
    }
    println!("\nready");
    thread::sleep(Duration::from_secs(60));
    Ok(())
}

fn a_killed_process_leaves_nothing() -> Outcome {
    let mut child = Command::new(env::current_exe()?)
        .args([NAME, "--exact", "--nocapture"])
        .env(TO_BE_KILLED, "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().expect("it is piped");
    let lines = BufReader::new(output).lines().map_while(Result::ok);
    let names: Vec<String> = lines
        .take_while(|line| line != "ready")
        .filter(|line| line.starts_with("net:["))
        .collect();
    let used = inhabited();
    child.kill()?;
    let status = child.wait()?;
    assert_eq!(status.signal(), Some(9), "it ended by itself: {status}");
    assert_eq!(names.len(), 3);
    if Iperf3::missing().is_none() {
        assert!(names.iter().any(|name| used.contains(name)));
    }
    assert!(become_uninhabited(&names));
    Ok(())
}
