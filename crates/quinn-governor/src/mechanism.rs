//! The law's mechanisms, which an ablation can switch off one at a time.

/// Lists the mechanisms, with what differs without each.
macro_rules! mechanisms {
    ($($(#[$doc:meta])* $name:ident = $text:literal: $without:literal,)*) => {
        /// A mechanism of the law. All are active, unless an ablation (feature `tuning`) switches one off.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(
            not(feature = "tuning"),
            expect(dead_code, unreachable_pub, reason = "switched off with the feature alone")
        )]
        pub enum Mechanism {
            $(#[doc = $without] $name,)*
        }

        #[cfg(feature = "tuning")]
        impl Mechanism {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// A name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// What differs without it.
            pub const fn without(self) -> &'static str {
                match self {
                    $(Self::$name => $without,)*
                }
            }
        }
    };
}

mechanisms! {
    Cap = "cap": "The window is never capped.",
    LocalDrops = "local-drops": "A local drop does not reduce the window.",
    SlowStartEnd = "slow-start-end": "Slow start goes on until a loss.",
    SmallBatches = "small-batches": "GSO batches have up to ten datagrams while the cap is in force.",
    WholeBatches = "whole-batches": "GSO batches are split after a firewall's drop too.",
    Matching = "matching": "The process's own limit decides, whatever competing traffic has in the queue.",
    FirstMatch = "first-match": "A new flow matches nothing before the queue has not run empty for some time.",
    PacedDoubling = "paced-doubling": "Slow start beside competing traffic is paced by the window of a GSO batch.",
    Persistence = "persistence": "Competing traffic is matched at once, also where the queue runs empty from time to time.",
    Balance = "balance": "The mean shortfall beside competing traffic is not added.",
    Weights = "weights": "Connections that share a queue have equal parts, whatever their rates.",
    Room = "room": "The room in the queue does not bound the cap.",
    WaitingRelease = "waiting-release": "A flow that waits behind unobserved traffic is capped all the same.",
    Classes = "classes": "Below a classful discipline, the whole tree counts as one queue.",
    HalfFull = "half-full": "A queue that is half full is not capped before it has a standing backlog.",
    Outgrown = "outgrown": "A queue with more than bursts of the pacer is not capped before it has a standing backlog.",
    Standing = "standing": "Every backlog is capped at once, also a burst.",
    Refill = "refill": "The ACK gap after a stall is not refilled.",
    PauseRefill = "pause-refill": "After a pause of the application, only what the path held is refilled, without the queue's part.",
    KeptFlight = "kept-flight": "While samples do not change, the flight may fall.",
    Growth = "growth": "With an empty queue, the flight may double in a round trip.",
    Release = "release": "The cap ends at once, not by a sixteenth a round trip.",
    Clock = "clock": "The wrapped controller's clock is not paused.",
    HiddenGrowth = "hidden-growth": "The wrapped controller grows behind the cap.",
    FlightReduction = "flight-reduction": "A loss elsewhere reduces from the wrapped controller's window.",
    OverflowMemory = "overflow-memory": "An overflow has no effect later.",
    Trust = "trust": "Samples are always trusted.",
    Forgetting = "forgetting": "Packets that are never observed count as not yet queued for ever.",
    AckClock = "ack-clock": "A sender is capped before its first acknowledgement after a pause.",
    Ending = "ending": "The cap does not end while the source is trusted.",
    Halving = "halving": "The limit is not halved when the queue overflows within it.",
    AckDrops = "ack-drops": "Dropped acknowledgements reduce the window.",
}
