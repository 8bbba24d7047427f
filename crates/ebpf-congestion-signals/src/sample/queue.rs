//! What a source knows of an egress queue besides its backlog.

use std::fmt;
use std::time::Duration;

use ebpf_congestion_signals_common::QDISC_NAME_BYTES;

/// The egress queue of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueState {
    /// Index of its network device, in the device's network namespace.
    pub ifindex: u32,
    /// Its handle, `tc`'s major number in the high 16 bits; 0 for the default one.
    pub handle: u32,
    /// Its kind.
    pub kind: QdiscName,
    /// Packets in the queue, of all senders; a GSO batch that the queue discipline did not split
    /// counts as one. Gauge.
    pub packets: u64,
    /// Most that it holds; `None` where the kind has no limit of a single queue, or its limit
    /// cannot be read. For a token bucket, the limit of its child. Read with the queue's first
    /// packet and once a kernel tick.
    pub limit: Option<QueueLimit>,
}

impl QueueState {
    /// A queue of which only the kind is known, for other implementations of a source.
    pub const fn of_kind(kind: QdiscName) -> Self {
        Self {
            ifindex: 0,
            handle: 0,
            kind,
            packets: 0,
            limit: None,
        }
    }
}

/// Most that a queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueLimit {
    /// Bytes on the wire.
    Bytes(u32),
    /// Packets.
    Packets(u32),
}

/// The first eight bytes of a name, as a word in memory.
pub(crate) const fn word(name: &str) -> u64 {
    let name = name.as_bytes();
    let mut word = [0; 8];
    let mut at = 0;
    while at < 8 && at < name.len() {
        word[at] = name[at];
        at += 1;
    }
    u64::from_ne_bytes(word)
}

const TBF: u64 = word("tbf");

/// Queue disciplines whose `Qdisc.limit` holds for all of the queue, and counts bytes. Others keep
/// it elsewhere, or have none of their own.
pub(crate) const LIMITED_BY_BYTES: u64 = word("bfifo");

/// The same for packets.
const LIMITED_BY_PACKETS: [u64; 8] = [
    word("codel"),
    word("fq"),
    word("fq_codel"),
    word("fq_pie"),
    word("netem"),
    word("pfifo"),
    word("pfifo_head_drop"),
    word("pie"),
];

impl QueueLimit {
    /// What a `limit` means in a queue of this kind. A token bucket's is that of its child: what
    /// `tc` shows as the bucket's own is only the limit of the child that it was made with.
    #[cfg_attr(
        not(all(feature = "ebpf", target_os = "linux")),
        allow(dead_code, reason = "only the kernel reports limits")
    )]
    pub(crate) fn of(kind: u64, child: u64, limit: u32) -> Option<Self> {
        let of_bytes = Self::in_bytes(kind, child, limit).map(|_| Self::Bytes(limit));
        let kind = if kind == TBF { child } else { kind };
        of_bytes.or_else(|| {
            (limit != 0 && LIMITED_BY_PACKETS.contains(&kind)).then_some(Self::Packets(limit))
        })
    }

    /// The same, where it counts bytes.
    #[cfg_attr(
        not(all(feature = "ebpf", target_os = "linux")),
        allow(dead_code, reason = "only the kernel reports limits")
    )]
    #[inline]
    pub(crate) fn in_bytes(kind: u64, child: u64, limit: u32) -> Option<u64> {
        let kind = if kind == TBF { child } else { kind };
        (limit != 0 && kind == LIMITED_BY_BYTES).then_some(limit.into())
    }
}

/// Name of a queue discipline: `tbf`, `fq_codel`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct QdiscName([u8; QDISC_NAME_BYTES]);

impl QdiscName {
    /// The name in these bytes, up to the first zero.
    pub const fn new(bytes: [u8; QDISC_NAME_BYTES]) -> Self {
        Self(bytes)
    }

    /// The name in a string; what is longer than the kernel's names is cut off.
    pub fn from_name(name: &str) -> Self {
        let mut bytes = [0; QDISC_NAME_BYTES];
        for (byte, letter) in bytes.iter_mut().zip(name.bytes()) {
            *byte = letter;
        }
        Self(bytes)
    }

    /// All of it, as words in memory.
    #[cfg(target_os = "linux")]
    pub(crate) fn words(&self) -> [u64; 2] {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&self.0[at..at + 8]);
            u64::from_ne_bytes(word)
        };
        [word(0), word(8)]
    }

    /// The name in these words.
    #[cfg(target_os = "linux")]
    pub(crate) fn from_words(words: [u64; 2]) -> Self {
        let mut bytes = [0; QDISC_NAME_BYTES];
        bytes[..8].copy_from_slice(&words[0].to_ne_bytes());
        bytes[8..].copy_from_slice(&words[1].to_ne_bytes());
        Self(bytes)
    }

    /// The first eight bytes, as a word in memory.
    #[cfg_attr(
        not(all(feature = "ebpf", target_os = "linux")),
        allow(dead_code, reason = "only the kernel reports limits")
    )]
    pub(crate) fn first_word(&self) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.0[..8]);
        u64::from_ne_bytes(word)
    }

    /// The name; empty where it is not known.
    pub fn as_str(&self) -> &str {
        let name = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        std::str::from_utf8(name).unwrap_or_default()
    }
}

impl fmt::Debug for QdiscName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl fmt::Display for QdiscName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Time that packets spent in a queue of this host, from enqueue to the device. One packet in eight
/// is followed, one at a time, on the assumption that the queue keeps the flow's order. `time` and
/// `packets` are counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SojournSample {
    /// Time in the queue, summed over the packets followed.
    pub time: Duration,
    /// Packets followed.
    pub packets: u64,
    /// Time of the last packet followed. Gauge.
    pub last: Duration,
}

impl SojournSample {
    /// The mean since an earlier sample; `None` when no packet was followed to its end since.
    pub fn mean_since(&self, earlier: &Self) -> Option<Duration> {
        let packets = self.packets.saturating_sub(earlier.packets);
        let packets = u32::try_from(packets).unwrap_or(u32::MAX);
        self.time.saturating_sub(earlier.time).checked_div(packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> QdiscName {
        let mut bytes = [0; QDISC_NAME_BYTES];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        QdiscName::new(bytes)
    }

    #[test]
    fn a_limit_counts_what_its_kind_counts() {
        let limit = |name| QueueLimit::of(word(name), 0, 1000);
        assert_eq!(limit("bfifo"), Some(QueueLimit::Bytes(1000)));
        assert_eq!(limit("fq_codel"), Some(QueueLimit::Packets(1000)));
        assert_eq!(limit("htb"), None);
        assert_eq!(QueueLimit::of(word("bfifo"), 0, 0), None);
    }

    #[test]
    fn a_token_buckets_limit_is_its_childs() {
        let limit = |child| QueueLimit::of(word("tbf"), child, 1000);
        assert_eq!(limit(word("bfifo")), Some(QueueLimit::Bytes(1000)));
        assert_eq!(limit(word("pfifo")), Some(QueueLimit::Packets(1000)));
        assert_eq!(limit(word("netem")), Some(QueueLimit::Packets(1000)));
        assert_eq!(limit(word("cake")), None);
        assert_eq!(limit(0), None, "its place is unknown");
    }

    #[test]
    fn a_name_ends_with_its_first_zero() {
        assert_eq!(kind("pfifo_fast").to_string(), "pfifo_fast");
        assert_eq!(QdiscName::new([b'x'; QDISC_NAME_BYTES]).as_str().len(), 16);
        assert_eq!(QdiscName::new([0xff; QDISC_NAME_BYTES]).as_str(), "");
    }

    #[test]
    fn a_mean_is_that_of_the_interval() {
        let sample = |millis, packets| SojournSample {
            time: Duration::from_millis(millis),
            packets,
            last: Duration::ZERO,
        };
        let mean = sample(50, 12).mean_since(&sample(10, 10));
        assert_eq!(mean, Some(Duration::from_millis(20)));
        assert_eq!(sample(50, 12).mean_since(&sample(50, 12)), None);
    }
}
