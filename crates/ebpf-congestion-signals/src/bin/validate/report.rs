//! The verdict, and all that led to it.

use serde::Serialize;

use crate::args::Args;
use crate::load::LoadDescription;
use crate::measure::Measured;
use crate::output::Output;
use crate::overhead::Overhead;
use crate::probes::ProbeReport;
use crate::programs::ProgramReport;
use crate::self_test::SelfTestReport;
use crate::spread::{Spread, rounded};

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Verdict {
    /// Counts are right, and the overhead is under its target.
    #[serde(rename = "passed")]
    Passed,
    /// A count is wrong, or the overhead misses its target.
    #[serde(rename = "failed")]
    Failed,
    /// Counts are right; the overhead is over or under its target with less than 95% confidence.
    #[serde(rename = "inconclusive")]
    Inconclusive,
    /// It ended before there was anything to compare.
    #[serde(rename = "not measured")]
    NotMeasured,
}

impl Verdict {
    /// How the process ends.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::Inconclusive | Self::NotMeasured => crate::COULD_NOT_TELL,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
            Self::NotMeasured => "not measured",
        }
    }
}

/// The one JSON object.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) probes: Vec<ProbeReport>,
    pub(crate) self_test: SelfTestReport,
    load: Option<LoadDescription>,
    /// Payload that the load sent, in megabits a second.
    load_mbps: Option<f64>,
    /// Seconds that were measured.
    seconds: f64,
    period_seconds: f64,
    /// Pairs of periods, without and with probes.
    pairs: usize,
    /// Of the processor time that the host's CPUs have; the verdict rests on it.
    overhead_percent: Option<Spread>,
    /// Of the processor time that the load takes for the same work without probes.
    overhead_percent_of_load: Option<Spread>,
    /// What the kernel accounts to the programs, of what the host's CPUs have.
    bpf_percent: Option<f64>,
    /// The same of the load's processor time.
    bpf_percent_of_load: Option<f64>,
    /// Why there is no `bpf_percent`.
    bpf_why: Option<String>,
    programs: Vec<ProgramReport>,
    loading: Option<LoadingReport>,
    target_percent: f64,
    interrupted: bool,
    pub(crate) verdict: Verdict,
    /// What the verdict rests on.
    reasons: Vec<String>,
}

/// What loading and attaching the probes takes, which is in no measured period; medians.
#[derive(Clone, Copy, Debug, Serialize)]
struct LoadingReport {
    wall_ms: f64,
    cpu_ms: f64,
}

impl Report {
    pub(crate) fn new(
        args: &Args,
        probes: Vec<ProbeReport>,
        self_test: SelfTestReport,
        load: Option<LoadDescription>,
        measured: &Measured,
        interrupted: bool,
    ) -> Self {
        // The verdict is that of the figure as it is shown.
        let overhead =
            Overhead::spread_of_host(&measured.overheads).map(|spread| spread.rounded(3));
        let (verdict, reasons) = judge(&self_test, overhead, args.target);
        let programs = &measured.programs;
        let bpf_why = programs.missing().map(str::to_owned);
        let share = |percent: Option<f64>| {
            let percent = percent.filter(|_| bpf_why.is_none());
            percent.map(|percent| rounded(percent, 3))
        };
        let is_own_load = measured.work.is_some();
        let seconds = measured.wall.as_secs_f64();
        // What is sent is received: half of the work.
        let megabits = measured.work.map(|bytes| bytes as f64 * 8.0 / 2e6);
        let median_ms = |of: fn(&crate::measure::Loading) -> std::time::Duration| {
            let times = measured.loadings.iter().map(|l| of(l).as_secs_f64() * 1e3);
            Spread::of(&times.collect::<Vec<_>>()).map(|spread| rounded(spread.median, 1))
        };
        let loading = median_ms(|l| l.wall).zip(median_ms(|l| l.cpu));
        Self {
            probes,
            self_test,
            load,
            load_mbps: megabits
                .filter(|_| seconds > 0.0)
                .map(|m| rounded(m / seconds, 1)),
            seconds: rounded(seconds, 3),
            period_seconds: args.period.as_secs_f64(),
            pairs: measured.overheads.len(),
            overhead_percent: overhead,
            overhead_percent_of_load: Overhead::spread_of_load(&measured.overheads)
                .map(|spread| spread.rounded(3)),
            bpf_percent: share(programs.percent_of_host(measured.cpus)),
            bpf_percent_of_load: share(programs.percent_of_load().filter(|_| is_own_load)),
            bpf_why,
            programs: programs.report(),
            loading: loading.map(|(wall_ms, cpu_ms)| LoadingReport { wall_ms, cpu_ms }),
            target_percent: args.target,
            interrupted,
            verdict,
            reasons,
        }
    }

    /// For people.
    pub(crate) fn show(&self, output: Output) {
        output.say("");
        output.say("Programs, as the kernel accounts them (20 to 50 ns a run are its own)");
        for program in &self.programs {
            let of = |figure: Option<f64>| figure.map_or("-".to_owned(), |f| format!("{f:.1}"));
            let recursion_misses = match program.recursion_misses {
                None | Some(0) => String::new(),
                Some(runs) => format!(", {runs} recursion misses"),
            };
            output.say(&format!(
                "  {:<18} {:>10} runs/s {:>8} ns/run{recursion_misses}",
                program.name,
                of(program.runs_per_s),
                of(program.ns_per_run)
            ));
        }
        match (self.bpf_percent, &self.bpf_why) {
            (Some(percent), _) => {
                let of_load = self.bpf_percent_of_load.map_or(String::new(), |percent| {
                    format!(", {percent:.2}% of what the load takes")
                });
                output.say(&format!(
                    "  all of them: {percent:.2}% of the host's processor time{of_load}"
                ));
            }
            (None, Some(why)) => output.say(&format!("  not known: {why}")),
            (None, None) => {}
        }
        if let Some(LoadingReport { wall_ms, cpu_ms }) = self.loading {
            output.say(&format!(
                "Loading the probes took {wall_ms:.0} ms, of which {cpu_ms:.0} ms of processor \
                 time; not measured"
            ));
        }
        if let Some(mbps) = self.load_mbps {
            output.say(&format!("The load sent {mbps:.0} Mbit/s"));
        }
        let overheads = [
            (self.overhead_percent, "of the host's processor time"),
            (self.overhead_percent_of_load, "of what the load takes"),
        ];
        for (overhead, of) in overheads {
            let Some(Spread {
                median,
                min,
                max,
                sure,
            }) = overhead
            else {
                continue;
            };
            let sure = sure.map_or(String::new(), |[low, high]| {
                format!("95% confidence: {low:.2}% to {high:.2}%; ")
            });
            output.say(&format!(
                "CPU overhead: {median:.2}% {of} ({sure}{} pairs, {min:.2}% to {max:.2}%)",
                self.pairs
            ));
        }
        for reason in &self.reasons {
            output.say(&format!("  {reason}"));
        }
        let interrupted = if self.interrupted {
            ", interrupted: of what was measured so far"
        } else {
            ""
        };
        output.say(&format!("Verdict: {}{interrupted}", self.verdict.name()));
    }
}

/// The verdict and its reasons.
fn judge(
    self_test: &SelfTestReport,
    overhead: Option<Spread>,
    target: f64,
) -> (Verdict, Vec<String>) {
    let mut reasons = Vec::new();
    if self_test.failed > 0 {
        let s = if self_test.failed == 1 { "" } else { "s" };
        reasons.push(format!("{} self-test{s} failed", self_test.failed));
    }
    let Some(Spread { median, sure, .. }) = overhead else {
        reasons.push("no pair of periods was measured, without and with probes".to_owned());
        let verdict = if self_test.failed > 0 {
            Verdict::Failed
        } else {
            Verdict::NotMeasured
        };
        return (verdict, reasons);
    };
    let within = median < target;
    reasons.push(format!(
        "the overhead is {} {target}% of the host's processor time",
        if within { "under" } else { "not under" }
    ));
    let agrees = |end: f64| (end < target) == within;
    let is_sure = sure.is_some_and(|ends| ends.into_iter().all(agrees));
    if !is_sure {
        reasons.push(
            "with less than 95% confidence: measure longer (--seconds), or on a quieter host"
                .to_owned(),
        );
    }
    let verdict = match (self_test.failed, is_sure) {
        (0, false) => Verdict::Inconclusive,
        (0, true) if within => Verdict::Passed,
        _ => Verdict::Failed,
    };
    (verdict, reasons)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn self_test(failed: usize) -> SelfTestReport {
        let mut report = SelfTestReport::default();
        report.failed = failed;
        report
    }

    fn spread(median: f64, sure: Option<[f64; 2]>) -> Option<Spread> {
        Some(Spread {
            median,
            min: median - 10.0,
            max: median + 10.0,
            sure,
        })
    }

    #[test]
    fn an_overhead_under_the_target_passes() {
        let (verdict, reasons) = judge(&self_test(0), spread(0.4, Some([-0.5, 1.9])), 2.0);
        assert_eq!((verdict, verdict.exit_code()), (Verdict::Passed, 0));
        assert_eq!(reasons.len(), 1, "{reasons:?}");
    }

    #[test]
    fn an_overhead_of_just_the_target_misses_it() {
        let (verdict, _) = judge(&self_test(0), spread(2.0, Some([2.0, 2.0])), 2.0);
        assert_eq!((verdict, verdict.exit_code()), (Verdict::Failed, 1));
    }

    #[test]
    fn what_is_not_sure_is_no_verdict() {
        for (median, sure) in [
            (0.5, Some([-3.0, 6.0])),
            (2.5, Some([1.0, 3.0])),
            (0.5, None),
        ] {
            let (verdict, reasons) = judge(&self_test(0), spread(median, sure), 2.0);
            assert_eq!((verdict, verdict.exit_code()), (Verdict::Inconclusive, 2));
            assert!(reasons[1].contains("--seconds"), "{reasons:?}");
        }
    }

    #[test]
    fn a_wrong_count_fails_whatever_the_overhead() {
        for overhead in [None, spread(0.1, None)] {
            let (verdict, reasons) = judge(&self_test(1), overhead, 2.0);
            assert_eq!(verdict, Verdict::Failed);
            assert!(reasons[0] == "1 self-test failed", "{reasons:?}");
        }
    }

    #[test]
    fn nothing_measured_is_no_verdict() {
        let (verdict, _) = judge(&self_test(0), None, 2.0);
        assert_eq!((verdict, verdict.exit_code()), (Verdict::NotMeasured, 2));
    }
}
