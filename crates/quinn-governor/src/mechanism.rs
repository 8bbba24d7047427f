//! What of the law can be switched off, to measure what it is worth.

/// Lists the mechanisms with what is different without them.
macro_rules! mechanisms {
    ($($(#[$doc:meta])* $name:ident = $text:literal: $without:literal,)*) => {
        /// A mechanism of the law. All work, always: one is switched off only with the feature
        /// `tuning`, by an ablation.
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

            /// What is done without it.
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
    LocalDrops = "local-drops": "A drop by this host's queue reduces nothing.",
    SlowStartEnd = "slow-start-end": "Slow start goes on until a loss.",
    SmallBatches = "small-batches": "Batches of up to ten datagrams leave while the cap is in force.",
    WholeBatches = "whole-batches": "Batches are as small after a firewall took one.",
    Matching = "matching": "Only the limit of this process decides, whatever others keep in the queue.",
    Crowd = "crowd": "Others are matched at once, and where the queue runs empty now and then.",
    Balance = "balance": "What others are matched by is not corrected by what was less on average.",
    Weights = "weights": "Connections that share a queue keep equal parts, whatever they send.",
    Room = "room": "The cap does not ask how much the queue still takes.",
    LettingGo = "letting-go": "A flow that waits for what it does not see is held back all the same.",
    Classes = "classes": "Below a discipline with classes, all of the tree is taken for one queue.",
    HalfFull = "half-full": "A queue that is half full is not capped before it has stood.",
    Outgrown = "outgrown": "Nor is one that holds more than bursts of the pacer.",
    Standing = "standing": "Every backlog is capped at once, also a burst that is being sent.",
    Refill = "refill": "A hole that a pause left in the flight is not filled again.",
    PauseRefill = "pause-refill": "After a pause of the application, only what fitted besides the queue is filled again.",
    KeptFlight = "kept-flight": "While samples stand still the flight may fall.",
    Growth = "growth": "With an empty queue the flight may double in a round trip.",
    Release = "release": "The cap ends at once, not by a sixteenth a round trip.",
    Clock = "clock": "The wrapped controller's time goes on while it must not grow.",
    HiddenGrowth = "hidden-growth": "The wrapped controller grows behind the cap.",
    FlightReduction = "flight-reduction": "A loss elsewhere is answered from the wrapped controller's window.",
    OverflowMemory = "overflow-memory": "That the queue overflowed is forgotten at once.",
    Trust = "trust": "Samples are always trusted.",
    Forgetting = "forgetting": "What was sent and never observed counts as on its way for ever.",
    AckClock = "ack-clock": "A sender is held back before its first acknowledgement after a pause.",
    Ending = "ending": "The cap does not end while the source is trusted.",
    Halving = "halving": "The limit is not halved when the queue overflows within it.",
    AckDrops = "ack-drops": "Dropped acknowledgements reduce the window.",
}
