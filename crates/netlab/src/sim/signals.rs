//! What the probes in the sender's kernel would tell, put into a [`MockSource`].
//!
//! The probes keep counters in memory that a controller reads whenever it is called. So does this:
//! it follows the queue packet by packet and brings a flow's sample up to date just before its
//! connection is called, which is the same as doing so at every packet, and cheaper.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ebpf_congestion_signals::{
    Direction, DropClass, DropCounters, MockFlow, MockSource, QdiscName, QueueId, QueueSample,
};

use super::number::whole;
use super::random::Random;
use super::time::SimTime;

/// How faithful the signals are. The default: perfectly.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SignalConfig {
    /// How old what is read is.
    pub delay: Duration,
    /// Probability that a sample is not brought up to date when it is read.
    pub loss: f64,
    /// Each gauge is off by up to this share of itself, by itself: 0.1 is 10% either way.
    pub noise: f64,
    /// Probability that a reading is an earlier one, with counters that run backwards.
    pub reordering: f64,
    /// Probability that a reading reports more of the flow in the queue than of all flows.
    pub contradiction: f64,
    /// Whether the queue's limit is unknown.
    pub hides_limit: bool,
    /// Whether nothing of the queue is known but the flow's own backlog.
    pub hides_others: bool,
    /// The kind of the queue discipline that is reported; none where it is empty.
    pub kind: &'static str,
    /// Bytes that the total counts besides, because they are in the same tree of queues, but not
    /// before anything of the flow's: those of a sibling class.
    pub sibling: u64,
    /// How the signals end.
    pub end: Option<SignalEnd>,
}

/// How the signals end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalEnd {
    /// When.
    pub at: Duration,
    /// What is read from then on.
    pub manner: EndManner,
}

/// What is read once the signals have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndManner {
    /// That they have: `live` is false.
    Dead,
    /// What was read last, for ever.
    Frozen,
    /// That no queue is known any more; counters go on.
    QueueUnknown,
}

/// By how much such a reading exceeds the total: more than a reading between
/// two updates could explain.
const CONTRADICTION: u64 = 1 << 20;

/// The state of the queue, as probes count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct QueueState {
    total: u64,
    drained: u64,
}

/// The state of a watched flow, as probes count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct WatchState {
    own: u64,
    /// Whether the flow ever entered the queue: before, none is known.
    entered: bool,
    observed: u64,
    payload: u64,
    queue_drops: DropCounters,
    policy_drops: DropCounters,
}

/// Values with the times they changed at, so that a reader can be shown old ones.
#[derive(Debug, Default)]
struct Past<T> {
    shown: T,
    changes: VecDeque<(SimTime, T)>,
}

impl<T: Copy> Past<T> {
    fn push(&mut self, now: SimTime, value: T) {
        match self.changes.back_mut() {
            Some((time, last)) if *time == now => *last = value,
            _ => self.changes.push_back((now, value)),
        }
    }

    /// The value of `delay` ago.
    fn at(&mut self, now: SimTime, delay: Duration) -> T {
        while let Some((_, value)) = self.changes.pop_front_if(|(time, _)| *time + delay <= now) {
            self.shown = value;
        }
        self.shown
    }
}

/// Bytes in the queue of all flows that one source counts as sharing it.
#[derive(Debug, Default)]
struct Group {
    shared: u64,
    past: Past<u64>,
}

/// What is shown to a reader.
#[derive(Clone, Copy, Debug)]
struct Shown {
    queue: QueueState,
    shared: u64,
    flow: WatchState,
}

#[derive(Debug)]
struct Watched {
    mock: MockFlow,
    /// The source's sharing flows that it is one of.
    group: Option<usize>,
    state: WatchState,
    past: Past<WatchState>,
    /// The number of the last change that its sample knows of.
    synced: u64,
    /// What was shown, and what was shown before that.
    shown: Option<Shown>,
    earlier: Option<Shown>,
}

/// Follows the sender host's queue.
#[derive(Debug)]
pub(super) struct SignalFeed {
    config: SignalConfig,
    source: Arc<MockSource>,
    queue_id: Option<QueueId>,
    /// Bytes that the queue holds.
    limit: Option<u64>,
    queue: QueueState,
    past: Past<QueueState>,
    groups: Vec<Group>,
    watched: Vec<Watched>,
    changes: u64,
    random: Random,
}

impl SignalFeed {
    /// `has_queue`: whether the device has a queue to report.
    pub(super) fn new(config: SignalConfig, seed: u64, limit: Option<u64>) -> Self {
        Self {
            config,
            source: Arc::new(MockSource::new()),
            queue_id: QueueId::new(0).filter(|_| limit.is_some()),
            limit,
            queue: QueueState::default(),
            past: Past::default(),
            groups: Vec::new(),
            watched: Vec::new(),
            changes: 1,
            random: Random::new(seed, "signals", 0),
        }
    }

    pub(super) fn source(&self) -> &Arc<MockSource> {
        &self.source
    }

    /// Begins to watch a flow; its index. Those of a group count as sharing the queue with each
    /// other.
    pub(super) fn watch(&mut self, group: Option<usize>) -> usize {
        let groups = group.map_or(0, |group| group + 1).max(self.groups.len());
        self.groups.resize_with(groups, Group::default);
        self.watched.push(Watched {
            mock: self.source.add_flow(),
            group,
            state: WatchState::default(),
            past: Past::default(),
            synced: 0,
            shown: None,
            earlier: None,
        });
        self.watched.len() - 1
    }

    pub(super) fn mock(&self, watch: usize) -> &MockFlow {
        &self.watched[watch].mock
    }

    /// Bytes of a watched flow in the queue.
    pub(super) fn own(&self, watch: usize) -> u64 {
        self.watched[watch].state.own
    }

    /// A rule of the host's dropped packets before they came to the device.
    pub(super) fn on_policy_drop(&mut self, now: SimTime, watch: usize, dropped: DropCounters) {
        add(&mut self.watched[watch].state.policy_drops, dropped);
        self.changed(now, Some(watch));
    }

    /// Packets were handed to the device.
    pub(super) fn on_sent(&mut self, now: SimTime, watch: usize, packets: u64, payload: u64) {
        let state = &mut self.watched[watch].state;
        state.observed += packets;
        state.payload += payload;
        self.changed(now, Some(watch));
    }

    /// The queue took bytes, of a watched flow or of another.
    pub(super) fn on_enqueue(&mut self, now: SimTime, watch: Option<usize>, wire: u64) {
        self.queue.total += wire;
        if let Some(watch) = watch {
            let watched = &mut self.watched[watch];
            watched.state.own += wire;
            watched.state.entered = true;
            if let Some(group) = watched.group {
                self.groups[group].shared += wire;
            }
        }
        self.changed(now, watch);
    }

    /// Bytes left the queue.
    pub(super) fn on_dequeue(&mut self, now: SimTime, watch: Option<usize>, wire: u64) {
        self.queue.total -= wire;
        if let Some(watch) = watch {
            let watched = &mut self.watched[watch];
            watched.state.own -= wire;
            if let Some(group) = watched.group {
                self.groups[group].shared -= wire;
            }
        }
        self.changed(now, watch);
    }

    /// The queue ran empty.
    pub(super) fn on_drained(&mut self, now: SimTime) {
        self.queue.drained += 1;
        self.changed(now, None);
    }

    /// The queue dropped packets.
    pub(super) fn on_queue_drop(&mut self, now: SimTime, watch: usize, dropped: DropCounters) {
        add(&mut self.watched[watch].state.queue_drops, dropped);
        self.changed(now, Some(watch));
    }

    fn changed(&mut self, now: SimTime, watch: Option<usize>) {
        self.changes += 1;
        if self.config.delay.is_zero() {
            return;
        }
        self.past.push(now, self.queue);
        if let Some(watch) = watch {
            let watched = &mut self.watched[watch];
            watched.past.push(now, watched.state);
            if let Some(group) = watched.group {
                let group = &mut self.groups[group];
                group.past.push(now, group.shared);
            }
        }
    }

    /// Brings a flow's sample up to date, as far as it ever is.
    pub(super) fn sync(&mut self, now: SimTime, watch: usize) {
        let Self {
            config,
            limit,
            queue,
            past,
            groups,
            watched,
            random,
            ..
        } = self;
        let delayed = !config.delay.is_zero();
        let watched = &mut watched[watch];
        let ended = config.end.filter(|end| now >= SimTime::from(end.at));
        if watched.synced == self.changes && !delayed && ended.is_none() {
            return;
        }
        watched.synced = self.changes;
        match ended.map(|end| end.manner) {
            Some(EndManner::Dead) => {
                watched.mock.set(|sample| sample.congestion.live = false);
                return;
            }
            Some(EndManner::Frozen) => return,
            Some(EndManner::QueueUnknown) | None => {}
        }
        if random.chance(config.loss) {
            return;
        }
        let group = watched.group.map(|group| &mut groups[group]);
        let mut shown = if delayed {
            Shown {
                queue: past.at(now, config.delay),
                shared: group.map_or(0, |group| group.past.at(now, config.delay)),
                flow: watched.past.at(now, config.delay),
            }
        } else {
            Shown {
                queue: *queue,
                shared: group.map_or(0, |group| group.shared),
                flow: watched.state,
            }
        };
        if random.chance(config.reordering)
            && let Some(earlier) = watched.earlier
        {
            shown = earlier;
        } else {
            watched.earlier = watched.shown;
            watched.shown = Some(shown);
        }
        let contradicts = random.chance(config.contradiction);
        let mut noisy = |bytes: u64| {
            if config.noise > 0.0 {
                whole(bytes as f64 * (1.0 + config.noise * (2.0 * random.unit() - 1.0)))
            } else {
                bytes
            }
        };
        let known = shown.flow.entered && ended.is_none();
        let sample = self.queue_id.filter(|_| known).map(|id| {
            let (own, shared) = (noisy(shown.flow.own), noisy(shown.shared));
            let total = noisy(shown.queue.total) + config.sibling;
            let own = if contradicts {
                total + CONTRADICTION
            } else {
                own
            };
            let sample = QueueSample::new(id).with_own(own);
            if config.hides_others {
                return sample;
            }
            let empties = config.sibling == 0;
            sample
                .with_shared(shared)
                .with_total(total)
                .with_drained(if empties { shown.queue.drained } else { 0 })
                .with_limit(limit.filter(|_| !config.hides_limit))
        });
        set(watched, now, config.kind, &shown.flow, sample);
    }
}

fn set(
    watched: &Watched,
    now: SimTime,
    kind: &str,
    state: &WatchState,
    queue: Option<QueueSample>,
) {
    watched.mock.set(|sample| {
        sample.congestion.queue = queue;
        sample.queue = queue
            .filter(|_| !kind.is_empty())
            .map(|_| ebpf_congestion_signals::QueueState::of_kind(QdiscName::from_name(kind)));
        sample.congestion.observed_packets = Some(state.observed);
        sample.congestion.queue_drops = Some(state.queue_drops.packets);
        sample.congestion.policy_drops = Some(state.policy_drops.packets);
        sample.sent_packets = Some(state.observed);
        sample.sent_bytes = Some(state.payload);
        let mut drops = ebpf_congestion_signals::DropTable::default();
        for (class, dropped) in [
            (DropClass::QueueFull, state.queue_drops),
            (DropClass::Policy, state.policy_drops),
        ] {
            drops.add(Direction::Egress, class, dropped);
        }
        sample.drops = Some(drops);
        sample.updated = Some(ebpf_congestion_signals::KernelTime::from_nanos(now.nanos()));
    });
}

fn add(counters: &mut DropCounters, more: DropCounters) {
    counters.skbs += more.skbs;
    counters.packets += more.packets;
    counters.bytes += more.bytes;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> SimTime {
        SimTime::from(Duration::from_millis(ms))
    }

    fn queue(feed: &SignalFeed, watch: usize) -> QueueSample {
        feed.mock(watch).watch().congestion().queue.unwrap()
    }

    #[test]
    fn the_queue_is_reported_in_bytes_on_the_wire_by_owner() {
        let mut feed = SignalFeed::new(SignalConfig::default(), 1, Some(u64::MAX));
        let (governed, stock) = (feed.watch(Some(0)), feed.watch(None));
        feed.on_enqueue(ms(1), Some(governed), 1_000);
        feed.on_enqueue(ms(1), Some(stock), 2_000);
        feed.on_enqueue(ms(1), None, 4_000);
        feed.on_dequeue(ms(2), Some(governed), 400);
        feed.on_drained(ms(2));
        feed.sync(ms(2), governed);
        let seen = queue(&feed, governed);
        assert_eq!(
            (seen.own, seen.shared, seen.total),
            (Some(600), Some(600), Some(6_600))
        );
        assert_eq!(seen.drained, Some(1));
        feed.sync(ms(2), stock);
        assert_eq!(queue(&feed, stock).own, Some(2_000));
    }

    #[test]
    fn late_signals_show_what_was() {
        let config = SignalConfig {
            delay: Duration::from_millis(10),
            ..SignalConfig::default()
        };
        let mut feed = SignalFeed::new(config, 1, Some(u64::MAX));
        let watch = feed.watch(Some(0));
        feed.on_enqueue(ms(1), Some(watch), 1_000);
        feed.on_enqueue(ms(5), Some(watch), 1_000);
        feed.sync(ms(10), watch);
        assert_eq!(feed.mock(watch).watch().congestion().queue, None);
        feed.sync(ms(11), watch);
        assert_eq!(queue(&feed, watch).own, Some(1_000));
        feed.sync(ms(20), watch);
        assert_eq!(queue(&feed, watch).total, Some(2_000));
    }

    #[test]
    fn signals_stop_as_configured() {
        let end = |manner| {
            let config = SignalConfig {
                end: Some(SignalEnd {
                    at: Duration::from_millis(5),
                    manner,
                }),
                ..SignalConfig::default()
            };
            let mut feed = SignalFeed::new(config, 1, Some(u64::MAX));
            let watch = feed.watch(Some(0));
            feed.on_sent(ms(1), watch, 1, 900);
            feed.on_enqueue(ms(1), Some(watch), 1_000);
            feed.sync(ms(1), watch);
            feed.on_sent(ms(6), watch, 1, 900);
            feed.sync(ms(6), watch);
            let seen = feed.mock(watch).watch().congestion();
            (seen.live, seen.observed_packets, seen.queue.is_some())
        };
        assert_eq!(end(EndManner::Dead), (false, Some(1), true));
        assert_eq!(end(EndManner::Frozen), (true, Some(1), true));
        assert_eq!(end(EndManner::QueueUnknown), (true, Some(2), false));
    }
}
