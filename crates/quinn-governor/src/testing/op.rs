//! What may happen to a controller that is driven.

use std::sync::Arc;

use quinn_proto::congestion::{BbrConfig, CubicConfig, NewRenoConfig};

use crate::BaseFactory;

/// The base controller under a driven one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum BaseChoice {
    /// quinn's Cubic.
    Cubic,
    /// quinn's NewReno.
    NewReno,
    /// quinn's BBR.
    Bbr,
}

impl BaseChoice {
    /// A factory of it.
    pub fn factory(self) -> BaseFactory {
        match self {
            Self::Cubic => Arc::new(CubicConfig::default()),
            Self::NewReno => Arc::new(NewRenoConfig::default()),
            Self::Bbr => Arc::new(BbrConfig::default()),
        }
    }
}

/// Something that happens.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Op {
    /// What follows happens to this connection, of those that there are.
    Turn(u8),
    /// Another connection uses the same flow.
    Open,
    /// The connection is closed, unless it is the last one.
    Close,
    /// Time passes: tenths of a millisecond.
    Wait(u16),
    /// The connection sends what the window lets pass, in batches, up to this many datagrams.
    Send(u8),
    /// The oldest datagrams in flight are acknowledged.
    Ack {
        /// How many.
        datagrams: u8,
        /// The connection had nothing more to send.
        app_limited: bool,
    },
    /// The oldest datagrams in flight are found lost.
    Lose {
        /// How many.
        datagrams: u8,
        /// It is persistent congestion.
        persistent: bool,
    },
    /// The path marked the newest datagram (ECN).
    Mark,
    /// The path's MTU changed.
    Mtu(u16),
    /// The connection moves to a new path; nothing is in flight there.
    Migrate,
    /// The program reads the connection's controller, its metrics and the report.
    Observe,
    /// The connection goes on as another flow: its socket was replaced.
    Rebind,
    /// This host's kernel refuses the next datagrams.
    Refuse {
        /// How many.
        datagrams: u8,
        /// The send call said so, and the sender counts them as not sent.
        reported: bool,
    },
    /// A datagram with an acknowledgement alone is sent.
    SendAck,
    /// The link takes this many bytes out of the queue, in hundreds.
    Drain(u16),
    /// Others keep this many bytes in the queue, in hundreds.
    Others(u16),
    /// The queue drops the next datagrams.
    Drop(u8),
    /// The queue's limit is this many bytes, in hundreds, and the source reports it; 0: there is none,
    /// and the source does not know it.
    Limit(u16),
    /// A firewall drops the next datagrams before they enter the queue.
    Rule(u8),
    /// The flow leaves by another queue; none above the number of queues.
    Queue(u8),
    /// The source stops reporting, or reports again.
    Deaf(bool),
    /// The source knows that it no longer observes the flow, or does again.
    Live(bool),
    /// Any sample of the source.
    Say {
        /// Counter of observed packets.
        observed: u64,
        /// Counter of drops.
        drops: u64,
        /// Counter of packets that firewalls dropped.
        policy_drops: u64,
        /// Backlog of the flow.
        own: u64,
        /// Backlog of sharing flows.
        shared: u64,
        /// Backlog of all flows.
        total: u64,
        /// Counter of empty queues.
        drained: u64,
    },
}
