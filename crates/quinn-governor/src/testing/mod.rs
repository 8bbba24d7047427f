//! What tests and fuzz targets drive a controller with. No part of the public API: it changes
//! without notice.

mod connection;
mod drive;
mod flow;
mod identity;
mod link;
mod op;
mod rtt;

pub use drive::drive;
pub use identity::{Identity, quic_configs};
pub use op::{BaseChoice, Op};
pub use rtt::{Rtts, rtt_estimator};
