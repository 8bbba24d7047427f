//! The input of the control law.

/// The state of this host as one controller has to see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signals {
    /// Whether the source still observes the flow.
    pub(crate) live: bool,
    /// Packets of the flow that the source saw, wherever they got to. Counter.
    pub(crate) observed: u64,
    /// Packets that were sent and not yet observed.
    pub(crate) unobserved: u64,
    /// Packets of the flow that the queue dropped. Counter.
    pub(crate) drops: u64,
    /// Packets of the flow that a firewall dropped before they came to a queue. Counter.
    pub(crate) policy_drops: u64,
    /// The queue, where one is known.
    pub(crate) queue: Option<QueueSignals>,
}

/// The queue as one controller has to see it, bytes on the wire.
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
    /// Bytes of everybody that may be in front of the flow's, as far as is known.
    pub(crate) total: u64,
    /// What is known of others in it.
    pub(crate) others: Others,
    /// Times the queue ran empty. Counter.
    pub(crate) drained: u64,
    /// Bytes that the queue still takes before it drops, where its limit is known.
    pub(crate) room: Option<u64>,
    /// The queue's limit for all governed flows together.
    pub(crate) limit: u64,
    /// What governed flows may have over what matches the others, to have that on average.
    pub(crate) boost: u64,
    /// Other controllers of this process that want to send more into this queue.
    pub(crate) others_share: u32,
    /// What those who want to send more, this controller among them, send on average, bytes a
    /// second; 0 where no others do.
    pub(crate) mean_rate: u64,
}

/// What a source knows of others' packets in a flow's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Others {
    /// All are counted, in one queue that is left in the order it was entered.
    #[default]
    Counted,
    /// All are counted, but in a tree of queues: they may be in other classes than the flow's.
    Classes,
    /// The queue keeps flows apart: none are in front of this one's.
    Apart,
    /// Nothing: there may be some in front.
    Unknown,
}
