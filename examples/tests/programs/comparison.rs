//! What a newcomer runs first: `loopback` without options, but for a shorter time.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use live_test::TestResult;
use serde_json::Value;

use crate::process::{Ended, command, program, run};
use crate::report::{check, number, require_probes, text};

/// What both senders and the network report, checked for what is true on any machine.
fn check_comparison(ended: &Ended) -> Value {
    let comparison = ended.json();
    for (side, governor) in [("stock", "off"), ("governed", "on")] {
        let report = &comparison[side];
        check(report, 1);
        assert_eq!(text(report, "/governor"), governor);
        assert_eq!(report["source"], comparison["source"]);
    }
    for part in [
        "packets lost",
        "round trip over idle",
        "goodput",
        "stock  ",
        "governed",
    ] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    comparison
}

/// Asserts that a queue dropped stock's packets and next to none of the governed sender's.
fn check_uplink(comparison: &Value) {
    assert_eq!(text(comparison, "/network"), "uplink");
    let of = |side: &str, figure: &str| number(comparison, &format!("/{side}/{figure}"));
    let (stock, governed) = (of("stock", "lost_packets"), of("governed", "lost_packets"));
    assert!(stock > 0.0, "the queue never overflowed: {comparison}");
    assert!(governed <= stock / 10.0, "{comparison}");
    // What did not arrive behind the queue is what the sender missed. A sender that gets no
    // processor for a while takes late packets for lost ones beside them.
    let dropped = of("summary/stock", "dropped_by_queue");
    assert!(
        dropped <= 1.1 * stock && dropped >= 0.75 * stock,
        "{comparison}"
    );
    // 150 kB at 50 Mbit/s are 24 ms.
    assert!(
        of("summary/stock", "backlog_max") <= 150_000.0,
        "{comparison}"
    );
    assert!(
        of("summary/stock", "backlog_max") > 100_000.0,
        "{comparison}"
    );
    let round_trip = |side: &str| of(&format!("summary/{side}"), "rtt_p50_over_idle_us");
    assert!(round_trip("governed") < round_trip("stock"), "{comparison}");
    // The path's 20 ms, less what quinn's reading of the clock can be off.
    let idle = number(comparison, "/idle_rtt_us");
    assert!((15_000.0..30_000.0).contains(&idle), "{comparison}");
    assert!(
        of("summary/governed/governor", "capped") > 0.0,
        "{comparison}"
    );
}

/// A command that runs `loopback` as a user who may not load probes.
fn unprivileged(arguments: &str) -> Command {
    let mut setpriv = Command::new("setpriv");
    setpriv
        .args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"])
        .arg(program("loopback"))
        .args(arguments.split_whitespace());
    setpriv
}

/// Runs a comparison without privilege; the test is skipped where only root may make namespaces.
fn compare_in_user_namespace(arguments: &str) -> Result<Ended, live_test::Skip> {
    live_test::require_program("setpriv")?;
    let ended = run(unprivileged(arguments));
    let path = ended.stdout.lines().nth(1).unwrap_or_default();
    live_test::require(path.contains("loopback alone").then_some(path))?;
    Ok(ended)
}

#[test]
fn with_probes_a_governed_sender_loses_a_tenth_of_what_a_stock_one_does() -> TestResult {
    require_probes()?;
    live_test::require(netlab::missing_privilege())?;
    let began = Instant::now();
    let ended = run(command("loopback", "--seconds 3 --json"));
    // Six seconds of sending; what a newcomer waits for is not much more.
    assert!(began.elapsed() < Duration::from_secs(20));
    let comparison = check_comparison(&ended);
    assert_eq!(text(&comparison, "/source"), "ebpf");
    check_uplink(&comparison);
    // The kernel named the place of stock's losses.
    let named = number(&comparison, "/stock/signals/drops_by_reason/QDISC_DROP");
    let dropped = number(&comparison, "/summary/stock/dropped_by_queue");
    assert!((named - dropped).abs() <= 0.02 * dropped, "{comparison}");
    Ok(())
}

#[test]
fn as_anybody_a_governed_sender_loses_a_tenth_of_what_a_stock_one_does() -> TestResult {
    let ended = compare_in_user_namespace("--seconds 3 --json")?;
    let comparison = check_comparison(&ended);
    assert_eq!(text(&comparison, "/source"), "socket");
    check_uplink(&comparison);
    let notice = ended.stdout.lines().next().unwrap_or_default();
    for part in ["socket", "probes in the kernel would add", "CAP_BPF"] {
        assert!(notice.contains(part), "{part}: {notice}");
    }
    Ok(())
}

#[test]
fn where_namespaces_are_refused_it_says_so_and_governs_the_receiver() -> TestResult {
    // In a user namespace of its own, where no more can be made. Nothing of the host is changed.
    const REFUSING: &str = "echo 0 >/proc/sys/user/max_user_namespaces
        echo 0 >/proc/sys/user/max_net_namespaces
        exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs \"$@\"";
    live_test::require_program("unshare")?;
    live_test::require_program("setpriv")?;
    let inside = |script: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "sh", "-c", script, "sh"]);
        unshare
    };
    let refused = inside("true").output()?;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    live_test::require((!refused.status.success()).then_some(why))?;
    let mut loopback = inside(REFUSING);
    loopback
        .arg(program("loopback"))
        .args(["--seconds", "4", "--json"]);
    let ended = run(loopback);
    let path = ended.stdout.lines().nth(1).unwrap_or_default();
    for part in [
        "loopback alone",
        "user namespace",
        "user.max_user_namespaces",
    ] {
        assert!(path.contains(part), "{part}: {path}");
    }
    let comparison = ended.json();
    assert_eq!(text(&comparison, "/network"), "loopback");
    assert!(comparison["summary"]["stock"]["dropped_by_queue"].is_null());
    // The sender is stock both times.
    for side in ["stock", "governed"] {
        check(&comparison[side], 1);
        assert_eq!(text(&comparison, &format!("/{side}/governor")), "off");
    }
    Ok(())
}

#[test]
fn a_picture_has_both_senders() -> TestResult {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("picture.svg");
    let mut loopback = command(
        "loopback",
        "--seconds 0.5 --rate 10 --queue 40000 --rtt 10 --svg",
    );
    loopback.arg(&file);
    let ended = run(loopback);
    assert!(ended.status.success(), "{ended:?}");
    let picture = std::fs::read_to_string(file)?;
    assert!(picture.starts_with("<svg"));
    for part in ["stock", "governed", "round trip, ms"] {
        assert!(picture.contains(part), "{part}");
    }
    Ok(())
}

#[test]
fn a_pipe_that_is_closed_ends_it_quietly() -> TestResult {
    for arguments in ["--seconds 5", "--plain --seconds 5"] {
        let mut child = command("loopback", arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or("it is piped")?);
        stdout.read_line(&mut String::new())?;
        drop(stdout);
        let began = Instant::now();
        let output = child.wait_with_output()?;
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stderr)?, "");
        assert!(began.elapsed() < Duration::from_secs(5), "{arguments}");
    }
    Ok(())
}
