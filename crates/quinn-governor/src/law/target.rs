//! How much may be queued: by all controllers together, and by one of them.

use super::constants::{Tuning, WIRE_OVERHEAD};
use super::signals::QueueSignals;
use super::standing::{Competing, is_half_full};

/// What the law derives from a queue's state for one controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Bytes that this controller may keep in the queue.
    pub(crate) share: u64,
    /// Bytes that it may still add. Zero when its backlog is its share, or the queue is full.
    pub(crate) allowance: u64,
    /// Whether this process's limit for the queue determined the allowance, and not competing traffic
    /// or the room in the queue.
    pub(crate) limit_decides: bool,
}

impl Target {
    /// All governed flows together may have as much in the queue as competing traffic has (in a FIFO
    /// the share of the queue is the share of the link), or the queue's limit where that is more or the
    /// queue runs empty from time to time. Each has an equal part of that, at least one datagram, and
    /// none may add more than the queue has room for.
    pub(crate) fn of(queue: &QueueSignals, sender: &Sender, tuning: &Tuning) -> Self {
        let mtu = sender.mtu;
        let others = queue.total.saturating_sub(queue.shared);
        let matched = match sender.competing {
            Competing::No => 0,
            // Slow start would overflow a queue that is more than half full.
            Competing::Unknown if is_half_full(queue) => others / 2,
            Competing::Unknown | Competing::Yes => {
                let at_once = others - others / tuning.match_margin_divisor;
                at_once.saturating_add(queue.boost.min(others))
            }
        };
        let together = queue.limit.max(matched);
        let part = match queue.others_share {
            0 => together,
            others => {
                let equal = together / (u64::from(others) + 1);
                weighted(equal, sender.rate, queue.mean_rate, tuning)
            }
        };
        let share = part.max(mtu + WIRE_OVERHEAD);
        let free = share.saturating_sub(queue.own);
        let room = queue.room.map_or(u64::MAX, |wire| payload_of(wire, mtu));
        Self {
            share,
            allowance: free.min(room),
            limit_decides: queue.limit >= matched && free <= room,
        }
    }
}

/// What the target depends on besides the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    /// Bytes of a full datagram's payload.
    pub(crate) mtu: u64,
    /// This controller's sending rate, bytes a second. Only used where others share the queue.
    pub(crate) rate: u64,
    /// Whether competing traffic keeps the queue from running empty.
    pub(crate) competing: Competing,
}

/// What governed flows should have in a queue on average beside `others` bytes of competing traffic:
/// four fifths.
pub(crate) fn match_of(others: u64) -> u64 {
    others - others / 5
}

/// The payload that fits into `wire` bytes of the queue.
fn payload_of(wire: u64, mtu: u64) -> u64 {
    wire / (mtu + WIRE_OVERHEAD) * mtu
        + (wire % (mtu + WIRE_OVERHEAD)).saturating_sub(WIRE_OVERHEAD)
}

/// More than an equal part for those that send less than the mean, less for those that send more.
///
/// Equal parts of a FIFO make equal rates only while each flow has something in it. In a queue this
/// short, acknowledgements arrive in trains, one controller's after another's; each refills its part
/// while its train arrives, and a long train stays long.
fn weighted(part: u64, rate: u64, mean: u64, tuning: &Tuning) -> u64 {
    if rate == 0 || mean == 0 {
        return part;
    }
    let bounded = mean.clamp(
        rate / tuning.max_weight,
        rate.saturating_mul(tuning.max_weight),
    );
    let weighted = u128::from(part) * u128::from(bounded) / u128::from(rate);
    u64::try_from(weighted).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::law::Others;

    const QUEUE: QueueSignals = QueueSignals {
        id: 0,
        own: 0,
        own_flow: 0,
        shared: 0,
        total: 0,
        others: Others::Counted,
        drained: 0,
        room: None,
        limit: 6_000,
        boost: 0,
        others_share: 0,
        mean_rate: 0,
    };

    const SENDER: Sender = Sender {
        mtu: 1200,
        rate: 0,
        competing: Competing::Yes,
    };

    #[test]
    fn alone_the_limit_is_the_target() {
        let target = Target::of(
            &QueueSignals {
                own: 2_000,
                shared: 2_000,
                total: 2_000,
                ..QUEUE
            },
            &SENDER,
            &Tuning::STANDARD,
        );
        assert_eq!((target.share, target.allowance), (6_000, 4_000));
        assert!(target.limit_decides);
    }

    #[test]
    fn beside_others_governed_flows_keep_nearly_as_much_as_they_do() {
        let target = Target::of(
            &QueueSignals {
                own: 10_000,
                shared: 20_000,
                total: 120_000,
                others_share: 1,
                ..QUEUE
            },
            &SENDER,
            &Tuning::STANDARD,
        );
        assert_eq!((target.share, target.allowance), (43_750, 33_750));
        assert!(!target.limit_decides);
    }

    #[test]
    fn what_was_less_on_average_is_made_up_for() {
        let queue = |boost| QueueSignals {
            total: 100_000,
            boost,
            ..QUEUE
        };
        let share = |boost| Target::of(&queue(boost), &SENDER, &Tuning::STANDARD).share;
        assert_eq!(share(5_000), share(0) + 5_000);
        assert_eq!(share(u64::MAX), share(0) + 100_000);
    }

    #[test]
    fn others_that_leave_the_queue_empty_now_and_then_are_not_matched() {
        let queue = QueueSignals {
            total: 100_000,
            ..QUEUE
        };
        let sender = Sender {
            competing: Competing::No,
            ..SENDER
        };
        let target = Target::of(&queue, &sender, &Tuning::STANDARD);
        assert_eq!(target.share, 6_000);
        assert!(target.limit_decides);
    }

    #[test]
    fn a_new_flow_matches_others_but_half_of_them_in_a_queue_more_than_half_full() {
        let sender = Sender {
            competing: Competing::Unknown,
            ..SENDER
        };
        let share = |room| {
            let queue = QueueSignals {
                total: 80_000,
                room,
                ..QUEUE
            };
            Target::of(&queue, &sender, &Tuning::STANDARD).share
        };
        assert_eq!(share(Some(80_000)), 70_000);
        assert_eq!(share(Some(79_999)), 40_000);
        assert_eq!(share(None), 70_000);
    }

    #[test]
    fn nothing_is_added_that_the_queue_would_drop() {
        let full = |room| {
            let queue = QueueSignals {
                own: 2_000,
                total: 120_000,
                room: Some(room),
                ..QUEUE
            };
            Target::of(&queue, &SENDER, &Tuning::STANDARD).allowance
        };
        assert_eq!(full(0), 0);
        assert_eq!(full(62), 0);
        assert_eq!(full(2 * 1262), 2400);
        assert!(full(1 << 20) > 90_000);
    }

    #[test]
    fn any_number_of_controllers_may_each_keep_a_datagram() {
        let target = Target::of(
            &QueueSignals {
                others_share: 49,
                ..QUEUE
            },
            &SENDER,
            &Tuning::STANDARD,
        );
        assert!(target.allowance > 1200);
    }

    #[test]
    fn the_largest_gauges_do_not_overflow() {
        let target = Target::of(
            &QueueSignals {
                total: u64::MAX,
                ..QUEUE
            },
            &SENDER,
            &Tuning::STANDARD,
        );
        assert!(target.share > u64::MAX / 2);
    }
}
