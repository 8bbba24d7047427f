//! A flow that driven controllers use: what the source reports of it, and the link that it enters.

use std::sync::Arc;

use ebpf_congestion_signals::{MockFlow, MockSource, QueueId, QueueSample};

use super::Op;
use super::link::Link;
use crate::{Factory, Governors};

pub(super) struct Flow {
    mock: MockFlow,
    pub(super) governor: Arc<Factory>,
    pub(super) link: Link,
    pub(super) deaf: bool,
    pub(super) live: bool,
    /// Datagrams that the kernel will refuse, and whether the socket reports it.
    pub(super) to_refuse: u64,
    pub(super) reported: bool,
    /// Reductions that the report has counted.
    reductions: u64,
}

impl Flow {
    pub(super) fn new(source: &MockSource, governors: &Governors) -> Self {
        let mock = source.add_flow();
        Self {
            governor: governors.watch(mock.watch()),
            mock,
            link: Link {
                queue: QueueId::new(0),
                ..Link::default()
            },
            deaf: false,
            live: true,
            to_refuse: 0,
            reported: false,
            reductions: 0,
        }
    }

    /// What happens to the link or to the source.
    pub(super) fn apply(&mut self, op: &Op) {
        match *op {
            Op::Drain(hundreds) => {
                self.link.drain(u64::from(hundreds) * 100);
                self.tell();
            }
            Op::Others(hundreds) => {
                self.link.others = u64::from(hundreds) * 100;
                self.tell();
            }
            Op::Drop(datagrams) => self.link.to_drop = u64::from(datagrams),
            Op::Limit(hundreds) => {
                self.link.limit = (hundreds > 0).then_some(u64::from(hundreds) * 100);
                self.tell();
            }
            Op::Rule(datagrams) => self.link.to_take = u64::from(datagrams),
            Op::Queue(index) => {
                self.link.queue = QueueId::new(usize::from(index));
                self.link.own = 0;
                self.tell();
            }
            Op::Deaf(deaf) => {
                self.deaf = deaf;
                self.tell();
            }
            Op::Live(live) => {
                self.live = live;
                self.tell();
            }
            Op::Say {
                observed,
                drops,
                policy_drops,
                own,
                shared,
                total,
                drained,
            } => {
                let id = self.link.queue;
                self.mock.set(|sample| {
                    sample.congestion.observed_packets = Some(observed);
                    sample.congestion.queue_drops = Some(drops);
                    sample.congestion.policy_drops = Some(policy_drops);
                    sample.congestion.queue = id.map(|id| {
                        QueueSample::new(id)
                            .with_own(own)
                            .with_shared(shared)
                            .with_total(total)
                            .with_drained(drained)
                    });
                });
            }
            _ => unreachable!("{op:?} does not happen to a flow"),
        }
    }

    /// A batch of so many datagrams, each of so many bytes on the wire, is sent.
    pub(super) fn accept(&mut self, batch: u64, datagram: u64) {
        let refused = batch.min(self.to_refuse);
        self.to_refuse -= refused;
        if self.reported
            && let Some(watched) = self.governor.flow()
        {
            watched.totals.forget(refused);
        }
        self.link.enter(batch - refused, datagram);
        self.tell();
    }

    /// Whether the law has reduced a base since the last call.
    pub(super) fn counts_more_reductions(&mut self) -> bool {
        let report = self.governor.report();
        let reductions = report.local_drop_reductions + report.slow_start_exits;
        let before = std::mem::replace(&mut self.reductions, reductions);
        reductions > before
    }

    pub(super) fn tell(&mut self) {
        if self.deaf {
            return;
        }
        let (link, live) = (self.link, self.live);
        self.mock.set(|sample| {
            sample.congestion.live = live;
            sample.congestion.observed_packets = Some(link.observed);
            sample.congestion.queue_drops = Some(link.drops);
            sample.congestion.policy_drops = Some(link.taken);
            sample.congestion.queue = link.queue.map(|id| {
                QueueSample::new(id)
                    .with_own(link.own)
                    .with_shared(link.own)
                    .with_total(link.own + link.others)
                    .with_drained(link.drained)
                    .with_limit(link.limit)
            });
        });
    }
}
