//! What a scenario chooses from.

use clap::ValueEnum;
use serde::Serialize;

/// Where the bottleneck is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum BottleneckAt {
    /// On the sender's own device
    Local,
    /// One hop on; the sender's own queue is empty
    Remote,
    /// None: sender and receiver are on the same host, connected by its loopback
    SameHost,
}

/// Where governed flows get their signals from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Signals {
    /// The best of the others that works here
    Auto,
    /// Probes in the kernel
    Ebpf,
    /// The state of the program's own sockets
    Socket,
    /// Invented signals: a drop at the local queue every second
    Mock,
    /// No signals: the base controller alone
    None,
}

impl Signals {
    /// The name that the examples use.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ebpf => "ebpf",
            Self::Socket => "socket",
            Self::Mock => "mock",
            Self::None => "none",
        }
    }

    /// Whether `source`, from the examples' report, is this choice.
    pub(super) fn is(self, source: &str) -> bool {
        self == Self::Auto || self.name() == source
    }
}

/// What shapes the device in the token bucket's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tree {
    /// htb with a bfifo of --queue
    HtbBfifo,
    /// htb with a pfifo of 100 packets
    HtbPfifo100,
    /// htb with a pfifo of 1,000 packets
    HtbPfifo1000,
    /// htb with pfifo_fast
    HtbPfifoFast,
    /// htb with fq
    HtbFq,
    /// fq that paces each flow at the rate, by the code that SO_MAX_PACING_RATE uses
    FqMaxrate,
    /// htb with fq_codel
    HtbFqCodel,
    /// htb with an fq_codel that marks what waited for a millisecond (`ce_threshold 1ms`)
    HtbFqCodelCe,
    /// A token bucket with fq_codel
    TbfFqCodel,
    /// cake, which shapes by itself
    Cake,
    /// htb with a pfifo of 100 packets; --flood goes to a class of its own, of a twentieth of the
    /// rate, where 1 MB can wait
    HtbSibling,
}

/// What happens at a third of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Disturbance {
    /// The client goes on from a new socket
    Rebind,
    /// The MTU of the sender's device falls to 1280 for a time
    Mtu,
    /// The sender's device goes down for a time
    Link,
    /// The sender's device is removed, and made again after a time
    Device,
    /// The sender has no route to the receiver for a time
    Route,
    /// The root queue of the sender's device is replaced by one of another kind
    Queue,
    /// The same, back and forth, every second until the end
    QueueAgain,
    /// The sender's device limits nothing any more: the bottleneck is one hop on from then on
    MovesOn,
}
