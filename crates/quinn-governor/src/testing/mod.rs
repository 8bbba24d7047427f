//! What tests and fuzz targets drive a controller with. No part of the public API: it changes
//! without notice.

mod connection;
mod drive;
mod flow;
mod link;
mod op;
mod rtt;

pub use drive::drive;
pub use op::{BaseChoice, Op};
pub use rtt::{Rtts, quic_configs, rtt_estimator};
