//! Types passed between [`Law`](super::Law) and its controller.

use crate::time::Span;

/// The state of the wrapped controller (the base).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base {
    pub(crate) window: u64,
    pub(crate) slow_start: bool,
}

/// What windows from [`Law::window`](super::Law::window) did since the last acknowledgements.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CapEffects {
    /// A window was below the wrapped controller's.
    pub(crate) capped: bool,
    /// The queue's `drained` when the queue's own limit first kept a datagram from being sent that the
    /// wrapped controller's window admitted.
    pub(crate) limited_at: Option<u64>,
}

/// A GSO batch, in its flow's packet counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// Packets that the flow has sent up to and with it, comparable with those observed.
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
    /// Packets given up as never observed were observed later: the source is late.
    pub(crate) late: bool,
}

/// The result of a check whether what was acknowledged had been observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// All of it had.
    Observed,
    /// All but so many packets, which will never be observed.
    ObservedBut(u64),
    /// It had not: the source has stopped, or is late.
    NotObserved,
}

/// A window, and what bounded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CappedWindow {
    pub(crate) window: u64,
    /// It is below the wrapped controller's.
    pub(crate) capped: bool,
    /// The queue's `drained`, where its own limit keeps the next datagram from being sent.
    pub(crate) limited_at: Option<u64>,
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
    /// The signals are no longer trusted, or gone.
    pub(crate) signals_lost: bool,
    /// Time since the last sample, if the window was capped.
    pub(crate) capped_for: Span,
    /// The queue ran empty after its limit had limited sending.
    pub(crate) ran_empty: bool,
    /// The law is engaged and the queue's own limit determines the cap.
    pub(crate) limit_decides: bool,
    /// The queue's own limit has limited sending since the acknowledgements before.
    pub(crate) limit_holds: bool,
    /// The queue dropped something although its backlog was within its own limit, which determined
    /// the cap.
    pub(crate) overflowed: bool,
    /// The law is engaged and the sender wants to send more. Set when acknowledgements begin.
    pub(crate) wants_more: bool,
    /// Its sending rate then, bytes a second.
    pub(crate) rate: u64,
}
