//! The input of the control law.

/// The state of this host, for one controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signals {
    /// Whether the source still observes the flow.
    pub(crate) live: bool,
    /// Packets of the flow that the source observed, sent or dropped. Counter.
    pub(crate) observed: u64,
    /// Packets that were sent and not yet observed.
    pub(crate) unobserved: u64,
    /// Packets of the flow that the queue dropped. Counter.
    pub(crate) drops: u64,
    /// Packets of the flow that a firewall dropped before they entered a queue. Counter.
    pub(crate) policy_drops: u64,
    /// The queue, where one is known.
    pub(crate) queue: Option<QueueSignals>,
}

/// The queue, for one controller; bytes on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueSignals {
    /// Which queue.
    pub(crate) id: usize,
    /// This controller's part of the flow's backlog, and what it sent that was not yet observed.
    pub(crate) own: u64,
    /// Bytes of the flow, as the source reports them.
    pub(crate) own_flow: u64,
    /// Bytes of all governed flows.
    pub(crate) shared: u64,
    /// Bytes of all flows that may be in front of this one's, as far as is known.
    pub(crate) total: u64,
    /// What is known of competing traffic in it.
    pub(crate) others: Others,
    /// Times the queue ran empty. Counter.
    pub(crate) drained: u64,
    /// Bytes until the queue drops, where its limit is known.
    pub(crate) room: Option<u64>,
    /// The queue's limit for all governed flows together.
    pub(crate) limit: u64,
    /// What governed flows may have in addition to matching the others, to match them on average.
    pub(crate) boost: u64,
    /// Other controllers of this process that want to send more into this queue.
    pub(crate) others_share: u32,
    /// The mean rate of the controllers that want to send more, with this one, bytes a second; 0 where
    /// there are no others.
    pub(crate) mean_rate: u64,
}

/// What a source knows of others' packets in a flow's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Others {
    /// All are counted, in one FIFO.
    #[default]
    Counted,
    /// All are counted, but in a tree of queues: they may be in other classes than the flow's.
    Classes,
    /// Flow queueing: none are in front of this flow's.
    Apart,
    /// Nothing: some may be in front.
    Unknown,
}
