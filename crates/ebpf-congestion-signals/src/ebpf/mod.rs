//! The source that loads probes into the running kernel.

mod attach;
mod available;
mod denial;
mod flows;
mod host;
mod load;
mod mapped;
mod memlock;
#[cfg(feature = "testing")]
mod memory;
#[cfg(all(test, feature = "testing"))]
mod memory_tests;
mod offsets;
mod options;
mod probes;
mod reader;
mod reason_table;
mod reasons;
mod recursion_misses;
mod ring;
mod shared;
mod socket;
mod source;
mod token_bucket;
mod version;

pub use load::ProbeCost;
#[cfg(feature = "testing")]
pub use memory::{MemoryFlow, MemorySource};
pub use options::{EbpfOptions, Signal};
pub use source::{CostAccounting, EbpfSource};
pub(crate) use version::Counters;
