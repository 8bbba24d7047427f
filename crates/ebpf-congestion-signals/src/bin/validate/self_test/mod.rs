//! Whether counts are right: known traffic, held against counts that no probe has made.

mod buffers;
mod drops;
mod queue;
mod sends;
mod softirq;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ebpf_congestion_signals::{EbpfSource, SignalSource};
use serde::Serialize;

use crate::error::with_causes;
use crate::output::Output;

/// What came of one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// One test, as the report has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct TestReport {
    name: &'static str,
    outcome: Outcome,
    /// What was counted, what is wrong, or why it could not be tried.
    detail: String,
}

/// All tests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SelfTestReport {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    tests: Vec<TestReport>,
}

/// Why a test does not pass.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// It cannot be tried here.
    Skip(String),
    /// A count is wrong, or the test itself did not work.
    Fail(String),
}

/// What was counted.
type TestResult = Result<String, Stop>;

impl<E: std::error::Error + 'static> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Fail(with_causes(&error))
    }
}

/// Runs every test.
pub(crate) async fn run(source: &EbpfSource, output: Output) -> SelfTestReport {
    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
    output.say("");
    output.say("Self-test");
    let mut report = SelfTestReport::default();
    let mut add = |name, result| {
        let test = report.add(name, result);
        output.say(&format!(
            "  {:<8}  {name:<20} {}",
            test.outcome.name(),
            test.detail
        ));
    };
    add("udp4_sends", sends::udp(source, V4));
    add("udp6_sends", sends::udp(source, V6));
    add("udp4_batches", sends::batches(source, V4));
    add("udp6_batches", sends::batches(source, V6));
    add("tcp4_sends", sends::tcp(source, V4));
    add("tcp6_sends", sends::tcp(source, V6));
    add("send_buffer", buffers::tcp_send_buffer(source));
    add("receive_overflow4", drops::receive_overflow(source, V4));
    add("receive_overflow6", drops::receive_overflow(source, V6));
    add("drop_events", drops::events(source).await);
    add("softirq_runs", softirq::runs(source));
    add("queue_drops", queue::drops(source));
    add("queue_backlog", queue::backlog(source));
    add("queue_send_buffer", queue::send_buffer(source));
    report
}

impl SelfTestReport {
    fn add(&mut self, name: &'static str, result: TestResult) -> &TestReport {
        let (count, outcome, detail) = match result {
            Ok(detail) => (&mut self.passed, Outcome::Passed, detail),
            Err(Stop::Fail(why)) => (&mut self.failed, Outcome::Failed, why),
            Err(Stop::Skip(why)) => (&mut self.skipped, Outcome::Skipped, why),
        };
        *count += 1;
        self.tests.push(TestReport {
            name,
            outcome,
            detail,
        });
        &self.tests[self.tests.len() - 1]
    }
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// Where a kernel lacks the first, it may have the second, which gives the same.
const STAND_INS: [(&str, &str); 2] = [
    ("sock_send_length", "udp_sendmsg"),
    ("sock_recv_length", "udp_recvmsg"),
];

/// Skips a test whose probe is not attached.
fn needs(source: &EbpfSource, probe: &str) -> Result<(), Stop> {
    let capabilities = source.capabilities();
    let missing = |name| {
        let capability = capabilities.iter().find(|known| known.name == name);
        capability.map(|known| &known.missing)
    };
    let stand_in = STAND_INS.iter().find(|(first, _)| *first == probe);
    if stand_in.is_some_and(|(_, second)| missing(*second) == Some(&None)) {
        return Ok(());
    }
    match missing(probe) {
        Some(None) => Ok(()),
        Some(Some(why)) => Err(Stop::Skip(format!("{probe} is not attached: {why}"))),
        None => Err(Stop::Fail(format!("no probe is called {probe}"))),
    }
}

/// Whether a probe is attached on which a part of a test rests.
fn has(source: &EbpfSource, probe: &str) -> bool {
    needs(source, probe).is_ok()
}

/// Fails a test whose count is not what it should be.
fn equal(what: &str, counted: u64, expected: u64) -> Result<(), Stop> {
    if counted == expected {
        Ok(())
    } else {
        Err(Stop::Fail(format!(
            "{what}: counted {counted} instead of {expected}"
        )))
    }
}

/// What a socket of this family is bound to; skips where the host has no such address.
fn bound<S>(address: IpAddr, socket: std::io::Result<S>) -> Result<S, Stop> {
    socket.map_err(|error| {
        let why = format!("no socket can be bound to {address}: {error}");
        if address.is_ipv6() {
            Stop::Skip(why)
        } else {
            Stop::Fail(why)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_by_kind() {
        let mut report = SelfTestReport::default();
        report.add("a", Ok("all".to_owned()));
        report.add("b", Err(Stop::Skip("no".to_owned())));
        report.add("c", equal("bytes", 1, 2).map(|()| String::new()));
        assert_eq!((report.passed, report.failed, report.skipped), (1, 1, 1));
        assert_eq!(report.tests[2].detail, "bytes: counted 1 instead of 2");
    }
}
