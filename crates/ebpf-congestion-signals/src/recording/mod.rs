//! Samples written to a file, and a source that says again what is in one.
//!
//! A recording is text, one JSON object a line. The first says what it is:
//!
//! ```json
//! {"format":"congestion-signals","version":1}
//! ```
//!
//! Each line behind it is what one watched flow's sample was at a time, or the host's, in the order
//! of time: see [`FlowLine`](line::FlowLine) and [`HostLine`](line::HostLine) for the fields, which
//! are those of [`FlowSample`](crate::FlowSample) and [`HostSample`](crate::HostSample). What a
//! sample does not know is absent. Events are not recorded; counters hold what they would report.

mod line;
mod record;
mod replay;

pub use record::Recorder;
pub use replay::{ReplayError, ReplaySource};
