//! What the kernel itself accounts to the programs.

use std::time::Duration;

use ebpf_congestion_signals::ProbeCost;
use serde::Serialize;

use crate::overhead::{Period, percent};
use crate::spread::rounded;

/// Costs of all accounted periods.
#[derive(Clone, Debug, Default)]
pub(crate) struct Programs {
    costs: Vec<ProbeCost>,
    wall: Duration,
    cpu: Duration,
    /// Why the kernel would not account.
    refused: Option<String>,
}

/// One program, as the report has it. `None` where the kernel did not account, or where it never
/// ran.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct ProgramReport {
    pub(crate) name: &'static str,
    pub(crate) runs_per_s: Option<f64>,
    pub(crate) ns_per_run: Option<f64>,
    /// Times that the kernel did not run it: what happened then is in no counter.
    pub(crate) recursion_misses: Option<u64>,
}

impl Programs {
    /// Adds a period, from what one source's probes had cost before and after it.
    pub(crate) fn add(&mut self, before: &[ProbeCost], after: Vec<ProbeCost>, period: Period) {
        self.wall += period.wall;
        self.cpu += period.cpu;
        for mut cost in after {
            if let Some(before) = before.iter().find(|before| before.name == cost.name) {
                cost.runs = cost.runs.saturating_sub(before.runs);
                cost.time = cost.time.saturating_sub(before.time);
                cost.recursion_misses = cost
                    .recursion_misses
                    .map(|runs| runs.saturating_sub(before.recursion_misses.unwrap_or_default()));
            }
            match self.costs.iter_mut().find(|sum| sum.name == cost.name) {
                Some(sum) => {
                    sum.runs += cost.runs;
                    sum.time += cost.time;
                    sum.recursion_misses = sum
                        .recursion_misses
                        .zip(cost.recursion_misses)
                        .map(|(sum, more)| sum + more);
                }
                None => self.costs.push(cost),
            }
        }
    }

    /// The kernel would not account, for this reason.
    pub(crate) fn refuse(&mut self, why: String) {
        self.refused = Some(why);
    }

    /// Why there are no figures, where there are none.
    pub(crate) fn missing(&self) -> Option<&str> {
        match &self.refused {
            Some(why) => Some(why),
            None if self.wall.is_zero() => Some("no period was accounted"),
            None => None,
        }
    }

    /// Time in all programs, the kernel's accounting of it included, as a share of what so many
    /// CPUs had.
    pub(crate) fn percent_of_host(&self, cpus: u32) -> Option<f64> {
        percent(self.time(), self.wall * cpus)
    }

    /// The same as a share of the load's processor time.
    pub(crate) fn percent_of_load(&self) -> Option<f64> {
        percent(self.time(), self.cpu)
    }

    fn time(&self) -> Duration {
        self.costs.iter().map(|cost| cost.time).sum()
    }

    /// Each program that was accounted.
    pub(crate) fn report(&self) -> Vec<ProgramReport> {
        let seconds = self.wall.as_secs_f64();
        let report = |cost: &ProbeCost| ProgramReport {
            name: cost.name,
            runs_per_s: (seconds > 0.0).then(|| rounded(cost.runs as f64 / seconds, 1)),
            ns_per_run: (cost.runs > 0)
                .then(|| rounded(cost.time.as_nanos() as f64 / cost.runs as f64, 1)),
            recursion_misses: cost.recursion_misses,
        };
        self.costs.iter().map(report).collect()
    }
}
