//! What the path holds besides the queue.

use super::constants::Tuning;
use super::signals::QueueSignals;
use crate::time::{Span, Time};

/// The most that was in flight and not in the queue: in this round trip, and before. What was before
/// counts a sixteenth less with each round trip.
///
/// A sender whose processor was taken away finds many acknowledgements at once when it runs again,
/// and the queue empty. A cap that follows what is in flight would let a few datagrams pass then,
/// and hold the rest until they are acknowledged: the gap between acknowledgements would come back
/// each round trip. So once the queue was found empty as much may be in flight as fitted besides it,
/// until the gap is filled, the queue holds more than bursts of the pacer explain, or competing
/// traffic is in it. A sender that begins again after a pause of its application gets its part back
/// from competing traffic as well.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds {
    began: Option<Time>,
    besides: Peak,
    all: Peak,
    filling: bool,
    /// What was in flight before a pause of the application, while that is filled; else 0.
    paused: u64,
}

/// The most in this round trip and, less what is forgotten, in those before.
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
    pub(crate) fn look(
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
            self.besides.next_round(rounds);
            self.all.next_round(rounds);
            self.began = Some(now);
        }
        self.besides.this = self.besides.this.max(in_flight.saturating_sub(own));
        self.all.this = self.all.this.max(in_flight);
    }

    /// The most besides the queue that there may be in this round trip: a sixteenth more than before.
    /// A queue that is empty, because it is no longer what limits this sender, would let it double
    /// within one. Anything after none.
    pub(crate) fn growth(&self, tuning: &Tuning) -> u64 {
        match self.besides.last {
            0 => u64::MAX,
            last => last.saturating_add(last / u64::from(tuning.release_rounds).max(1)),
        }
    }

    /// The most that was in flight besides the queue.
    pub(crate) fn peak(&self) -> u64 {
        self.besides.of_both()
    }

    /// What may be in flight whatever is in the queue, 0 for nothing.
    pub(crate) fn refill(
        &mut self,
        queue: &QueueSignals,
        in_flight: u64,
        mtu: u64,
        app_limited: bool,
        outgrown: bool,
    ) -> u64 {
        // Filled when no other datagram fits: a connection sends while in flight + datagram < window.
        let next = in_flight.saturating_add(mtu);
        let begins = in_flight == 0;
        if begins {
            let before = if app_limited { self.all } else { self.besides };
            self.paused = before.of_both();
        } else if next >= self.paused || !self.filling {
            self.paused = 0;
        }
        let mine = queue.total <= queue.own_flow || self.paused > 0;
        let begins = begins || queue.total == 0;
        let peak = self.peak().max(self.paused);
        self.filling = mine && !outgrown && (begins || self.filling && next < peak);
        if self.filling { peak } else { 0 }
    }
}
