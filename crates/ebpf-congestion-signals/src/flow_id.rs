//! The name of a watched flow.

/// Identifies a watched flow of a source. Not used again while the source lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId(u64);

impl FlowId {
    /// The identifier with this number.
    pub const fn from_u64(id: u64) -> Self {
        Self(id)
    }

    /// Its number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}
