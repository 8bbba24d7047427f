//! What tests and fuzz targets drive a controller with. No part of the public API: it changes
//! without notice.

mod drive;
mod rtt;

pub use drive::{BaseChoice, Op, drive};
pub use rtt::{Rtts, quic_configs, rtt_estimator};
