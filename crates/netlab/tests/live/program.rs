use std::time::{Duration, Instant};

use netlab::{Namespace, Process};

use crate::{TestResult, privileged};

fn wait_for_end(process: &Process) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !process.has_ended() {
        assert!(Instant::now() < deadline, "{} runs on", process.command());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_a_program_said_and_how_it_ended_is_told() -> TestResult {
    privileged()?;
    live_test::require_program("ip")?;
    let namespace = Namespace::new()?;
    let listed = Process::start(&namespace, "ip", "-o link")?;
    wait_for_end(&listed);
    assert!(listed.status()?.is_some_and(|status| status.success()));
    // Asked again, the answer is the same.
    assert!(listed.status()?.is_some_and(|status| status.success()));
    // It ran where there is nothing but loopback.
    let output = listed.output()?;
    assert!(output.contains("lo:"), "{output}");
    assert_eq!(output.lines().count(), 1, "{output}");

    let wrong = Process::start(&namespace, "ip", "no-such-object")?;
    wait_for_end(&wrong);
    assert!(wrong.status()?.is_some_and(|status| !status.success()));
    let complaint = wrong.complaint()?;
    assert!(complaint.contains("no-such-object"), "{complaint}");
    assert!(Process::start(&namespace, "/no/such/program", "").is_err());
    Ok(())
}

#[test]
fn a_program_is_read_while_it_runs_and_killed_when_dropped() -> TestResult {
    privileged()?;
    live_test::require_program("ip")?;
    let namespace = Namespace::new()?;
    let running = Process::start(&namespace, "ip", "monitor link")?;
    let deadline = Instant::now() + Duration::from_secs(10);
    for mtu in (1300..).map(|mtu: u32| mtu.to_string()) {
        // It reports changes since it began to listen.
        let mut change = namespace.command("ip");
        change
            .args(["link", "set", "dev", "lo", "mtu", &mtu])
            .status()?;
        if running.output()?.contains("mtu") {
            break;
        }
        assert!(Instant::now() < deadline, "{}", running.complaint()?);
    }
    assert_eq!(running.status()?, None);
    let began = Instant::now();
    drop(running);
    assert!(began.elapsed() < Duration::from_secs(5));
    Ok(())
}
