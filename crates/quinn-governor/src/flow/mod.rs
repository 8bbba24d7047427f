//! The flows whose signals controllers use.

mod totals;
mod watched;

pub(crate) use totals::{FlowTotals, observed_packets};
pub(crate) use watched::WatchedFlow;
