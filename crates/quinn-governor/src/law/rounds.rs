//! What the path holds without the queue's part.

use super::constants::Tuning;
use super::signals::QueueSignals;
use crate::time::{Span, Time};

/// The most that was in flight and not in the queue: in this round trip, and before. Earlier values
/// count a sixteenth less with each round trip.
///
/// After a stall of its processor a sender processes many acknowledgements at once, and the queue is
/// empty. A cap that follows what is in flight would admit a few datagrams then, and the rest only
/// once these are acknowledged: the ACK gap would return each round trip. So once the queue was found
/// empty, as much may be in flight as the path held, until the gap is filled, the queue holds more
/// than bursts of the pacer explain, or competing traffic is in it. A sender that resumes after a
/// pause of its application regains its part beside competing traffic as well.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds {
    began: Option<Time>,
    on_path: Peak,
    total: Peak,
    filling: bool,
    /// What was in flight before a pause of the application, while that is refilled; else 0.
    paused: u64,
}

/// The most in this round trip and, decayed, in those before.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    this: u64,
    last: u64,
}

impl Peak {
    fn of_both(self) -> u64 {
        self.this.max(self.last)
    }

    fn next_round(&mut self, rounds: u64) {
        self.last = self.this.max(self.last - self.last / rounds);
        self.this = 0;
    }
}

impl Rounds {
    pub(crate) fn update(
        &mut self,
        now: Time,
        in_flight: u64,
        own: u64,
        srtt: Span,
        tuning: &Tuning,
    ) {
        let began = *self.began.get_or_insert(now);
        if now.since(began) >= srtt {
            let rounds = u64::from(tuning.release_rounds).max(1);
            self.on_path.next_round(rounds);
            self.total.next_round(rounds);
            self.began = Some(now);
        }
        self.on_path.this = self.on_path.this.max(in_flight.saturating_sub(own));
        self.total.this = self.total.this.max(in_flight);
    }

    /// The most that may be on the path in this round trip: a sixteenth more than before. With an empty
    /// queue, which no longer limits this sender, the flight could double within one. No bound while
    /// nothing was measured.
    pub(crate) fn growth(&self, tuning: &Tuning) -> u64 {
        match self.on_path.last {
            0 => u64::MAX,
            last => last.saturating_add(last / u64::from(tuning.release_rounds).max(1)),
        }
    }

    /// The most that was in flight without the queue's part.
    pub(crate) fn peak(&self) -> u64 {
        self.on_path.of_both()
    }

    /// What may be in flight whatever the backlog, 0 for none.
    pub(crate) fn refill(
        &mut self,
        queue: &QueueSignals,
        in_flight: u64,
        mtu: u64,
        app_limited: bool,
        outgrown: bool,
    ) -> u64 {
        // Complete when no other datagram fits: a connection sends while in flight + datagram < window.
        let next = in_flight.saturating_add(mtu);
        let begins = in_flight == 0;
        if begins {
            let before = if app_limited {
                self.total
            } else {
                self.on_path
            };
            self.paused = before.of_both();
        } else if next >= self.paused || !self.filling {
            self.paused = 0;
        }
        let own_only = queue.total <= queue.own_flow || self.paused > 0;
        let begins = begins || queue.total == 0;
        let peak = self.peak().max(self.paused);
        self.filling = own_only && !outgrown && (begins || self.filling && next < peak);
        if self.filling { peak } else { 0 }
    }
}
