//! The program `validate` on the running kernel: what it reports, and how it ends.
#![cfg(target_os = "linux")]

#[macro_use]
extern crate live_test;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use live_test::{Skip, TestResult};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

// Tests run one at a time: each measures the processor, and tells streams of its own from others'.
fn main() -> ExitCode {
    live_test::main()
}

fn privileged() -> Result<(), Skip> {
    live_test::require(netlab::missing_privilege())
}

/// What the program left.
#[derive(Debug)]
struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

fn run(mut command: Command, arguments: &str) -> Ended {
    let output = command
        .args(arguments.split_whitespace())
        .output()
        .expect("the program starts");
    Ended {
        status: output.status,
        stdout: String::from_utf8(output.stdout).expect("it is text"),
        stderr: String::from_utf8(output.stderr).expect("it is text"),
    }
}

fn validate() -> Command {
    Command::new(env!("CARGO_BIN_EXE_validate"))
}

/// The program without some capabilities, `setpriv` style: `-bpf,-perfmon`.
fn validate_without(capabilities: &str) -> Command {
    let mut setpriv = Command::new("setpriv");
    setpriv.args([
        format!("--bounding-set={capabilities}"),
        format!("--inh-caps={capabilities}"),
        env!("CARGO_BIN_EXE_validate").to_owned(),
    ]);
    setpriv
}

impl Ended {
    /// The one object, which is all of standard output.
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn number(report: &Value, pointer: &str) -> f64 {
    let value = report.pointer(pointer).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("no number at {pointer}: {report}"))
}

/// What every report of a finished measurement has.
fn check(ended: &Ended) -> Value {
    let report = ended.json();
    let probes = report["probes"].as_array().expect("probes are a list");
    for name in ["kfree_skb", "net_dev_queue", "sock_send_length"] {
        let probe = probes.iter().find(|probe| probe["name"] == name);
        let probe = probe.unwrap_or_else(|| panic!("{name} is missing: {report}"));
        assert_eq!(probe["attached"] == true, probe["why"].is_null(), "{probe}");
    }
    assert_eq!(number(&report, "/self_test/failed"), 0.0, "{report}");
    assert!(number(&report, "/self_test/passed") >= 3.0, "{report}");
    let median = number(&report, "/overhead_percent/median");
    assert!(number(&report, "/overhead_percent/min") <= median);
    assert!(number(&report, "/overhead_percent/max") >= median);
    assert!(number(&report, "/pairs") >= 2.0, "{report}");
    assert!(number(&report, "/loading/wall_ms") > 0.0, "{report}");
    // How the figures lie is the machine's; that the verdict follows from them is not.
    let target = number(&report, "/target_percent");
    let within = median < target;
    let sure = report["overhead_percent"]["sure"].as_array();
    let is_sure = sure.is_some_and(|ends| {
        let mut ends = ends.iter().filter_map(Value::as_f64);
        ends.all(|end| (end < target) == within)
    });
    let (verdict, code) = match (is_sure, within) {
        (false, _) => ("inconclusive", 2),
        (true, true) => ("passed", 0),
        (true, false) => ("failed", 1),
    };
    assert_eq!(report["verdict"], verdict, "{report}");
    assert_eq!(ended.status.code(), Some(code), "{report}");
    report
}

/// The kernel's account names every program that is attached.
fn check_programs(report: &Value) {
    let programs = report["programs"].as_array().expect("programs are a list");
    let attached = report["probes"].as_array().expect("probes are a list");
    // Names of reasons come from no program.
    let attached = attached
        .iter()
        .filter(|probe| probe["attached"] == true && probe["name"] != "skb_drop_reason");
    for probe in attached {
        let program = programs.iter().find(|run| run["name"] == probe["name"]);
        let program = program.unwrap_or_else(|| panic!("{probe} is not accounted: {report}"));
        assert!(program["runs_per_s"].is_number(), "{program}");
    }
    let percent = number(report, "/bpf_percent");
    assert!((0.0..100.0).contains(&percent), "{report}");
    assert!(report["bpf_why"].is_null(), "{report}");
}

#[test]
fn a_host_is_watched_as_it_is() -> TestResult {
    privileged()?;
    // Eight pairs are the fewest of which anything is sure.
    let ended = run(
        validate(),
        "--load none --seconds 10 --period 0.1 --target 100 --json",
    );
    let report = check(&ended);
    if number(&report, "/pairs") >= 8.0 {
        assert_eq!(report["verdict"], "passed", "{report}");
    }
    check_programs(&report);
    assert!(report["overhead_percent_of_load"].is_null(), "{report}");
    assert!(ended.stderr.contains("Events:"), "lines are for people");
    Ok(())
}

#[test]
fn a_load_of_iperf3_is_measured_by_its_work() -> TestResult {
    privileged()?;
    live_test::require_program("iperf3")?;
    let ended = run(
        validate(),
        "--load iperf3 --seconds 2 --period 0.4 --target 100 --json",
    );
    let report = check(&ended);
    check_programs(&report);
    assert!(number(&report, "/load_mbps") > 10.0, "{report}");
    assert!(number(&report, "/bpf_percent_of_load") > 0.0, "{report}");
    let sends = report["programs"].as_array().expect("programs are a list");
    let sends = sends.iter().find(|run| run["name"] == "net_dev_queue");
    let runs = sends.and_then(|run| run["runs_per_s"].as_f64());
    assert!(
        runs.expect("it is attached on every kernel") > 100.0,
        "{report}"
    );
    Ok(())
}

#[test]
fn too_short_a_measurement_is_inconclusive() -> TestResult {
    privileged()?;
    let ended = run(validate(), "--seconds 1 --period 0.1 --json");
    let report = check(&ended);
    assert_eq!(report["verdict"], "inconclusive", "{report}");
    assert_eq!(ended.status.code(), Some(2));
    assert!(
        ended.stderr.contains("less than 95% confidence"),
        "{ended:?}"
    );
    Ok(())
}

#[test]
fn a_missed_target_is_told_by_the_exit_code() -> TestResult {
    privileged()?;
    let ended = run(
        validate(),
        "--seconds 2 --period 0.4 --target 0.000001 --json",
    );
    // An idle host can come out under any target: the verdict only has to follow.
    check(&ended);
    Ok(())
}

#[test]
fn an_interrupt_ends_it_with_the_verdict_of_what_was_measured() -> TestResult {
    privileged()?;
    let mut child = validate()
        .args(["--period", "0.2", "--seconds", "600", "--target", "100"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    while !line.contains("overhead:") || line.contains("overhead: -") {
        line.clear();
        let length = stdout.read_line(&mut line).expect("it is text");
        assert!(length > 0, "it ended before a pair was measured");
    }
    let id = i32::try_from(child.id()).expect("an id fits");
    kill(Pid::from_raw(id), Signal::SIGINT).expect("it runs");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("it is text");
    let status = child.wait().expect("it is our child");
    // Too few pairs to be sure of anything.
    assert!(
        rest.contains("Verdict: inconclusive, interrupted"),
        "{rest}"
    );
    assert_eq!(status.code(), Some(2));
    Ok(())
}

#[test]
fn an_interrupt_ends_the_load_too() -> TestResult {
    privileged()?;
    live_test::require_program("iperf3")?;
    let mut child = validate()
        .args(["--load", "iperf3", "--seconds", "600"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    while !line.contains("Events:") {
        line.clear();
        let length = stdout.read_line(&mut line).expect("it is text");
        assert!(length > 0, "it ended before anything was measured");
    }
    let parent = child.id();
    let load: Vec<String> = std::fs::read_dir("/proc")
        .expect("procfs is there")
        .filter_map(|entry| entry.ok()?.path().to_str().map(str::to_owned))
        .filter(|process| is_child(process, parent))
        .collect();
    assert_eq!(load.len(), 2, "a server and a client: {load:?}");
    let id = i32::try_from(parent).expect("an id fits");
    kill(Pid::from_raw(id), Signal::SIGINT).expect("it runs");
    stdout
        .read_to_string(&mut String::new())
        .expect("it is text");
    child.wait().expect("it is our child");
    for process in load {
        assert!(!is_iperf3(&process), "{process} is left behind");
    }
    Ok(())
}

fn is_iperf3(process: &str) -> bool {
    std::fs::read_to_string(format!("{process}/comm")).is_ok_and(|name| name.trim() == "iperf3")
}

fn is_child(process: &str, parent: u32) -> bool {
    let status = std::fs::read_to_string(format!("{process}/status")).unwrap_or_default();
    is_iperf3(process) && status.contains(&format!("PPid:\t{parent}\n"))
}

#[test]
fn an_interrupt_before_anything_is_compared_is_no_verdict() -> TestResult {
    privileged()?;
    let mut child = validate()
        .args(["--seconds", "600"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("it is text");
    let id = i32::try_from(child.id()).expect("an id fits");
    kill(Pid::from_raw(id), Signal::SIGTERM).expect("it runs");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("it is text");
    assert!(rest.contains("Verdict: not measured"), "{rest}");
    assert_eq!(child.wait().expect("it is our child").code(), Some(2));
    Ok(())
}

#[test]
fn without_cap_sys_admin_the_kernels_account_is_absent_and_says_why() -> TestResult {
    privileged()?;
    let ended = run(
        validate_without("-sys_admin"),
        "--seconds 1 --period 0.3 --target 100 --json",
    );
    let report = check(&ended);
    assert!(report["bpf_percent"].is_null(), "{report}");
    let why = report["bpf_why"].as_str().expect("a reason is given");
    assert!(why.contains("CAP_SYS_ADMIN"), "{why}");
    // No namespace can be made either.
    assert!(number(&report, "/self_test/skipped") >= 3.0, "{report}");
    Ok(())
}

#[test]
fn without_privilege_it_says_which_and_how_to_give_it() {
    let privileged = ebpf_congestion_signals::EbpfSource::load().is_ok();
    let command = if privileged {
        validate_without("-bpf,-perfmon,-sys_admin")
    } else {
        validate()
    };
    let ended = run(command, "--json");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert_eq!(ended.stdout, "", "nothing was measured");
    for part in ["not permitted", "CAP_BPF", "CAP_PERFMON", "setcap"] {
        assert!(ended.stderr.contains(part), "{part}: {ended:?}");
    }
}

#[test]
fn a_missing_iperf3_is_named_with_what_to_install() -> TestResult {
    privileged()?;
    let mut command = validate();
    command.env("PATH", "/nonexistent");
    let ended = run(command, "--load iperf3 --json");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    for part in ["no iperf3", "apt-get install iperf3", "--load none"] {
        assert!(ended.stderr.contains(part), "{part}: {ended:?}");
    }
    Ok(())
}

#[test]
fn wrong_arguments_are_refused_before_anything_is_loaded() {
    for (wrong, advice) in [
        ("--load flood", "iperf3"),
        ("--seconds -1", "give 0.1 to 86400 seconds"),
        ("--target 0", "more than 0"),
        ("--target -1", "more than 0"),
        ("--unknown", "unexpected argument"),
    ] {
        let ended = run(validate(), wrong);
        assert_eq!(ended.status.code(), Some(2), "{wrong}: {ended:?}");
        for part in [advice, "--help"] {
            assert!(ended.stderr.contains(part), "{part}: {wrong}: {ended:?}");
        }
    }
}
