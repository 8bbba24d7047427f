//! What the probes write to the ring buffer: edges, not volume.

/// Bytes of an event in the ring.
pub const EVENT_BYTES: usize = size_of::<RawEvent>();

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum EventKind {
    /// A packet was dropped.
    Drop = 1,
    /// A send buffer rose over the pressure threshold.
    SendPressureHigh = 2,
    /// It fell below the lower threshold again.
    SendPressureLow = 3,
    /// A receive buffer rose over the pressure threshold.
    ReceivePressureHigh = 4,
    /// It fell below the lower threshold again.
    ReceivePressureLow = 5,
}

impl EventKind {
    const fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            1 => Self::Drop,
            2 => Self::SendPressureHigh,
            3 => Self::SendPressureLow,
            4 => Self::ReceivePressureHigh,
            5 => Self::ReceivePressureLow,
            _ => return None,
        })
    }
}

/// One record of the ring buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RawEvent {
    /// Kernel time (CLOCK_MONOTONIC), nanoseconds.
    pub time_ns: u64,
    /// An [`EventKind`].
    pub kind: u32,
    /// Index of the flow's slot in the array of slots; 0: no watched flow.
    pub slot: u32,
    /// Of a drop: the kernel's number of the reason, subsystem in the high 16 bits.
    pub reason: u32,
    /// Of a drop: a [`DropClass`](crate::DropClass).
    pub class: u32,
    /// Of a drop: a [`Direction`](crate::Direction).
    pub direction: u32,
    /// Of a drop: packets, segments counted.
    pub packets: u32,
    /// Of a drop: bytes; of a pressure crossing: bytes in the buffer.
    pub bytes: u32,
    /// Of a pressure crossing: the buffer's limit in bytes.
    pub limit: u32,
    /// The slot's generation while it is this flow's.
    pub generation: u32,
    /// Always 0.
    pub reserved: u32,
    /// Of a drop: kernel address of the instruction after the call that freed the packet.
    pub location: u64,
}

const _: () = assert!(size_of::<RawEvent>() == 56);

/// A record of the ring that is not an event of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The record has this many bytes instead of [`EVENT_BYTES`].
    Length(usize),
    /// No [`EventKind`] has this number.
    Kind(u32),
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Length(bytes) => {
                write!(
                    f,
                    "an event has {EVENT_BYTES} bytes, this record has {bytes}"
                )
            }
            Self::Kind(kind) => write!(f, "no event has kind {kind}"),
        }
    }
}

impl core::error::Error for DecodeError {}

impl RawEvent {
    /// Reads a record as it lies in the ring: native byte order, [`EVENT_BYTES`] long.
    pub fn from_bytes(bytes: &[u8]) -> Result<(EventKind, Self), DecodeError> {
        let bytes: &[u8; EVENT_BYTES] = bytes
            .try_into()
            .map_err(|_| DecodeError::Length(bytes.len()))?;
        let word = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[at..at + 4]);
            u32::from_ne_bytes(word)
        };
        let long = |at: usize| {
            let mut long = [0; 8];
            long.copy_from_slice(&bytes[at..at + 8]);
            u64::from_ne_bytes(long)
        };
        let event = Self {
            time_ns: long(0),
            kind: word(8),
            slot: word(12),
            reason: word(16),
            class: word(20),
            direction: word(24),
            packets: word(28),
            bytes: word(32),
            limit: word(36),
            generation: word(40),
            reserved: word(44),
            location: long(48),
        };
        let kind = EventKind::from_raw(event.kind).ok_or(DecodeError::Kind(event.kind))?;
        Ok((kind, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32) -> [u8; EVENT_BYTES] {
        let mut bytes = [0; EVENT_BYTES];
        bytes[..8].copy_from_slice(&77u64.to_ne_bytes());
        bytes[8..12].copy_from_slice(&kind.to_ne_bytes());
        bytes[48..].copy_from_slice(&0xffff_ffff_8100_0000u64.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_record_reads_back_field_by_field() {
        let (kind, event) = RawEvent::from_bytes(&record(1)).unwrap();
        assert_eq!(kind, EventKind::Drop);
        assert_eq!((event.time_ns, event.location), (77, 0xffff_ffff_8100_0000));
    }

    #[test]
    fn a_record_of_any_other_length_is_refused() {
        let long = [0u8; 2 * EVENT_BYTES];
        for length in (0..long.len()).filter(|length| *length != EVENT_BYTES) {
            assert_eq!(
                RawEvent::from_bytes(&long[..length]),
                Err(DecodeError::Length(length))
            );
        }
    }

    #[test]
    fn an_unknown_kind_is_refused_by_its_number() {
        assert_eq!(RawEvent::from_bytes(&record(6)), Err(DecodeError::Kind(6)));
    }
}
