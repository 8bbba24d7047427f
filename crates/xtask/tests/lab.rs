//! The lab as its users run it: as a program that leaves nothing behind.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that fails shows where")]

#[macro_use]
extern crate live_test;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use live_test::TestResult;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// How long something may take that should happen at once; building the examples may come first.
const PATIENCE: Duration = Duration::from_secs(300);

/// The environment variable by which programs that the lab starts are found.
const MARK: &str = "LAB_TEST_MARK";

// Tests run one at a time: they measure.
fn main() -> ExitCode {
    live_test::main()
}

/// A lab that runs in a directory of its own; killed if it is dropped.
struct Lab {
    child: Child,
    mark: String,
    /// For its temporary files, which must be gone at the end.
    scratch: TempDir,
    out: TempDir,
}

impl Lab {
    fn start(name: &str, options: &str) -> Self {
        let (scratch, out) = (directory(), directory());
        let mark = format!("{name}-{}", std::process::id());
        let child = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .arg("lab")
            .args(options.split_whitespace())
            .arg("--out")
            .arg(out.path())
            .env(MARK, &mark)
            .env("TMPDIR", scratch.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        Self {
            child,
            mark,
            scratch,
            out,
        }
    }

    /// Command lines of the processes that are there because of this lab, itself included.
    fn processes(&self) -> Vec<String> {
        let mark = format!("{MARK}={}", self.mark);
        let holds_mark = |process: &Path| {
            let environment = fs::read(process.join("environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == mark.as_bytes())
        };
        let processes = fs::read_dir("/proc").expect("procfs is there");
        let paths = processes.filter_map(|entry| Some(entry.ok()?.path()));
        paths
            .filter(|process| holds_mark(process))
            .filter_map(|process| fs::read_to_string(process.join("cmdline")).ok())
            .collect()
    }

    fn wait_for_client(&self) {
        let there = || {
            let processes = self.processes();
            processes
                .iter()
                .any(|line| line.contains("examples/client") && !line.contains("--burst"))
        };
        assert!(wait_until(there), "no client was started");
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("an id fits");
        kill(Pid::from_raw(id), signal).expect("it runs");
    }

    /// Waits for its end. Its programs must be gone then.
    fn end(&mut self) -> (ExitStatus, String) {
        let mut stdout = self.child.stdout.take().expect("it is piped");
        let mut said = String::new();
        stdout.read_to_string(&mut said).expect("it is text");
        let status = self.child.wait().expect("it is our child");
        let gone = wait_until(|| self.processes().is_empty());
        assert!(gone, "left behind: {:?}", self.processes());
        (status, said)
    }

    fn scratch_is_empty(&self) -> bool {
        let mut files = fs::read_dir(self.scratch.path()).expect("it is there");
        files.next().is_none()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("there is room")
}

fn wait_until(is_so: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if is_so() {
            return true;
        }
        thread::sleep(Duration::from_millis(50));
    }
    false
}

#[test]
fn a_local_queue_is_measured_and_nothing_remains() -> TestResult {
    let test = "a_local_queue_is_measured_and_nothing_remains";
    live_test::require(netlab::missing_privilege())?;
    let mut lab = Lab::start(test, "local-queue --seconds 2 --rounds 1 --json");
    let (status, said) = lab.end();
    assert!(status.success(), "{said}");
    assert!(lab.scratch_is_empty());
    let report: Value = serde_json::from_str(&said).unwrap();
    let scenario = &report["scenarios"][0];
    assert_eq!(scenario["name"], "local-queue");
    assert_eq!(scenario["runs"].as_array().unwrap().len(), 2);
    let figure = |figure: &str, side: &str| {
        let median = &scenario["figures"][figure][side]["median"];
        median
            .as_f64()
            .unwrap_or_else(|| panic!("{figure}: {scenario}"))
    };
    for side in ["stock", "governed"] {
        // The machine may be busy; twice the rate it cannot be.
        let goodput = figure("goodput_mbps", side);
        assert!((5.0..60.0).contains(&goodput), "{side} {goodput}");
        assert!(figure("rtt_p50_ms", side) >= 19.0, "{scenario}");
    }
    assert!(figure("capped_seconds", "governed") > 0.0, "{scenario}");
    assert!(scenario["idle_ms"].as_f64().unwrap() >= 19.0);
    let checks = scenario["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 5);
    assert!(checks.iter().all(|check| check["holds"].is_boolean()));
    assert!(report["load_average"].as_f64().unwrap() >= 0.0);

    let saved = fs::read_to_string(lab.out.path().join("lab.json")).unwrap();
    assert_eq!(saved.trim(), said.trim());
    let plot = fs::read_to_string(lab.out.path().join("local-queue.svg")).unwrap();
    assert!(plot.contains("round trip, ms: governed"));
    Ok(())
}

#[test]
fn an_interrupted_lab_leaves_nothing() -> TestResult {
    let test = "an_interrupted_lab_leaves_nothing";
    live_test::require(netlab::missing_privilege())?;
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let mut lab = Lab::start(test, "local-queue --seconds 60 --rounds 1");
        lab.wait_for_client();
        let began = Instant::now();
        lab.signal(signal);
        let (status, said) = lab.end();
        assert!(began.elapsed() < Duration::from_secs(20), "{signal}");
        let code = (signal != Signal::SIGKILL).then_some(130);
        assert_eq!(status.code(), code, "{signal}: {said}");
        // A killed process cannot remove its files.
        assert!(code.is_none() || lab.scratch_is_empty(), "{signal}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_run_is_named_with_what_can() {
    for (options, advice) in [
        ("deep-blue", "there are: all, local-queue"),
        ("local-queue --rate 0", "give 0.5 to 2000 Mbit/s"),
        ("local-queue --base reno", "cubic, newreno, bbr"),
        ("", "NAMES"),
    ] {
        let mut lab = Command::new(env!("CARGO_BIN_EXE_xtask"));
        let output = lab.arg("lab").args(options.split_whitespace()).output();
        let output = output.unwrap();
        assert!(!output.status.success(), "{options}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(advice), "{options}: {said}");
    }
}

#[test]
fn every_scenario_is_listed_with_what_must_hold() {
    let mut lab = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let output = lab.args(["lab", "--list"]).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    for name in [
        "local-queue:",
        "beside-tcp:",
        "fifty-peers:",
        "app-limited:",
    ] {
        assert!(said.contains(name), "{name} {said}");
    }
    assert!(said.contains("governed by stock: at most 0.01"), "{said}");
}
