//! How much governed flows together may keep in a queue: one limit a queue, shared by all
//! controllers of the process.
//!
//! It finds its size like the dynamic limits that Linux keeps for a network device's ring (byte
//! queue limits, `lib/dynamic_queue_limits.c`): the least that keeps the link busy. It grows by a
//! datagram when the link ran idle after the limit had kept a datagram from being sent. It shrinks by
//! one for each [`Tuning::shrink_time`] in which that did not happen, and halves when the queue
//! overflowed.
//!
//! So it converges to where the link is idle for a moment once in that time. A limit that allowed for
//! every ACK gap would reinforce itself: bursts make gaps, and gaps raise the limit. A queue that is
//! empty for any other reason (nothing to send, the wrapped controller's window, the pacer) does not
//! count.
//!
//! [`Tuning::shrink_time`]: crate::law::constants::Tuning::shrink_time

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::config::GovernorConfig;
use crate::law::match_of;
use crate::mechanism::Mechanism;
use crate::time::{Span, Time};

pub(crate) use sharing::Sharing;

mod sharing;

/// A queue's limit, and the controllers that share it.
///
/// Readers take the published values. A controller that cannot take the lock at once skips its
/// report: its next sample, or another controller's, reports the same.
#[derive(Debug)]
pub(crate) struct QueueLimit {
    limit: AtomicU64,
    /// The generation of the queue, where several had the same index one after the other.
    generation: AtomicU32,
    /// Controllers that want to send more into the queue.
    sharers: AtomicU32,
    /// The sum of their rates, bytes a second.
    rates: AtomicU64,
    /// Bytes that governed flows may have in addition to matching the others, to match them on average.
    boost: AtomicU64,
    /// Times that the governed flows' part of the queue was found empty after it had not been; twice
    /// that, and one more while it is not empty. For sources that do not count how often the whole
    /// queue runs empty.
    empty: AtomicU64,
    /// Bytes that governed flows added since the last sample.
    added: AtomicU64,
    state: Mutex<State>,
}

/// What a controller reports of the queue after a sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observation {
    /// Bytes of all flows in the queue, before anything is added.
    pub(crate) total: u64,
    /// Bytes of all governed flows.
    pub(crate) shared: u64,
    /// Times the queue ran empty.
    pub(crate) drained: u64,
    /// It ran empty after the limit had limited sending.
    pub(crate) ran_empty: bool,
    /// The limit determines what this controller may send.
    pub(crate) decides: bool,
    /// It has limited sending since the acknowledgements before.
    pub(crate) holds: bool,
    /// The queue dropped something although its backlog was within the limit.
    pub(crate) overflowed: bool,
    /// The round trip of the controller that reports.
    pub(crate) srtt: Span,
    /// Bytes of a full datagram on the wire.
    pub(crate) datagram: u64,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of governed flows at the last sample.
    shared: u64,
    sampled_at: Option<Time>,
    /// The queue's `drained` when the limit last grew: each time the queue runs empty counts once,
    /// however many controllers report it.
    grown_at: u64,
    /// Time since the limit last changed.
    unchanged: Span,
    /// The last overflow.
    overflow: Option<Time>,
}

impl QueueLimit {
    pub(crate) fn new() -> Self {
        Self {
            limit: AtomicU64::new(0),
            generation: AtomicU32::new(0),
            sharers: AtomicU32::new(0),
            rates: AtomicU64::new(0),
            boost: AtomicU64::new(0),
            empty: AtomicU64::new(0),
            added: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// The index belongs to the queue of this generation now: the limit of another queue is reset.
    /// Entries of controllers that share it stay: each controller removes its own.
    pub(crate) fn set_generation(&self, generation: u32) {
        if self.generation.swap(generation, Ordering::Relaxed) != generation {
            self.limit.store(0, Ordering::Relaxed);
            self.boost.store(0, Ordering::Relaxed);
            self.empty.store(0, Ordering::Relaxed);
            self.added.store(0, Ordering::Relaxed);
            // Waits only while another controller reports, and once for a queue.
            *self.state.lock() = State::default();
        }
    }

    /// Bytes that governed flows together may keep in the queue.
    pub(crate) fn limit(&self, config: &GovernorConfig, datagram: u64) -> u64 {
        match self.limit.load(Ordering::Relaxed) {
            0 => initial(config, datagram),
            limit => limit,
        }
    }

    /// Controllers that want to send more into the queue.
    pub(crate) fn sharers(&self) -> u32 {
        self.sharers.load(Ordering::Relaxed)
    }

    /// Their mean rate, bytes a second; 0 without any.
    pub(crate) fn mean_rate(&self) -> u64 {
        let rates = self.rates.load(Ordering::Relaxed);
        rates.checked_div(u64::from(self.sharers())).unwrap_or(0)
    }

    /// Bytes that governed flows may have in addition to matching the others.
    pub(crate) fn boost(&self) -> u64 {
        self.boost.load(Ordering::Relaxed)
    }

    /// Times that the governed flows' part of the queue was found empty, where it has `bytes` now.
    pub(crate) fn times_empty(&self, bytes: u64) -> u64 {
        (self.empty.load(Ordering::Relaxed) + u64::from(bytes == 0)) / 2
    }

    /// The governed flows' part of the queue has `bytes`.
    pub(crate) fn on_level(&self, bytes: u64) {
        let dry = self.empty.load(Ordering::Relaxed);
        let is_busy = dry % 2 == 1;
        if is_busy == (bytes == 0) {
            self.empty.store(dry + 1, Ordering::Relaxed);
        }
    }

    /// Bytes of this process are about to enter the queue.
    pub(crate) fn add(&self, bytes: u64) {
        // It may have left again before the next sample.
        self.on_level(bytes);
        self.added.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Integrates by how much less than the others the governed flows had in the queue. They refill it
    /// when acknowledgements arrive, others at each departure, so what a sample finds is less than the
    /// mean.
    fn balance(&self, state: &mut State, seen: &Observation, passed: Span) {
        let others = seen.total.saturating_sub(seen.shared);
        let goal = match_of(others);
        let added = self.added.swap(0, Ordering::Relaxed);
        let mean = state.shared.saturating_add(added).midpoint(seen.shared);
        state.shared = seen.shared;
        if others == 0 {
            self.boost.store(0, Ordering::Relaxed);
            return;
        }
        let passed = u128::from(passed.min(seen.srtt).nanos());
        let srtt = u128::from(seen.srtt.nanos().max(1));
        let step = u128::from(goal.abs_diff(mean)) * passed / srtt;
        let step = u64::try_from(step).unwrap_or(u64::MAX);
        let boost = self.boost.load(Ordering::Relaxed);
        let boost = if goal > mean {
            boost.saturating_add(step)
        } else {
            boost.saturating_sub(step)
        };
        self.boost.store(boost.min(others), Ordering::Relaxed);
    }

    /// Updates the limit with a controller's sample of the queue.
    pub(crate) fn observe(&self, now: Time, config: &GovernorConfig, seen: &Observation) {
        let Some(mut state) = self.state.try_lock() else {
            return;
        };
        let tuning = config.law.tuning();
        let last = state.sampled_at.replace(now).unwrap_or(now);
        let passed = now.since(last);
        self.balance(&mut state, seen, passed);
        if !seen.decides && !seen.ran_empty {
            return;
        }
        let limit = self.limit(config, seen.datagram);
        let floor = (tuning.min_limit_datagrams * seen.datagram).min(limit);
        if seen.overflowed && config.has(Mechanism::Halving) {
            let due = state
                .overflow
                .is_none_or(|last| now.since(last) >= seen.srtt);
            if due {
                state.overflow = Some(now);
                self.limit.store((limit / 2).max(floor), Ordering::Relaxed);
            }
            return;
        }
        if seen.ran_empty && seen.drained != state.grown_at {
            state.grown_at = seen.drained;
            state.unchanged = Span::default();
            let grown = limit.saturating_add(seen.datagram).min(config.max_backlog);
            self.limit.store(grown, Ordering::Relaxed);
            return;
        }
        state.unchanged = state.unchanged.plus(passed);
        if seen.holds && state.unchanged >= Span::of(tuning.shrink_time) {
            state.unchanged = Span::default();
            let shrunk = limit.saturating_sub(seen.datagram).max(floor);
            self.limit.store(shrunk, Ordering::Relaxed);
        }
    }
}

fn initial(config: &GovernorConfig, datagram: u64) -> u64 {
    (config.initial_backlog_datagrams * datagram).min(config.max_backlog)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DATAGRAM: u64 = 1262;
    const MS: Duration = Duration::from_millis(1);

    fn seen() -> Observation {
        Observation {
            total: 3_000,
            shared: 3_000,
            drained: 0,
            ran_empty: false,
            decides: true,
            holds: false,
            overflowed: false,
            srtt: Span::of(20 * MS),
            datagram: DATAGRAM,
        }
    }

    fn start() -> (QueueLimit, GovernorConfig, Time) {
        (QueueLimit::new(), GovernorConfig::default(), Time::ORIGIN)
    }

    /// The queue has run empty for the `drained`-th time.
    fn run_empty(limit: &QueueLimit, config: &GovernorConfig, now: Time, drained: u64) {
        let dry = Observation {
            total: 0,
            ran_empty: true,
            drained,
            ..seen()
        };
        limit.observe(now, config, &dry);
    }

    #[test]
    fn a_later_queue_with_the_same_index_starts_with_the_initial_limit() {
        let (limit, config, _) = start();
        limit.set_generation(3);
        let initial = limit.limit(&config, DATAGRAM);
        limit.limit.store(initial * 5, Ordering::Relaxed);
        limit.set_generation(3);
        assert_eq!(limit.limit(&config, DATAGRAM), initial * 5);
        limit.set_generation(4);
        assert_eq!(limit.limit(&config, DATAGRAM), initial);
    }

    #[test]
    fn it_grows_by_a_datagram_for_each_time_the_link_was_idle_however_many_report_it() {
        let (limit, config, now) = start();
        assert_eq!(limit.limit(&config, DATAGRAM), 4 * DATAGRAM);
        limit.observe(now, &config, &seen());
        for drained in [1, 1, 1, 2, 2] {
            run_empty(&limit, &config, now + drained * 2 * MS, u64::from(drained));
        }
        assert_eq!(limit.limit(&config, DATAGRAM), 6 * DATAGRAM);
    }

    #[test]
    fn it_shrinks_by_a_datagram_where_the_link_stays_busy() {
        let (limit, config, now) = start();
        let holds = Observation {
            holds: true,
            ..seen()
        };
        limit.observe(now, &config, &holds);
        limit.observe(now + 31 * MS, &config, &holds);
        assert_eq!(limit.limit(&config, DATAGRAM), 4 * DATAGRAM);
        limit.observe(now + 40 * MS, &config, &seen());
        assert_eq!(
            limit.limit(&config, DATAGRAM),
            4 * DATAGRAM,
            "it did not limit sending"
        );
        limit.observe(now + 50 * MS, &config, &holds);
        assert_eq!(limit.limit(&config, DATAGRAM), 3 * DATAGRAM);
    }

    #[test]
    fn it_never_grows_above_the_configured_maximum() {
        let (limit, mut config, now) = start();
        config.max_backlog(16 << 10);
        for drained in 0..1000 {
            run_empty(&limit, &config, now + drained * MS, u64::from(drained));
        }
        assert_eq!(limit.limit(&config, DATAGRAM), 16 << 10);
    }

    #[test]
    fn it_does_not_shrink_while_something_else_decides_or_below_two_datagrams() {
        let (limit, config, now) = start();
        for tenth in 0..100 {
            let others = Observation {
                total: 1_000_000,
                decides: false,
                ..seen()
            };
            limit.observe(now + tenth * 100 * MS, &config, &others);
        }
        assert_eq!(limit.limit(&config, DATAGRAM), 4 * DATAGRAM);
        for tenth in 0..100 {
            let holds = Observation {
                holds: true,
                ..seen()
            };
            limit.observe(now + tenth * 100 * MS, &config, &holds);
        }
        assert_eq!(limit.limit(&config, DATAGRAM), 2 * DATAGRAM);
    }

    #[test]
    fn it_halves_once_a_round_trip_when_the_queue_overflows() {
        let (limit, config, now) = start();
        let overflow = Observation {
            overflowed: true,
            ..seen()
        };
        limit.observe(now, &config, &overflow);
        limit.observe(now + 19 * MS, &config, &overflow);
        assert_eq!(limit.limit(&config, DATAGRAM), 2 * DATAGRAM);
    }

    #[test]
    fn times_that_the_governed_part_is_empty_are_counted() {
        let limit = QueueLimit::new();
        for (level, dry) in [
            (0, 0),
            (1_000, 0),
            (500, 0),
            (0, 1),
            (0, 1),
            (2_000, 1),
            (0, 2),
        ] {
            assert_eq!(limit.times_empty(level), dry);
            limit.on_level(level);
        }
    }

    #[test]
    fn a_shortfall_beside_others_is_integrated_and_reduced_again() {
        let (limit, config, now) = start();
        let beside = |shared| Observation {
            total: shared + 50_000,
            shared,
            decides: false,
            ..seen()
        };
        limit.observe(now, &config, &beside(20_000));
        for step in 1..=20 {
            limit.observe(now + step * MS, &config, &beside(20_000));
        }
        // A round trip with half of the goal of 40,000.
        let boost = limit.boost();
        assert!((19_000..=21_000).contains(&boost), "{boost}");
        for step in 21..=40 {
            limit.observe(now + step * MS, &config, &beside(60_000));
        }
        assert!(limit.boost() < 1_500, "{}", limit.boost());
        limit.add(40_000);
        limit.observe(now + 60 * MS, &config, &beside(20_000));
        assert!(limit.boost() < 1_500, "40,000 on average");
    }
}
