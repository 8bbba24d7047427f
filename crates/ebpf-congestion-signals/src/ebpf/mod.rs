//! The source that loads probes into the running kernel.

mod facts;
mod flows;
mod load;
mod mapped;
mod reasons;
mod ring;
mod socket;
mod source;

pub use load::{EbpfOptions, ProbeCost};
pub use source::{CostAccounting, EbpfSource};
