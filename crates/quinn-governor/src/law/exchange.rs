//! Types passed between [`Law`](super::Law) and its controller.

use crate::time::Span;

/// What is read of the wrapped controller (the base).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base {
    pub(crate) window: u64,
    pub(crate) slow_start: bool,
}

/// What calls of [`Law::window`](super::Law::window) left behind since the last acknowledgements.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    /// The window was under base's at least once.
    pub(crate) capped: bool,
    /// The queue's `drained` when the cap first held a datagram back that base would have let
    /// pass, if the queue's own limit was the reason.
    pub(crate) held_by_limit: Option<u64>,
}

/// A batch, as the counts of its flow's packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// Packets that the flow has sent with it, on the scale of those observed.
    pub(crate) packets: u64,
    /// Packets that were sent before it and not yet observed.
    pub(crate) missing: u64,
}

/// What the source has observed of a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed {
    /// Packets observed. Counter.
    pub(crate) packets: u64,
    /// Packets that were sent and not observed.
    pub(crate) missing: u64,
    /// What was forgotten as lost was observed after all: the source is late.
    pub(crate) late: bool,
}

/// Whether what was acknowledged had been observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// All of it.
    Yes,
    /// All but so many packets, which never will be.
    AllBut(u64),
    /// No.
    No,
}

/// A window, and why it is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) window: u64,
    /// It is under base's.
    pub(crate) capped: bool,
    /// The queue's `drained`, where its own limit held the datagram back.
    pub(crate) held_by_limit: Option<u64>,
}

/// When a sample is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// Datagrams are about to be sent, or losses are reported.
    Other,
    /// Acknowledgements begin. Whether the sender had nothing more to send.
    Acks { app_limited: bool },
}

/// What is to be done after a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    /// The queue dropped something and a reduction is due.
    pub(crate) local_drop: bool,
    /// The source is no longer trusted.
    pub(crate) went_blind: bool,
    /// Time since the last sample, if the cap limited sending.
    pub(crate) capped_for: Span,
    /// The queue ran empty after its limit had held something back.
    pub(crate) ran_dry: bool,
    /// The law is engaged and the queue's own limit decides.
    pub(crate) limit_decides: bool,
    /// The queue's own limit has held something back since the acknowledgements before.
    pub(crate) limit_holds: bool,
    /// The queue dropped something although it held no more than its own limit, which decided.
    pub(crate) overflowed: bool,
    /// The law is engaged and the sender wants to send more. Set when acknowledgements begin.
    pub(crate) wants_more: bool,
    /// What it sends then, bytes a second.
    pub(crate) rate: u64,
}
