//! Tests of the law with signals, a clock, and the calls of a connection.

use super::*;

mod base;
mod cap;
mod drops;
mod hold;
mod new_flow;
mod trust;

const MTU: u64 = 1200;
const MS: Duration = Duration::from_millis(1);
const RTT: Duration = Duration::from_millis(20);

const QUEUE: QueueSignals = QueueSignals {
    id: 0,
    own: 0,
    own_flow: 0,
    shared: 0,
    total: 0,
    others: Others::Counted,
    drained: 0,
    room: None,
    limit: 5_000,
    boost: 0,
    others_share: 0,
    mean_rate: 0,
};

/// A law, its signals and a clock.
struct Scene {
    law: Law,
    signals: Signals,
    start: Instant,
    now: Time,
    base: Base,
    effects: CapEffects,
    late: bool,
}

impl Scene {
    /// A connection with 100 datagrams in flight and a round trip of 20 ms, in congestion
    /// avoidance.
    fn new() -> Self {
        Self::with(GovernorConfig::default(), BaseKind::LossBased)
    }

    fn with(config: GovernorConfig, kind: BaseKind) -> Self {
        let signals = Signals {
            live: true,
            observed: 0,
            unobserved: 0,
            drops: 0,
            policy_drops: 0,
            queue: Some(QUEUE),
        };
        #[expect(clippy::disallowed_methods, reason = "a zero for virtual time")]
        let start = Instant::now();
        let mut scene = Self {
            law: Law::new(config, kind, 1200, &signals),
            signals,
            start,
            now: Time::ORIGIN,
            base: Base {
                window: 200_000,
                slow_start: false,
            },
            effects: CapEffects::default(),
            late: false,
        };
        scene.law.srtt = Span::of(RTT);
        scene.send(100);
        scene.law.end_acks(100 * MTU);
        scene
    }

    fn queue(&mut self) -> &mut QueueSignals {
        self.signals.queue.get_or_insert(QUEUE)
    }

    /// This flow alone has so much in the queue.
    fn backlog(&mut self, bytes: u64) {
        let queue = self.queue();
        (queue.own, queue.own_flow, queue.shared, queue.total) = (bytes, bytes, bytes, bytes);
    }

    fn sample(&mut self) -> Decision {
        let (base, effects) = (self.base, self.effects);
        self.law
            .on_sample(self.now, &self.signals, base, effects, Occasion::Other)
    }

    fn sample_at_acks(&mut self) -> Decision {
        self.sample_at_acks_of(false)
    }

    fn sample_at_acks_of(&mut self, app_limited: bool) -> Decision {
        let (base, effects) = (self.base, self.effects);
        let occasion = Occasion::Acks { app_limited };
        self.law
            .on_sample(self.now, &self.signals, base, effects, occasion)
    }

    fn instant(&self, time: Time) -> Instant {
        self.start + Duration::from(time.since(Time::ORIGIN))
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Sends datagrams, which the source observes at once.
    fn send(&mut self, datagrams: u64) {
        self.send_unobserved(datagrams);
        self.signals.observed += datagrams;
        self.signals.unobserved -= datagrams;
    }

    /// Sends datagrams that the source does not observe, or not yet.
    fn send_unobserved(&mut self, datagrams: u64) {
        self.send_bytes(datagrams, datagrams * MTU);
    }

    fn send_bytes(&mut self, datagrams: u64, bytes: u64) {
        self.sample();
        let missing = self.signals.unobserved;
        self.signals.unobserved += datagrams;
        let sent = Sent {
            packets: self.signals.observed + self.signals.unobserved,
            missing,
        };
        let now = self.instant(self.now);
        self.law.on_sent(now, bytes, sent, self.base.window);
    }

    fn ack(&mut self, datagrams: u64, sent: Time) {
        let sent = self.instant(sent);
        self.sample_at_acks();
        for _ in 0..datagrams {
            let observed = Observed {
                packets: self.signals.observed,
                missing: self.signals.unobserved,
                late: self.late,
            };
            self.law.on_ack(MTU, RTT);
            if self.law.is_check_due(sent)
                && let Some(Check::ObservedBut(lost)) = self.law.check(observed)
            {
                self.signals.unobserved -= lost;
            }
        }
        let in_flight = self.law.in_flight;
        self.law.end_acks(in_flight);
    }

    /// A round trip in which a few batches are sent and the first of them is acknowledged; `send`
    /// says how.
    fn round(&mut self, send: impl Fn(&mut Self)) {
        let sent = self.now;
        for _ in 0..10 {
            send(self);
            self.wait(RTT / 10);
        }
        self.ack(10, sent);
        self.sample();
    }

    fn window(&self) -> CappedWindow {
        self.law.window(self.base.window, &self.signals)
    }

    /// The queue has a standing backlog until the cap is in force.
    fn engage(&mut self, backlog: u64) {
        self.backlog(backlog);
        for _ in 0..6 {
            self.sample();
            self.wait(MS);
        }
        assert_eq!(self.law.mode, Mode::Engaged);
    }
}
