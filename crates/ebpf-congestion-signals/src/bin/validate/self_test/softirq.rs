//! Softirqs of the network, under a flood over loopback.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{EbpfSource, SignalSource, SoftirqSample};

use super::{Stop, TestResult, needs};

const FILE: &str = "/proc/softirqs";

/// Handlers ran as often as the kernel's own table says, and for less than all CPUs have.
pub(super) fn runs(source: &EbpfSource) -> TestResult {
    const FLOOD: Duration = Duration::from_millis(200);
    needs(source, "softirq_entry")?;
    needs(source, "softirq_exit")?;
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let sample = || source.host().softirq.unwrap_or_default();

    // Samples around and within the readings of the table: the host goes on meanwhile.
    let start = Instant::now();
    let outer = sample();
    let (table, cpus) = table()?;
    let inner = sample();
    while start.elapsed() < FLOOD {
        for _ in 0..100 {
            sender.send_to(&[7; 1000], sink.local_addr()?)?;
        }
    }
    let inner = since(sample(), inner);
    let table = self::table()?.0 - table;
    let outer = since(sample(), outer);
    let available = start.elapsed() * cpus;

    // A handler is counted when it ends, and in the table before it begins: one of each CPU may
    // run at either end.
    let running = 2 * u64::from(cpus);
    if inner.runs > table + running || outer.runs + running < table {
        return Err(Stop::Fail(format!(
            "counted {} to {} runs, but {FILE} says {table}",
            inner.runs, outer.runs
        )));
    }
    let time = outer.net_rx + outer.net_tx;
    if time.is_zero() || time >= available {
        return Err(Stop::Fail(format!(
            "{time:?} in softirqs of {available:?} that the CPUs had"
        )));
    }
    let wait = outer.mean_wait_since(&SoftirqSample::default());
    Ok(format!(
        "{} runs, {FILE} says {table}; wait {}; {:.1} ms of {:.0} ms that the CPUs had",
        outer.runs,
        wait.map_or_else(|| "-".to_owned(), |wait| format!("{wait:.1?}")),
        1e3 * time.as_secs_f64(),
        1e3 * available.as_secs_f64()
    ))
}

fn since(later: SoftirqSample, earlier: SoftirqSample) -> SoftirqSample {
    SoftirqSample {
        net_rx: later.net_rx.saturating_sub(earlier.net_rx),
        net_tx: later.net_tx.saturating_sub(earlier.net_tx),
        runs: later.runs - earlier.runs,
        wait: later.wait.saturating_sub(earlier.wait),
        waits: later.waits - earlier.waits,
        polls_elsewhere: later.polls_elsewhere - earlier.polls_elsewhere,
    }
}

/// Runs of the network's softirqs so far, and how many CPUs the table has.
fn table() -> Result<(u64, u32), Stop> {
    let text = fs::read_to_string(FILE)?;
    parse(&text).ok_or_else(|| Stop::Fail(format!("{FILE} does not read as expected")))
}

fn parse(text: &str) -> Option<(u64, u32)> {
    let cpus = text.lines().next()?.split_whitespace().count();
    let mut runs = 0;
    for name in ["NET_TX:", "NET_RX:"] {
        let mut lines = text.lines().map(str::trim_start);
        let line = lines.find_map(|line| line.strip_prefix(name))?;
        for count in line.split_whitespace() {
            runs += count.parse::<u64>().ok()?;
        }
    }
    Some((runs, u32::try_from(cpus).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_of_the_networks_softirqs_are_summed_up_over_cpus() {
        let text = "                    CPU0       CPU1\n          HI:          1          2\n      \
                    NET_TX:         10         20\n      NET_RX:        300        400\n";
        assert_eq!(parse(text), Some((730, 2)));
        assert_eq!(parse("CPU0\nNET_TX: 1\n"), None);
    }
}
