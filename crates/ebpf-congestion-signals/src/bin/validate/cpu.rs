//! Processor time: of a load's processes, to the nanosecond, or of the whole host, in ticks.

use std::fs;
use std::time::Duration;

use ebpf_congestion_signals::btf::Btf;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::error::ValidateError;

const STAT: &str = "/proc/stat";

/// What processor time is taken of.
#[derive(Debug)]
pub(crate) enum Meter {
    /// All that this host does.
    Host,
    /// Some processes, and what the kernel does for their packets.
    Processes(Processes),
}

#[derive(Debug)]
pub(crate) struct Processes {
    /// The processes, and the kernel's own threads for softirqs.
    clocks: Vec<(u32, ClockId)>,
    /// Whether the kernel excludes softirqs from the time of the processes that they interrupt, so
    /// that they must be added.
    softirqs_apart: bool,
}

impl Meter {
    /// Of processes by their ids.
    pub(crate) fn of_processes(ids: &[u32]) -> Result<Self, ValidateError> {
        let mut clocks = Vec::new();
        for id in ids.iter().copied().chain(softirq_threads()) {
            let of = Pid::from_raw(i32::try_from(id).unwrap_or(i32::MAX));
            let clock = clock_getcpuclockid(of).map_err(|error| ValidateError::Clock {
                process: id,
                source: error.into(),
            })?;
            clocks.push((id, clock));
        }
        Ok(Self::Processes(Processes {
            clocks,
            softirqs_apart: softirqs_are_accounted_apart(),
        }))
    }

    /// Processor time taken so far.
    pub(crate) fn read(&self) -> Result<Duration, ValidateError> {
        match self {
            Self::Host => Ok(Stat::read()?.busy),
            Self::Processes(Processes {
                clocks,
                softirqs_apart,
            }) => {
                let mut sum = if *softirqs_apart {
                    Stat::read()?.softirq
                } else {
                    Duration::ZERO
                };
                for (process, clock) in clocks {
                    let time = clock.now().map_err(|error| ValidateError::Clock {
                        process: *process,
                        source: error.into(),
                    })?;
                    sum += Duration::from(time);
                }
                Ok(sum)
            }
        }
    }
}

/// Processor time that this process itself has taken so far.
pub(crate) fn own() -> Duration {
    ClockId::CLOCK_PROCESS_CPUTIME_ID
        .now()
        .map_or(Duration::ZERO, Duration::from)
}

/// The threads that the kernel moves softirqs to when there are many. None are visible in a
/// container with process ids of its own.
fn softirq_threads() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| {
        fs::read_to_string(format!("/proc/{id}/comm"))
            .is_ok_and(|name| name.starts_with("ksoftirqd/"))
    })
    .collect()
}

/// With CONFIG_IRQ_TIME_ACCOUNTING, which gives the scheduler's run queues this member.
fn softirqs_are_accounted_apart() -> bool {
    Btf::from_sys_fs().is_ok_and(|btf| btf.member("rq", "prev_irq_time").is_ok())
}

/// What /proc/stat sums up over all CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    /// All but idleness, waiting for devices, and what the hypervisor gave to others.
    busy: Duration,
    softirq: Duration,
}

impl Stat {
    fn read() -> Result<Self, ValidateError> {
        let text = fs::read_to_string(STAT).map_err(|source| ValidateError::Proc {
            file: STAT.to_owned(),
            source,
        })?;
        let line = text.lines().next().unwrap_or_default();
        Self::parse(line, ticks_per_second()).ok_or_else(|| ValidateError::Unreadable {
            file: STAT.to_owned(),
            line: line.to_owned(),
        })
    }

    fn parse(line: &str, ticks_per_second: u32) -> Option<Self> {
        let mut fields = line.split_whitespace();
        if fields.next()? != "cpu" {
            return None;
        }
        let ticks: Vec<u64> = fields
            .map(|field| field.parse().ok())
            .collect::<Option<_>>()?;
        // User time, which holds that of guests; nice, system, idle, iowait, irq, softirq, ...
        let &[user, nice, system, _idle, _iowait, irq, softirq, ..] = ticks.as_slice() else {
            return None;
        };
        let time = |ticks| Duration::from_secs(ticks) / ticks_per_second;
        Some(Self {
            busy: time(user + nice + system + irq + softirq),
            softirq: time(softirq),
        })
    }
}

/// The unit of /proc/stat. 100 on every architecture that matters, should the C library not know.
fn ticks_per_second() -> u32 {
    let known = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    known
        .and_then(|ticks| u32::try_from(ticks).ok())
        .filter(|ticks| *ticks > 0)
        .unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_all_but_idleness_and_theft() {
        let line = "cpu  100 20 30 4000 500 6 70 800 90 0";
        let expected = Stat {
            busy: Duration::from_millis(2260),
            softirq: Duration::from_millis(700),
        };
        assert_eq!(Stat::parse(line, 100), Some(expected));
    }

    #[test]
    fn a_line_of_one_cpu_or_cut_short_is_refused() {
        assert_eq!(Stat::parse("cpu0 1 2 3 4 5 6 7", 100), None);
        assert_eq!(Stat::parse("cpu 1 2 3", 100), None);
        assert_eq!(Stat::parse("", 100), None);
    }

    #[test]
    fn a_process_that_works_takes_time() {
        let meter = Meter::of_processes(&[std::process::id()]).unwrap();
        let (before, own_before) = (meter.read().unwrap(), own());
        let mut sum = 0u64;
        while own() - own_before < Duration::from_millis(5) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(meter.read().unwrap() - before >= Duration::from_millis(5));
    }
}
