//! How a TCP sender's window grows and shrinks, in packets.

use std::time::Duration;

use super::time::SimTime;

/// The congestion control of a TCP flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcpLaw {
    /// RFC 9438, with the delay-based end of slow start that Linux's has (HyStart).
    #[default]
    Cubic,
    /// RFC 5681 and RFC 6582.
    NewReno,
}

/// RFC 6928: ten packets to begin with.
const INITIAL_WINDOW: f64 = 10.0;

/// RFC 9438 section 4.1, 4.6.
const CUBIC_C: f64 = 0.4;
const CUBIC_BETA: f64 = 0.7;

/// RFC 5681 section 3.1: half.
const RENO_BETA: f64 = 0.5;

/// RFC 9406 section 4.2: how much longer than in the round before round trips must be for slow
/// start to end, and how many of them must be seen in a round.
const HYSTART_MIN: Duration = Duration::from_millis(4);
const HYSTART_MAX: Duration = Duration::from_millis(16);
const HYSTART_SAMPLES: u32 = 8;

/// The window of one flow.
#[derive(Clone, Debug)]
pub(super) struct Window {
    law: TcpLaw,
    pub(super) packets: f64,
    threshold: f64,
    /// Window before the last reduction, and when the curve towards it began.
    last_max: f64,
    epoch: Option<SimTime>,
    origin: f64,
    inflection: f64,
    /// What a Reno flow would have by now (RFC 9438 section 4.3).
    reno: f64,
    round: Round,
}

/// Least round trips of a round and of the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    last: Option<Duration>,
    least: Option<Duration>,
    samples: u32,
}

impl Window {
    pub(super) fn new(law: TcpLaw) -> Self {
        Self {
            law,
            packets: INITIAL_WINDOW,
            threshold: f64::INFINITY,
            last_max: 0.0,
            epoch: None,
            origin: 0.0,
            inflection: 0.0,
            reno: 0.0,
            round: Round::default(),
        }
    }

    pub(super) fn in_slow_start(&self) -> bool {
        self.packets < self.threshold
    }

    /// So many packets were acknowledged while the window was what limited the flow.
    pub(super) fn on_ack(&mut self, now: SimTime, acked: u32, rtt: Duration) {
        let acked = f64::from(acked);
        if self.in_slow_start() {
            self.packets += acked;
            return;
        }
        match self.law {
            TcpLaw::NewReno => self.packets += acked / self.packets,
            TcpLaw::Cubic => self.grow_cubic(now, acked, rtt),
        }
    }

    fn grow_cubic(&mut self, now: SimTime, acked: f64, rtt: Duration) {
        let began = *self.epoch.get_or_insert_with(|| {
            self.origin = self.packets.max(self.last_max);
            self.inflection = ((self.origin - self.packets) / CUBIC_C).cbrt();
            self.reno = self.packets;
            now
        });
        let time = (now.since(began) + rtt).as_secs_f64() - self.inflection;
        let target = self.origin + CUBIC_C * time.powi(3);
        let target = target.clamp(self.packets, 1.5 * self.packets);
        self.packets += acked * (target - self.packets) / self.packets;
        let alpha = 3.0 * (1.0 - CUBIC_BETA) / (1.0 + CUBIC_BETA);
        self.reno += alpha * acked / self.packets;
        self.packets = self.packets.max(self.reno);
    }

    /// A round trip was measured.
    pub(super) fn on_rtt(&mut self, rtt: Duration) {
        let round = &mut self.round;
        round.samples += 1;
        round.least = Some(round.least.map_or(rtt, |least| least.min(rtt)));
        if self.law == TcpLaw::Cubic
            && self.packets < self.threshold
            && round.samples >= HYSTART_SAMPLES
            && let (Some(last), Some(least)) = (round.last, round.least)
            && least >= last + (last / 8).clamp(HYSTART_MIN, HYSTART_MAX)
        {
            self.threshold = self.packets;
        }
    }

    /// All that was in flight when the last round began is acknowledged.
    pub(super) fn on_round(&mut self) {
        self.round = Round {
            last: self.round.least,
            least: None,
            samples: 0,
        };
    }

    /// Congestion: a loss, or a drop by the own host.
    pub(super) fn reduce(&mut self) {
        let beta = match self.law {
            TcpLaw::Cubic => CUBIC_BETA,
            TcpLaw::NewReno => RENO_BETA,
        };
        // Fast convergence (RFC 9438 section 4.7).
        self.last_max = if self.packets < self.last_max {
            self.packets * (1.0 + beta) / 2.0
        } else {
            self.packets
        };
        self.packets = (self.packets * beta).max(2.0);
        self.threshold = self.packets;
        self.epoch = None;
    }

    /// Nothing was acknowledged for a retransmission timeout.
    pub(super) fn time_out(&mut self) {
        self.reduce();
        self.packets = 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(20);

    /// Windows after each of so many round trips of full windows.
    fn rounds(window: &mut Window, rtt: Duration, count: u32) -> Vec<f64> {
        (0..count)
            .map(|round| {
                let now = SimTime::ZERO + rtt * round;
                let acked = u32::try_from(super::super::number::whole(window.packets)).unwrap();
                window.on_ack(now, acked, rtt);
                window.packets
            })
            .collect()
    }

    #[test]
    fn slow_start_doubles_and_a_loss_ends_it() {
        let mut window = Window::new(TcpLaw::NewReno);
        assert_eq!(rounds(&mut window, RTT, 2), [20.0, 40.0]);
        window.reduce();
        assert_eq!(window.packets, 20.0);
        let grown = rounds(&mut window, RTT, 1)[0];
        assert!((20.9..21.1).contains(&grown), "one packet a round trip");
    }

    #[test]
    fn cubic_returns_to_where_it_was_and_rests_there() {
        let mut window = Window::new(TcpLaw::Cubic);
        window.packets = 200.0;
        window.reduce();
        assert_eq!(window.packets, 140.0);
        // Long round trips, or it would grow as Reno does. The inflection is after the cube root
        // of 60 / 0.4, 5.3 s: 27 round trips.
        let grown = rounds(&mut window, 10 * RTT, 27);
        assert!((195.0..205.0).contains(&grown[26]), "{}", grown[26]);
        let (early, late) = (grown[5] - grown[0], grown[26] - grown[21]);
        assert!(early > 4.0 * late, "steep first, flat at the end");
    }

    #[test]
    fn slow_start_ends_when_round_trips_grow() {
        let mut window = Window::new(TcpLaw::Cubic);
        for rtt in [RTT, RTT * 2] {
            for _ in 0..HYSTART_SAMPLES {
                window.on_rtt(rtt);
            }
            window.on_round();
        }
        assert!(!window.in_slow_start());
    }
}
