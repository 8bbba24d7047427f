//! What a sender has to send.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;

/// What a flow has to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum App {
    /// More than can be sent, on one stream.
    #[default]
    Bulk,
    /// So many bytes, once.
    Transfer(u64),
    /// Bursts with pauses between them, each on a stream of its own.
    OnOff {
        /// Bytes of a burst.
        burst: u64,
        /// From the beginning of one to the beginning of the next, done or not.
        every: Duration,
    },
    /// Bursts with pauses between the end of one and the beginning of the next, each on a stream of
    /// its own.
    Responses {
        /// Bytes of a burst.
        bytes: u64,
        /// After it has arrived.
        pause: Duration,
    },
}

/// A burst, or a transfer, that arrived whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// When it was handed to the transport, since the start of the simulation.
    pub began: Duration,
    /// Until the receiver had all of it.
    pub took: Duration,
}

/// Bytes written ahead of what has arrived, at least, when a sender has no end of data: more than
/// any path here holds, so that neither the writer nor flow control limits a flow.
pub(super) const AHEAD: u64 = 192 << 20;

/// Windows of flow control, which must not limit either.
pub(super) const FLOW_CONTROL_WINDOW: u64 = 1 << 30;

/// Bytes of a write. Large, because quinn's stream searches its writes one by one for what it sends.
const WRITE: usize = 8 << 20;

/// A piece of nothing: a fresh mapping of zeros, which takes no memory while it is only read.
fn zeros() -> &'static Bytes {
    static ZEROS: OnceLock<Bytes> = OnceLock::new();
    ZEROS.get_or_init(|| Bytes::from(vec![0; WRITE]))
}

/// So many bytes, at most [`WRITE`].
pub(super) fn piece(bytes: u64) -> Bytes {
    let length = usize::try_from(bytes).unwrap_or(WRITE).min(WRITE);
    zeros().slice(..length)
}
