//! Measures in turns without and with probes, under one load.

use std::time::{Duration, Instant};

use ebpf_congestion_signals::{EbpfSource, HostSample, SignalSource};
use nix::unistd::{SysconfVar, sysconf};

use crate::args::Args;
use crate::cpu;
use crate::error::{ValidateError, with_causes};
use crate::interrupt::Interrupt;
use crate::line::{Interval, overhead_line};
use crate::load::Load;
use crate::output::Output;
use crate::overhead::{Overhead, Pairs, Period, Phase, TURN};
use crate::programs::Programs;

/// How long the load gets after probes were loaded or taken away, which keeps a CPU busy, before
/// it is measured again.
const SETTLE: Duration = Duration::from_millis(100);

/// How often a line is printed.
const LINE: Duration = Duration::from_secs(1);

/// What was measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) cpus: u32,
    /// Of each pair of periods.
    pub(crate) overheads: Vec<Overhead>,
    pub(crate) programs: Programs,
    pub(crate) loadings: Vec<Loading>,
    /// Work that the load did in all periods, and how long these were.
    pub(crate) work: Option<u64>,
    pub(crate) wall: Duration,
}

/// What it took to load and attach the probes once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loading {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

impl Measured {
    /// Nothing yet, on this host.
    pub(crate) fn nothing() -> Self {
        Self {
            cpus: online_cpus(),
            overheads: Vec::new(),
            programs: Programs::default(),
            loadings: Vec::new(),
            work: None,
            wall: Duration::ZERO,
        }
    }
}

/// CPUs that work now.
fn online_cpus() -> u32 {
    let known = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    known.and_then(|cpus| u32::try_from(cpus).ok()).unwrap_or(1)
}

/// Measures until the time is over, or until an end is asked for.
pub(crate) async fn measure(
    args: &Args,
    load: &mut Load,
    interrupt: &mut Interrupt,
    output: Output,
) -> Result<Measured, ValidateError> {
    let measured = Measured::nothing();
    let mut measurement = Measurement {
        args,
        load,
        interrupt,
        output,
        start: Instant::now(),
        pairs: Pairs::new(measured.cpus),
        measured,
    };
    measurement.run().await?;
    let mut measured = measurement.measured;
    measured.overheads = measurement.pairs.overheads().to_vec();
    Ok(measured)
}

struct Measurement<'a> {
    args: &'a Args,
    load: &'a mut Load,
    interrupt: &'a mut Interrupt,
    output: Output,
    start: Instant,
    pairs: Pairs,
    measured: Measured,
}

impl Measurement<'_> {
    async fn run(&mut self) -> Result<(), ValidateError> {
        let mut source = None;
        let mut turns = 0;
        loop {
            for phase in TURN {
                if phase == Phase::Without {
                    source = None;
                } else if source.is_none() {
                    source = Some(self.load_probes()?);
                }
                if self.interrupt.cuts_short(SETTLE).await
                    || !self.phase(phase, source.as_ref()).await?
                {
                    return Ok(());
                }
                if turns > 0 && self.is_over() && self.pairs.are_whole() {
                    return Ok(());
                }
            }
            turns += 1;
            if self.is_over() {
                return Ok(());
            }
        }
    }

    fn is_over(&self) -> bool {
        self.start.elapsed() >= self.args.seconds
    }

    fn load_probes(&mut self) -> Result<EbpfSource, ValidateError> {
        let (begin, cpu) = (Instant::now(), cpu::own());
        let source = EbpfSource::load()?;
        self.measured.loadings.push(Loading {
            wall: begin.elapsed(),
            cpu: cpu::own().saturating_sub(cpu),
        });
        Ok(source)
    }

    /// Measures one period; false when an end was asked for before it was over.
    async fn phase(
        &mut self,
        phase: Phase,
        source: Option<&EbpfSource>,
    ) -> Result<bool, ValidateError> {
        let (Phase::Accounted, Some(source)) = (phase, source) else {
            let period = self.period(source).await?;
            if let Some(period) = period {
                self.pairs.add(phase, period);
            }
            return Ok(period.is_some());
        };
        let accounting = match source.account_costs() {
            Ok(accounting) => accounting,
            Err(refused) => {
                self.measured.programs.refuse(format!(
                    "the kernel accounts programs' time for holders of CAP_SYS_ADMIN alone \
                     (`setcap cap_bpf,cap_perfmon,cap_sys_admin+ep PROGRAM`): {}",
                    with_causes(&refused)
                ));
                return Ok(true);
            }
        };
        let before = source.costs().map_err(ValidateError::Costs)?;
        let period = self.period(Some(source)).await?;
        let after = source.costs().map_err(ValidateError::Costs)?;
        drop(accounting);
        if let Some(period) = period {
            self.measured.programs.add(&before, after, period);
        }
        Ok(period.is_some())
    }

    /// Lets a period pass, with a line a second; `None` when an end was asked for before it was
    /// over.
    async fn period(
        &mut self,
        source: Option<&EbpfSource>,
    ) -> Result<Option<Period>, ValidateError> {
        let mut last = source.map(SignalSource::host);
        let before = self.load.progress()?;
        let begin = Instant::now();
        loop {
            let left = self.args.period.saturating_sub(begin.elapsed());
            if self.interrupt.cuts_short(left.min(LINE)).await {
                return Ok(None);
            }
            if begin.elapsed() >= self.args.period {
                break;
            }
            self.say(source, &mut last);
        }
        let wall = begin.elapsed();
        let after = self.load.progress()?;
        self.say(source, &mut last);
        let work = after.work.zip(before.work).map(|(a, b)| a - b);
        if let Some(work) = work {
            *self.measured.work.get_or_insert(0) += work;
        }
        self.measured.wall += wall;
        Ok(Some(Period {
            wall,
            cpu: after.cpu.saturating_sub(before.cpu),
            work,
        }))
    }

    /// What the probes counted since `last`.
    fn say(&self, source: Option<&EbpfSource>, last: &mut Option<HostSample>) {
        let now = source.map(SignalSource::host);
        let interval = match (&last, &now) {
            (Some(last), Some(now)) => Interval::between(last, now),
            _ => Interval::default(),
        };
        *last = now;
        let state = if source.is_some() {
            ""
        } else {
            "  (without probes)"
        };
        let line = interval.line(self.start.elapsed().as_secs());
        self.output.say(&format!("{line}{state}"));
        let median = Overhead::spread_of_host(self.pairs.overheads()).map(|spread| spread.median);
        self.output.say(&overhead_line(median, self.args.target));
    }
}
