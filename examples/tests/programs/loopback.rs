use std::process::Command;

use live_test::TestResult;

use crate::process::{Running, command, program, run, with};
use crate::report::{check, number, refused, require_probes, text};

#[test]
fn a_report_has_every_field() {
    let ended = run(command("loopback", "--plain --seconds 1 --flows 2 --json"));
    let report = ended.json();
    check(&report, 2);
    assert_eq!(text(&report, "/base"), "cubic");
    let asked_for = number(&report, "/seconds");
    assert!((0.9..2.0).contains(&asked_for), "{report}");
    // Tables are for people; the heading and a line of the first second.
    assert!(ended.stdout.contains("softirq"), "{}", ended.stdout);
    match refused() {
        None => {
            assert_eq!(text(&report, "/source"), "ebpf");
            assert_eq!(text(&report, "/governor"), "on");
        }
        Some(why) => {
            assert_eq!(text(&report, "/source"), "socket");
            live_test::note(why);
        }
    }
}

#[test]
fn without_privilege_it_asks_its_socket_and_says_why() {
    let limits = "--bounding-set=-bpf,-perfmon,-sys_admin --inh-caps=-bpf,-perfmon,-sys_admin";
    let privileged = ebpf_congestion_signals::EbpfSource::load().is_ok();
    let mut unprivileged = if privileged {
        let mut setpriv = with(Command::new("setpriv"), limits);
        setpriv.arg(program("loopback")).arg("--plain");
        setpriv
    } else {
        command("loopback", "--plain")
    };
    unprivileged.args(["--seconds", "1", "--json"]);
    let ended = run(unprivileged);
    let report = ended.json();
    check(&report, 1);
    assert_eq!(text(&report, "/source"), "socket");
    assert_eq!(text(&report, "/governor"), "on");
    let notice = ended.stdout.lines().next().expect("it begins with it");
    for part in [
        "socket",
        "not permitted",
        "CAP_BPF",
        "CAP_PERFMON",
        "setcap",
    ] {
        assert!(notice.contains(part), "{part}: {notice}");
    }
}

#[test]
fn demanded_probes_that_cannot_be_had_are_an_error() {
    let privileged = ebpf_congestion_signals::EbpfSource::load().is_ok();
    let mut demanding = if privileged {
        let mut setpriv = with(
            Command::new("setpriv"),
            "--bounding-set=-bpf,-sys_admin --inh-caps=-bpf,-sys_admin",
        );
        setpriv.arg(program("loopback")).arg("--plain");
        setpriv
    } else {
        command("loopback", "--plain")
    };
    demanding.args(["--source", "ebpf"]);
    let ended = run(demanding);
    assert!(ended.complaint().contains("CAP_BPF"), "{ended:?}");
}

#[test]
fn a_flow_that_is_not_governed_is_watched() -> TestResult {
    require_probes()?;
    let options = "--plain --seconds 1 --governor off --source ebpf --json";
    let report = run(command("loopback", options)).json();
    check(&report, 1);
    assert_eq!(text(&report, "/governor"), "off");
    assert_eq!(number(&report, "/governor_actions/capped_ms"), 0.0);
    Ok(())
}

#[test]
fn every_base_can_be_governed() {
    for base in ["cubic", "newreno", "bbr"] {
        let options = format!("--plain --seconds 0.5 --base {base} --json");
        let report = run(command("loopback", &options)).json();
        check(&report, 1);
        assert_eq!(text(&report, "/base"), base);
    }
}

#[test]
fn an_invented_drop_makes_the_governor_reduce() {
    let options = "--plain --seconds 2.5 --source mock --json";
    let report = run(command("loopback", options)).json();
    check(&report, 1);
    assert_eq!(text(&report, "/source"), "mock");
    assert_eq!(number(&report, "/signals/drop_packets"), 2.0);
    assert_eq!(number(&report, "/signals/drops_by_reason/QDISC_DROP"), 2.0);
    let reductions = number(&report, "/governor_actions/local_drop_reductions");
    assert!((1.0..=2.0).contains(&reductions), "{report}");
}

#[test]
fn an_interrupt_ends_it_with_what_was_measured_so_far() {
    let mut running = Running::start(command("loopback", "--plain --seconds 60 --json"));
    running.wait_for("1 s");
    running.interrupt();
    let ended = running.end();
    let report = ended.json();
    check(&report, 1);
    assert!(number(&report, "/seconds") < 30.0, "{report}");
    assert!(ended.stdout.contains("interrupted"), "{}", ended.stdout);
}
