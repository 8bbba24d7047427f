use serde::Deserialize;

use crate::{error::Error, namespace::Namespace};

/// A token bucket: the bottleneck of a path, as `tc`'s tbf makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// The rate at which bytes leave, in bits per second, link-layer headers included.
    pub rate: u64,
    /// Bytes that may leave at once after idleness. A segmentation batch larger than this is
    /// split when it enters the queue; a smaller one passes whole. At least a packet.
    pub burst: u32,
    /// Bytes that may wait; what comes beyond is dropped.
    pub limit: u32,
}

impl TokenBucket {
    /// The longest time that a byte waits in the full queue, in seconds.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "no rate needs more than 53 bits"
    )]
    pub fn full_queue_delay(&self) -> f64 {
        f64::from(self.limit) * 8.0 / self.rate as f64
    }

    /// Makes this the root queue of `device`.
    pub(crate) fn install(&self, namespace: &Namespace, device: &str) -> Result<(), Error> {
        let Self { rate, burst, limit } = self;
        let arguments = format!(
            "qdisc replace dev {device} root tbf rate {rate}bit burst {burst}b limit {limit}b"
        );
        namespace.execute("tc", &arguments).map(drop)
    }
}

/// What the kernel counted at a device's root queue since that queue was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct QdiscStats {
    /// Bytes that left, link-layer headers included.
    #[serde(rename = "bytes")]
    pub sent_bytes: u64,
    /// Packets that left. A segmentation batch that left whole counts as its segments.
    #[serde(rename = "packets")]
    pub sent_packets: u64,
    /// Drops, as the queue counts them: a segmentation batch dropped whole is one.
    #[serde(rename = "drops")]
    pub dropped: u64,
    /// How often the queue held a packet back, or refused it, for lack of tokens or room.
    pub overlimits: u64,
    /// How often the device gave a packet back.
    pub requeues: u64,
    /// Bytes waiting now.
    #[serde(rename = "backlog")]
    pub backlog_bytes: u64,
    /// Packets waiting now; a segmentation batch is one.
    #[serde(rename = "qlen")]
    pub backlog_packets: u64,
}

impl QdiscStats {
    /// The counters of this reading less those of an `earlier` one; the backlog is this one's.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            sent_bytes: self.sent_bytes.wrapping_sub(earlier.sent_bytes),
            sent_packets: self.sent_packets.wrapping_sub(earlier.sent_packets),
            dropped: self.dropped.wrapping_sub(earlier.dropped),
            overlimits: self.overlimits.wrapping_sub(earlier.overlimits),
            requeues: self.requeues.wrapping_sub(earlier.requeues),
            ..*self
        }
    }
}

/// Reads the root queue of `device` with `tc`.
pub(crate) fn read(namespace: &Namespace, device: &str) -> Result<QdiscStats, Error> {
    let arguments = format!("-s -j qdisc show dev {device} root");
    let output = namespace.execute("tc", &arguments)?;
    parse(&output).map_err(|detail| Error::unreadable(format!("tc {arguments}"), detail))
}

fn parse(json: &str) -> Result<QdiscStats, String> {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        root: bool,
        #[serde(flatten)]
        stats: QdiscStats,
    }
    let entries: Vec<Entry> = serde_json::from_str(json).map_err(|e| e.to_string())?;
    let root = entries.iter().find(|entry| entry.root);
    root.map(|entry| entry.stats)
        .ok_or_else(|| "no root queue on the device".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_queue_is_found_among_others() {
        let json = r#"[{"kind":"ingress","handle":"ffff:","parent":"ffff:fff1","options":{},
            "bytes":1,"packets":1,"drops":0,"overlimits":0,"requeues":0,"backlog":0,"qlen":0},
            {"kind":"tbf","handle":"8001:","root":true,"refcnt":3,
            "options":{"rate":6250000,"burst":20000,"lat":20800},"bytes":1514,"packets":2,
            "drops":3,"overlimits":4,"requeues":5,"backlog":6056,"qlen":7}]"#;
        let expected = QdiscStats {
            sent_bytes: 1514,
            sent_packets: 2,
            dropped: 3,
            overlimits: 4,
            requeues: 5,
            backlog_bytes: 6056,
            backlog_packets: 7,
        };
        assert_eq!(parse(json), Ok(expected));
    }

    #[test]
    fn output_without_a_root_queue_is_an_error() {
        assert!(parse("[]").is_err());
        assert!(parse("").is_err());
        assert!(parse(r#"[{"root":true}]"#).is_err());
    }

    #[test]
    fn counters_since_an_earlier_reading_are_differences_and_backlog_is_not() {
        let earlier = QdiscStats {
            sent_packets: 10,
            backlog_packets: 4,
            ..QdiscStats::default()
        };
        let later = QdiscStats {
            sent_packets: 12,
            backlog_packets: 3,
            ..QdiscStats::default()
        };
        let between = later.since(&earlier);
        assert_eq!((between.sent_packets, between.backlog_packets), (2, 3));
    }
}
