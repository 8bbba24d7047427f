//! What probes cost, from periods measured in turns without and with them.

use std::time::Duration;

use crate::spread::Spread;

/// What a period is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No probe is attached.
    Without,
    /// Probes are attached.
    With,
    /// As `With`, and the kernel accounts what they cost, which costs something itself: not
    /// compared.
    Accounted,
}

/// One turn. Each period with probes has one without beside it, and the order of the second pair
/// is that of the first reversed, so that a steady drift of the host cancels out. One loading of
/// the probes serves a turn.
pub(crate) const TURN: [Phase; 5] = [
    Phase::Without,
    Phase::With,
    Phase::Accounted,
    Phase::With,
    Phase::Without,
];

/// What a period took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Period {
    pub(crate) wall: Duration,
    /// Processor time of the load, or of the host.
    pub(crate) cpu: Duration,
    /// Work done meanwhile, where it is known.
    pub(crate) work: Option<u64>,
}

/// What probes cost in one pair, in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Overhead {
    /// Share of the processor time of all CPUs of the host that is missing for everything else
    /// while the same work is done.
    pub(crate) of_host: f64,
    /// Share of the processor time that the load takes for the same work without probes; `None`
    /// where the work is not known.
    pub(crate) of_load: Option<f64>,
}

impl Overhead {
    /// Of all pairs, as shares of the host.
    pub(crate) fn spread_of_host(pairs: &[Self]) -> Option<Spread> {
        let figures = pairs.iter().map(|overhead| overhead.of_host);
        Spread::of(&figures.collect::<Vec<_>>())
    }

    /// Of all pairs, as shares of the load.
    pub(crate) fn spread_of_load(pairs: &[Self]) -> Option<Spread> {
        let figures = pairs.iter().filter_map(|overhead| overhead.of_load);
        Spread::of(&figures.collect::<Vec<_>>())
    }
}

/// Gathers periods in the order of [`TURN`], and pairs them.
#[derive(Debug)]
pub(crate) struct Pairs {
    cpus: u32,
    /// The half of a pair that waits for its neighbour.
    waiting: Option<(Phase, Period)>,
    overheads: Vec<Overhead>,
}

impl Pairs {
    /// For a host of so many CPUs.
    pub(crate) fn new(cpus: u32) -> Self {
        Self {
            cpus,
            waiting: None,
            overheads: Vec::new(),
        }
    }

    /// The next period of a turn.
    pub(crate) fn add(&mut self, phase: Phase, period: Period) {
        if phase == Phase::Accounted {
            return;
        }
        let pair = match self.waiting.take() {
            Some((Phase::Without, without)) if phase == Phase::With => (without, period),
            Some((Phase::With, with)) if phase == Phase::Without => (period, with),
            // The first of a pair.
            _ => {
                self.waiting = Some((phase, period));
                return;
            }
        };
        self.overheads.extend(overhead(pair.0, pair.1, self.cpus));
    }

    /// Whether no half of a pair waits for its neighbour.
    pub(crate) fn are_whole(&self) -> bool {
        self.waiting.is_none()
    }

    /// Overhead of each pair so far.
    pub(crate) fn overheads(&self) -> &[Overhead] {
        &self.overheads
    }
}

/// Overhead of a pair; `None` where nothing was done.
fn overhead(without: Period, with: Period, cpus: u32) -> Option<Overhead> {
    let busy = busy_percent(without, cpus)?;
    let (Some(work_without), Some(work_with)) = (without.work, with.work) else {
        return Some(Overhead {
            of_host: busy_percent(with, cpus)? - busy,
            of_load: None,
        });
    };
    if work_without == 0 || work_with == 0 || without.cpu.is_zero() {
        return None;
    }
    let cost = |period: Period, work: u64| period.cpu.as_secs_f64() / work as f64;
    let dearer = cost(with, work_with) / cost(without, work_without) - 1.0;
    Some(Overhead {
        of_host: dearer * busy,
        of_load: Some(dearer * 100.0),
    })
}

/// Processor time as a share of what so many CPUs have in the period.
fn busy_percent(period: Period, cpus: u32) -> Option<f64> {
    percent(period.cpu, period.wall * cpus)
}

/// A time as a share of another.
pub(crate) fn percent(part: Duration, whole: Duration) -> Option<f64> {
    (!whole.is_zero()).then(|| part.as_secs_f64() / whole.as_secs_f64() * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spread::rounded;

    fn period(cpu_ms: u64, work: Option<u64>) -> Period {
        Period {
            wall: Duration::from_secs(1),
            cpu: Duration::from_millis(cpu_ms),
            work,
        }
    }

    fn overheads(turns: &[[u64; 5]]) -> Vec<f64> {
        let mut pairs = Pairs::new(2);
        for turn in turns {
            for (phase, cpu_ms) in TURN.into_iter().zip(turn) {
                pairs.add(phase, period(*cpu_ms, Some(1000)));
            }
        }
        let of_load = |overhead: &Overhead| rounded(overhead.of_load.unwrap(), 6);
        pairs.overheads().iter().map(of_load).collect()
    }

    #[test]
    fn a_turn_has_two_pairs_and_the_accounted_period_is_in_none() {
        assert_eq!(overheads(&[[100, 110, 900, 120, 100]]), [10.0, 20.0]);
    }

    #[test]
    fn pairs_of_turns_do_not_mix() {
        let turns = [[100, 110, 1, 110, 100], [200, 210, 1, 210, 200]];
        assert_eq!(overheads(&turns), [10.0, 10.0, 5.0, 5.0]);
    }

    #[test]
    fn a_steady_drift_cancels_out_of_the_median() {
        let both = overheads(&[[1000, 1001, 1002, 1003, 1004]]);
        let middle = Spread::of(&both).unwrap();
        assert!(middle.median.abs() < 0.001, "{middle:?}");
        assert!(middle.min < -0.09 && middle.max > 0.09, "{middle:?}");
    }

    #[test]
    fn a_turn_that_was_broken_off_gives_the_pairs_that_are_whole() {
        let mut pairs = Pairs::new(2);
        for phase in &TURN[..4] {
            pairs.add(*phase, period(100, Some(1000)));
        }
        let none = Overhead {
            of_host: 0.0,
            of_load: Some(0.0),
        };
        assert_eq!(pairs.overheads(), [none]);
    }

    #[test]
    fn more_work_in_the_same_time_is_no_overhead() {
        let without = period(100, Some(1000));
        let none = overhead(without, period(200, Some(2000)), 2).unwrap();
        assert_eq!((none.of_host, none.of_load), (0.0, Some(0.0)));
    }

    #[test]
    fn a_tenth_more_for_a_fifth_of_the_host_is_a_fiftieth_of_it() {
        let (without, with) = (period(400, Some(1000)), period(440, Some(1000)));
        let overhead = overhead(without, with, 2).unwrap();
        assert_eq!(rounded(overhead.of_load.unwrap(), 9), 10.0);
        assert_eq!(rounded(overhead.of_host, 9), 2.0);
    }

    #[test]
    fn without_known_work_it_is_the_difference_of_what_the_host_does() {
        let overhead = overhead(period(100, None), period(120, None), 2).unwrap();
        assert_eq!(rounded(overhead.of_host, 9), 1.0);
        assert_eq!(overhead.of_load, None);
    }

    #[test]
    fn where_nothing_was_done_there_is_no_overhead_to_tell() {
        assert_eq!(overhead(period(0, Some(0)), period(0, Some(0)), 2), None);
        assert_eq!(overhead(Period::default(), Period::default(), 2), None);
    }
}
