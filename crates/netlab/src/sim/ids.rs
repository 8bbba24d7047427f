//! Connection IDs that come from the seed.

use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator};

use super::random::Random;

/// As long as quinn's own.
const BYTES: usize = 8;

/// Draws connection IDs.
pub(super) struct SeededIds {
    random: Random,
}

impl SeededIds {
    pub(super) fn new(random: Random) -> Self {
        Self { random }
    }
}

impl ConnectionIdGenerator for SeededIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.random.next().to_be_bytes())
    }

    fn cid_len(&self) -> usize {
        BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
