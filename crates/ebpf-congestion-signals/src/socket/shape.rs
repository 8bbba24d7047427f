//! What the queue disciplines of a device amount to.

use super::netlink::Qdisc;
use crate::sample::{LIMITED_BY_BYTES, QueueLimit};

/// Kinds that send in the order of arrival, or nearly so: who has bytes in one waits for all that
/// is before him.
const IN_ORDER: [&str; 8] = [
    "bfifo",
    "codel",
    "netem",
    "pfifo",
    "pfifo_fast",
    "pfifo_head_drop",
    "pie",
    "tbf",
];

/// Kinds with a queue for each flow: no bytes of others wait in front of a flow's own.
const APART: [&str; 5] = ["cake", "fq", "fq_codel", "fq_pie", "sfq"];

/// Kinds that shape what one child queues.
const SHAPERS: [&str; 5] = ["hfsc", "htb", "mq", "netem", "tbf"];

/// Which competing traffic waits in front of a flow's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Everything waits in one queue in the order of arrival: what the root has in it is what a
    /// packet that comes now waits for.
    OfArrival,
    /// Every flow waits for itself.
    Apart,
    /// Not known: there are several queues, and which of them is a flow's is not reported.
    Unknown,
}

/// What the disciplines of a device amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) root: Qdisc,
    pub(super) order: Order,
    pub(super) limit: Option<QueueLimit>,
}

impl Shape {
    /// From all queue disciplines of a device, in any order. `None` without a root.
    pub(super) fn of(qdiscs: &[Qdisc]) -> Option<Self> {
        let root = qdiscs.iter().find(|qdisc| qdisc.is_root())?;
        let mut last = root;
        let mut shaped = true;
        loop {
            let mut below = qdiscs.iter().filter(|qdisc| is_below(qdisc, last));
            match (below.next(), below.next()) {
                (None, _) => break,
                (Some(only), None) => {
                    shaped &= SHAPERS.contains(&last.kind.as_str());
                    last = only;
                }
                // Packets go separate ways.
                (Some(_), Some(_)) => {
                    shaped = false;
                    break;
                }
            }
        }
        let order = match last.kind.as_str() {
            kind if shaped && IN_ORDER.contains(&kind) => Order::OfArrival,
            kind if shaped && APART.contains(&kind) => Order::Apart,
            _ => Order::Unknown,
        };
        let limit = last.limit.filter(|_| shaped || last == root);
        Some(Self {
            root: root.clone(),
            order,
            // The last one has no child that is shown: of a token bucket, that is its own.
            limit: limit
                .and_then(|limit| QueueLimit::of(last.kind.first_word(), LIMITED_BY_BYTES, limit)),
        })
    }
}

/// Whether a discipline is attached to a class of another. A leaf has no handle and no children.
fn is_below(qdisc: &Qdisc, above: &Qdisc) -> bool {
    let major = |handle: u32| handle >> 16;
    above.handle != 0 && !qdisc.is_root() && major(qdisc.parent) == major(above.handle)
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::tc::TcHandle;

    use super::*;
    use crate::sample::QdiscName;

    const ROOT: u32 = u32::MAX;

    fn qdisc(kind: &str, handle: u32, parent: u32, limit: u32) -> Qdisc {
        Qdisc {
            ifindex: 7,
            handle,
            parent,
            kind: QdiscName::from_name(kind),
            limit: (limit > 0).then_some(limit),
            backlog: 5000,
            packets: 4,
            drops: 3,
        }
    }

    fn shape(qdiscs: &[Qdisc]) -> (Order, Option<QueueLimit>) {
        let shape = Shape::of(qdiscs).unwrap();
        (shape.order, shape.limit)
    }

    #[test]
    fn a_shaper_over_one_queue_is_as_that_queue() {
        let tbf = qdisc("tbf", 0x8001_0000, ROOT, 150_000);
        let hidden = qdisc("bfifo", 0, 0x8001_0001, 150_000);
        let bytes = Some(QueueLimit::Bytes(150_000));
        assert_eq!(shape(&[hidden, tbf.clone()]), (Order::OfArrival, bytes));
        let packets = Some(QueueLimit::Packets(10));
        let child = qdisc("pfifo", 0x0001_0000, 0x8001_0001, 10);
        assert_eq!(shape(&[tbf, child]), (Order::OfArrival, packets));
    }

    #[test]
    fn of_queues_beside_one_another_nothing_is_known() {
        let htb = qdisc("htb", 0x0001_0000, ROOT, 0);
        let first = qdisc("pfifo", 0, 0x0001_0010, 100);
        let second = qdisc("pfifo", 0, 0x0001_0020, 100);
        let packets = Some(QueueLimit::Packets(100));
        assert_eq!(
            shape(&[htb.clone(), first.clone()]),
            (Order::OfArrival, packets)
        );
        assert_eq!(shape(&[htb, first, second]), (Order::Unknown, None));
    }

    #[test]
    fn in_a_queue_that_keeps_flows_apart_nobody_waits_for_others() {
        let fair = qdisc("fq_codel", 0x0001_0000, ROOT, 10_240);
        let ingress = qdisc("clsact", 0xffff_0000, TcHandle::CLSACT.into(), 0);
        let packets = Some(QueueLimit::Packets(10_240));
        assert_eq!(shape(&[ingress.clone(), fair]), (Order::Apart, packets));
        assert_eq!(Shape::of(&[ingress]), None);
    }
}
