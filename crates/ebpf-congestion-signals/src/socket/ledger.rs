//! What a socket has sent of late, and how much of that is still in this host.

use std::collections::VecDeque;

use super::truesize::Weight;

/// Sends kept: more than a send buffer of 2 MB holds of the smallest datagrams. Of more, the oldest
/// are taken to have left.
const KEPT_SENDS: usize = 4096;

/// Measurements without a sign of split batches after which batches are taken to stay whole.
const QUIET_MEASUREMENTS: u32 = 64;

/// Identifies a destination of a ledger; the caller assigns it.
pub type Destination = u32;

/// Sends of one socket, oldest first, and what of them the kernel still has.
///
/// The kernel reports how much memory (`truesize`) the packets in the send buffer take, of all
/// destinations together. The ledger turns that into bytes on the wire, and into each destination's
/// part: packets leave a queue in the order in which they came to it, so that what is still there is
/// what was sent last. A queue discipline that keeps flows apart has another order: then the parts
/// are off, and their sum is not.
///
/// Pure: no clock, no system call.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    sends: VecDeque<Send>,
    /// Sums over `sends`.
    sum: Weight,
    /// Sends so far.
    sequence: u64,
    /// Whether batches are charged as split.
    splits: bool,
    /// Measurements since the last sign that they are.
    quiet: u32,
    last: Measurement,
}

/// A send that may be in the host still, or what is left of it.
#[derive(Clone, Copy, Debug)]
struct Send {
    destination: Destination,
    weight: Weight,
}

/// What was measured last, and what was sent since.
#[derive(Clone, Copy, Debug, Default)]
struct Measurement {
    truesize: u64,
    sent: Weight,
}

impl Ledger {
    /// A ledger of a socket that has sent nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends so far: the argument of [`measured`](Self::measured).
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Bytes on the wire that are still in the host.
    pub fn backlog(&self) -> u64 {
        self.sum.wire
    }

    /// Whether everything has left, as far as known.
    pub fn is_empty(&self) -> bool {
        self.sends.is_empty()
    }

    /// Enters a send that the kernel accepted. In a full ledger the oldest send then counts as left, and
    /// `left` is called for it.
    pub fn sent(
        &mut self,
        destination: Destination,
        weight: Weight,
        left: &mut impl FnMut(Destination, u64),
    ) {
        if self.sends.len() >= KEPT_SENDS {
            self.leave_first(left);
        }
        self.sends.push_back(Send {
            destination,
            weight,
        });
        add(&mut self.sum, &weight);
        add(&mut self.last.sent, &weight);
        self.sequence += 1;
    }

    /// Updates the ledger with the kernel's `truesize` of the send buffer, when the socket had sent
    /// `sequence` times. `left` is called with the bytes on the wire that have left since, by destination.
    pub fn measured(
        &mut self,
        truesize: u64,
        sequence: u64,
        left: &mut impl FnMut(Destination, u64),
    ) {
        self.judge_splitting(truesize);
        // The kernel's answer does not include what was sent after it.
        let later = self.sequence.saturating_sub(sequence);
        let later = usize::try_from(later).unwrap_or(usize::MAX);
        let sent_later = self.sends.iter().rev().take(later);
        let splits = self.splits;
        let still = truesize
            + sent_later
                .map(|send| send.weight.truesize(splits))
                .sum::<u64>();
        while let Some(first) = self.sends.front() {
            let excess = self.sum.truesize(splits).saturating_sub(still);
            let first = first.weight.truesize(splits);
            if excess == 0 {
                break;
            }
            if excess < first {
                self.part_leaves(excess, first, left);
                break;
            }
            self.leave_first(left);
        }
        self.last = Measurement {
            truesize,
            sent: Weight::default(),
        };
    }

    /// What was sent since the last measurement adds at most what it is charged. More than whole
    /// batches can add shows that they are split.
    fn judge_splitting(&mut self, truesize: u64) {
        let Measurement {
            truesize: before,
            sent,
        } = self.last;
        if sent.split <= sent.whole {
            // Single datagrams show nothing.
            return;
        }
        let grown = truesize.saturating_sub(before);
        if grown > sent.whole.midpoint(sent.split) {
            self.splits = true;
            self.quiet = 0;
        } else if self.splits {
            self.quiet += 1;
            self.splits = self.quiet < QUIET_MEASUREMENTS;
        }
    }

    fn leave_first(&mut self, left: &mut impl FnMut(Destination, u64)) {
        if let Some(first) = self.sends.pop_front() {
            subtract(&mut self.sum, &first.weight);
            left(first.destination, first.weight.wire);
        }
    }

    /// `excess` of the `truesize` of the oldest send has left.
    fn part_leaves(&mut self, excess: u64, truesize: u64, left: &mut impl FnMut(Destination, u64)) {
        let Some(first) = self.sends.front_mut() else {
            return;
        };
        let part = |all: u64| all * excess / truesize;
        let gone = Weight {
            wire: part(first.weight.wire),
            whole: part(first.weight.whole),
            split: part(first.weight.split),
        };
        subtract(&mut first.weight, &gone);
        subtract(&mut self.sum, &gone);
        left(first.destination, gone.wire);
    }
}

impl Weight {
    fn truesize(&self, splits: bool) -> u64 {
        if splits { self.split } else { self.whole }
    }
}

fn add(sum: &mut Weight, more: &Weight) {
    sum.wire += more.wire;
    sum.whole += more.whole;
    sum.split += more.split;
}

fn subtract(sum: &mut Weight, less: &Weight) {
    sum.wire -= less.wire;
    sum.whole -= less.whole;
    sum.split -= less.split;
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::observer::SocketSend;

    fn batch(datagrams: usize) -> Weight {
        Weight::of(&SocketSend {
            destination: SocketAddr::from(([192, 0, 2, 1], 443)),
            bytes: datagrams * 1200,
            segment: Some(1200),
        })
    }

    /// A ledger, and what it says of each destination.
    #[derive(Default)]
    struct Account {
        ledger: Ledger,
        backlogs: HashMap<Destination, u64>,
    }

    impl Account {
        fn sent(&mut self, destination: Destination, weight: Weight) {
            *self.backlogs.entry(destination).or_default() += weight.wire;
            let backlogs = &mut self.backlogs;
            self.ledger
                .sent(destination, weight, &mut |destination, bytes| {
                    *backlogs.get_mut(&destination).unwrap() -= bytes;
                });
        }

        fn measured(&mut self, truesize: u64) {
            let sequence = self.ledger.sequence();
            self.measured_at(truesize, sequence);
        }

        fn measured_at(&mut self, truesize: u64, sequence: u64) {
            let backlogs = &mut self.backlogs;
            self.ledger
                .measured(truesize, sequence, &mut |destination, bytes| {
                    *backlogs.get_mut(&destination).unwrap() -= bytes;
                });
        }

        fn of(&self, destination: Destination) -> u64 {
            self.backlogs.get(&destination).copied().unwrap_or(0)
        }
    }

    #[test]
    fn what_was_sent_first_has_left_first() {
        let mut account = Account::default();
        for destination in [1, 2, 3] {
            account.sent(destination, batch(10));
        }
        account.measured(2 * batch(10).whole);
        assert_eq!(
            (account.of(1), account.of(2), account.of(3)),
            (0, 12_420, 12_420)
        );
        account.measured(batch(10).whole / 2);
        assert_eq!((account.of(1), account.of(2), account.of(3)), (0, 0, 6_210));
        assert_eq!(account.ledger.backlog(), 6_210);
    }

    #[test]
    fn an_empty_send_buffer_leaves_nothing() {
        let mut account = Account::default();
        account.sent(1, batch(3));
        account.sent(2, batch(1));
        account.measured(0);
        assert!(account.ledger.is_empty());
        assert_eq!((account.of(1), account.of(2)), (0, 0));
    }

    #[test]
    fn what_was_sent_after_a_reading_stays_in_the_ledger() {
        let mut account = Account::default();
        account.sent(1, batch(1));
        let asked = account.ledger.sequence();
        account.sent(2, batch(1));
        account.measured_at(0, asked);
        assert_eq!((account.of(1), account.of(2)), (0, batch(1).wire));
    }

    #[test]
    fn a_send_buffer_that_grew_by_more_than_whole_batches_holds_split_ones() {
        let mut account = Account::default();
        account.sent(1, batch(10));
        account.measured(batch(10).split);
        account.sent(1, batch(10));
        account.measured(batch(10).split);
        assert_eq!(account.ledger.backlog(), batch(10).wire);
    }

    #[test]
    fn batches_that_are_no_longer_split_are_found_out() {
        let mut account = Account::default();
        account.sent(1, batch(10));
        account.measured(batch(10).split);
        account.measured(0);
        for _ in 0..=QUIET_MEASUREMENTS {
            account.sent(1, batch(10));
            account.measured(batch(10).whole);
            account.measured(0);
        }
        account.sent(1, batch(10));
        account.sent(1, batch(10));
        account.measured(batch(10).whole);
        assert_eq!(account.ledger.backlog(), batch(10).wire);
    }

    #[test]
    fn a_socket_that_is_never_measured_keeps_a_bounded_number_of_sends() {
        let mut account = Account::default();
        for destination in 0..10_000 {
            account.sent(destination % 7, batch(1));
        }
        let kept = KEPT_SENDS as u64 * batch(1).wire;
        assert_eq!(account.ledger.backlog(), kept);
        assert_eq!(account.backlogs.values().sum::<u64>(), kept);
    }

    /// One thing that happens to a socket.
    #[derive(Clone, Debug)]
    enum Step {
        Send(Destination, usize),
        /// The queue sends this many packets.
        Leave(usize),
        Ask,
        /// The kernel reports an impossible value.
        Nonsense(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u32..4, 1usize..=10).prop_map(|(to, datagrams)| Step::Send(to, datagrams)),
            2 => (0usize..6).prop_map(Step::Leave),
            2 => Just(Step::Ask),
        ]
    }

    proptest! {
        /// A queue of whole batches, measured at any time: the ledger says exactly what is in it.
        #[test]
        fn the_ledger_of_a_fifo_is_exact(
            steps in proptest::collection::vec(step(), 1..200)
        ) {
            let mut account = Account::default();
            let mut queue = VecDeque::new();
            for step in steps {
                match step {
                    Step::Send(to, datagrams) => {
                        queue.push_back((to, batch(datagrams)));
                        account.sent(to, batch(datagrams));
                    }
                    Step::Leave(packets) => {
                        queue.drain(..packets.min(queue.len()));
                    }
                    _ => account.measured(queue.iter().map(|(_, weight)| weight.whole).sum()),
                }
            }
            account.measured(queue.iter().map(|(_, weight)| weight.whole).sum());
            for to in 0..4 {
                let inside = queue.iter().filter(|(other, _)| *other == to);
                let inside: u64 = inside.map(|(_, weight)| weight.wire).sum();
                prop_assert_eq!(account.of(to), inside);
            }
        }

        /// Whatever the kernel reports, the parts are never negative and add up to the whole, which is
        /// no more than was sent.
        #[test]
        fn the_parts_add_up_whatever_is_measured(
            steps in proptest::collection::vec(
                prop_oneof![3 => step(), 1 => (0u64..1 << 40).prop_map(Step::Nonsense)],
                1..200,
            )
        ) {
            let mut account = Account::default();
            let mut sent = 0;
            for step in steps {
                match step {
                    Step::Send(to, datagrams) => {
                        account.sent(to, batch(datagrams));
                        sent += batch(datagrams).wire;
                    }
                    Step::Leave(packets) => {
                        let asked = account.ledger.sequence().saturating_sub(packets as u64);
                        account.measured_at(2304, asked);
                    }
                    Step::Ask => account.measured(0),
                    Step::Nonsense(truesize) => account.measured(truesize),
                }
                prop_assert!(account.ledger.backlog() <= sent);
                prop_assert_eq!(account.backlogs.values().sum::<u64>(), account.ledger.backlog());
            }
        }
    }
}
