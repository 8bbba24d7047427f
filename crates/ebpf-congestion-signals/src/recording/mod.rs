//! Writes samples to a file, and a source that replays them.
//!
//! A recording is text, one JSON object a line. The first line names the format:
//!
//! ```json
//! {"format":"congestion-signals","version":1}
//! ```
//!
//! Each further line is a sample of one watched flow, or of the host, in the order of time: see
//! [`FlowLine`](line::FlowLine) and [`HostLine`](line::HostLine) for the fields, which are those of
//! [`FlowSample`](crate::FlowSample) and [`HostSample`](crate::HostSample). Fields that are `None`
//! are absent. Events are not recorded.

mod line;
mod record;
mod replay;

pub use record::Recorder;
pub use replay::{ReplayError, ReplaySource};
