//! What the lines of a recording hold.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sample::{
    Direction, DropClass, DropCounters, DropTable, FlowSample, HostSample, KernelTime,
    LocalCongestion, QueueId, QueueSample, SendCounters, SoftirqSample, SourceKind,
};

/// The first line's `format`.
pub(super) const FORMAT: &str = "congestion-signals";

/// The first line's `version`: another one is another format.
pub(super) const VERSION: u32 = 1;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) format: String,
    pub(super) version: u32,
}

/// Any other line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Line {
    Flow(FlowLine),
    Host(HostLine),
}

/// A watched flow at a time.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FlowLine {
    /// Nanoseconds since the recording began.
    pub(super) t: u64,
    /// Number of the flow, in the order in which they were added.
    pub(super) flow: u32,
    /// Whether the source still observed the flow.
    pub(super) live: bool,
    /// Packets seen to leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) observed_packets: Option<u64>,
    /// Packets dropped by a full queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) queue_drops: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) policy_drops: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) queue: Option<QueueLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sent_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sent_packets: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) send: Option<SendLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) drops: Option<Vec<DropLine>>,
}

/// The host at a time.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostLine {
    /// Nanoseconds since the recording began.
    pub(super) t: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) udp_send: Option<SendLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tcp_send: Option<SendLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) drops: Option<Vec<DropLine>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) softirq: Option<SoftirqLine>,
    pub(super) events: u64,
    pub(super) events_lost: u64,
}

/// A [`QueueSample`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueueLine {
    id: usize,
    /// Queues that had this identifier before.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    generation: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    own: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    drained: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
}

/// [`SendCounters`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SendLine {
    bytes: u64,
    calls: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    estimated: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn is_zero_u32(number: &u32) -> bool {
    *number == 0
}

/// A [`SoftirqSample`]; times in nanoseconds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SoftirqLine {
    net_rx: u64,
    net_tx: u64,
    runs: u64,
    wait: u64,
    waits: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    polls_elsewhere: u64,
}

/// [`DropCounters`] of one direction and class.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DropLine {
    direction: DirectionName,
    class: ClassName,
    skbs: u64,
    packets: u64,
    bytes: u64,
}

macro_rules! names {
    ($name:ident of $type:ty: $($variant:ident),*) => {
        #[doc = concat!("Names of [`", stringify!($type), "`].")]
        #[derive(Clone, Copy, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        enum $name { $($variant),* }

        impl From<$type> for $name {
            fn from(value: $type) -> Self {
                match value { $(<$type>::$variant => Self::$variant),* }
            }
        }

        impl From<$name> for $type {
            fn from(name: $name) -> Self {
                match name { $($name::$variant => Self::$variant),* }
            }
        }
    };
}

names!(DirectionName of Direction: Egress, Ingress, Forwarded);
names!(
    ClassName of DropClass:
    Other, QueueFull, QdiscPolicy, ReceiveBuffer, NoMemory, Policy, NoSocket, Malformed
);

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn drop_lines(table: &DropTable) -> Vec<DropLine> {
    Direction::ALL
        .into_iter()
        .flat_map(|direction| DropClass::ALL.map(|class| (direction, class)))
        .map(|(direction, class)| (direction, class, table.get(direction, class)))
        .filter(|(_, _, drops)| *drops != DropCounters::default())
        .map(|(direction, class, drops)| DropLine {
            direction: direction.into(),
            class: class.into(),
            skbs: drops.skbs,
            packets: drops.packets,
            bytes: drops.bytes,
        })
        .collect()
}

fn drop_table(lines: &[DropLine]) -> DropTable {
    let mut table = DropTable::default();
    for line in lines {
        let drops = DropCounters {
            skbs: line.skbs,
            packets: line.packets,
            bytes: line.bytes,
        };
        table.add(line.direction.into(), line.class.into(), drops);
    }
    table
}

impl From<SendCounters> for SendLine {
    fn from(send: SendCounters) -> Self {
        let SendCounters {
            bytes,
            calls,
            estimated,
        } = send;
        Self {
            bytes,
            calls,
            estimated,
        }
    }
}

impl From<&SendLine> for SendCounters {
    fn from(line: &SendLine) -> Self {
        Self {
            bytes: line.bytes,
            calls: line.calls,
            estimated: line.estimated,
        }
    }
}

impl FlowLine {
    pub(super) fn new(t: u64, flow: u32, sample: &FlowSample) -> Self {
        let congestion = sample.congestion;
        Self {
            t,
            flow,
            live: congestion.live,
            observed_packets: congestion.observed_packets,
            queue_drops: congestion.queue_drops,
            policy_drops: congestion.policy_drops,
            queue: congestion.queue.map(|queue| QueueLine {
                id: queue.id.index(),
                generation: queue.id.generation(),
                own: queue.own,
                shared: queue.shared,
                total: queue.total,
                drained: queue.drained,
                limit: queue.limit,
            }),
            sent_bytes: sample.sent_bytes,
            sent_packets: sample.sent_packets,
            send: sample.send.map(Into::into),
            drops: sample.drops.as_ref().map(drop_lines),
        }
    }

    /// The sample; `None` for a queue that no source can have.
    pub(super) fn sample(&self) -> Option<FlowSample> {
        let queue = match &self.queue {
            None => None,
            Some(queue) => Some(QueueSample {
                id: QueueId::with_generation(queue.id, queue.generation)?,
                own: queue.own,
                shared: queue.shared,
                total: queue.total,
                drained: queue.drained,
                limit: queue.limit,
            }),
        };
        let taken = KernelTime::from_nanos(self.t);
        Some(FlowSample {
            taken,
            updated: Some(taken),
            congestion: LocalCongestion {
                live: self.live,
                taken: Some(taken),
                observed_packets: self.observed_packets,
                queue,
                queue_drops: self.queue_drops,
                policy_drops: self.policy_drops,
            },
            sent_bytes: self.sent_bytes,
            sent_packets: self.sent_packets,
            send: self.send.as_ref().map(Into::into),
            drops: self.drops.as_deref().map(drop_table),
            ..FlowSample::empty(SourceKind::Replay)
        })
    }
}

impl HostLine {
    pub(super) fn new(t: u64, sample: &HostSample) -> Self {
        Self {
            t,
            udp_send: sample.udp_send.map(Into::into),
            tcp_send: sample.tcp_send.map(Into::into),
            drops: sample.drops.as_ref().map(drop_lines),
            softirq: sample.softirq.map(|softirq| SoftirqLine {
                net_rx: nanos(softirq.net_rx),
                net_tx: nanos(softirq.net_tx),
                runs: softirq.runs,
                wait: nanos(softirq.wait),
                waits: softirq.waits,
                polls_elsewhere: softirq.polls_elsewhere,
            }),
            events: sample.events,
            events_lost: sample.events_lost,
        }
    }

    pub(super) fn sample(&self) -> HostSample {
        HostSample {
            taken: KernelTime::from_nanos(self.t),
            udp_send: self.udp_send.as_ref().map(Into::into),
            tcp_send: self.tcp_send.as_ref().map(Into::into),
            drops: self.drops.as_deref().map(drop_table),
            softirq: self.softirq.as_ref().map(|softirq| SoftirqSample {
                net_rx: Duration::from_nanos(softirq.net_rx),
                net_tx: Duration::from_nanos(softirq.net_tx),
                runs: softirq.runs,
                wait: Duration::from_nanos(softirq.wait),
                waits: softirq.waits,
                polls_elsewhere: softirq.polls_elsewhere,
            }),
            events: self.events,
            events_lost: self.events_lost,
            ..HostSample::default()
        }
    }
}
