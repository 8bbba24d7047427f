//! What the source reported while an example ran.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use ebpf_congestion_signals::{
    CongestionCollector, CongestionSignals, Direction, DropClass, DropCounters, DropTable,
    DropsByReason, Event, EventStream, FlowId, HostSample, KernelSymbols, SignalSource,
    SoftirqSample, Watch,
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::table::Table;
use crate::units::bytes;

/// Reads a source while an example runs: the host in intervals, watched flows in the end.
#[derive(Debug)]
pub struct Observation {
    source: Arc<dyn SignalSource>,
    collector: CongestionCollector,
    before: HostSample,
    locations: Arc<Mutex<DropLocations>>,
    reader: JoinHandle<()>,
}

/// Where drops of watched flows were seen to happen: the reason and the location in the kernel.
type DropLocations = HashMap<(FlowId, Direction, DropClass), BTreeSet<(Arc<str>, u64)>>;

impl Observation {
    /// Begins now.
    pub async fn start(source: Arc<dyn SignalSource>) -> anyhow::Result<Self> {
        let mut collector = CongestionCollector::new(Arc::clone(&source));
        let events = collector
            .start_collection()
            .await
            .context("cannot read the source's events")?;
        let locations = Arc::default();
        Ok(Self {
            before: source.host(),
            source,
            collector,
            reader: tokio::spawn(note_locations(events, Arc::clone(&locations))),
            locations,
        })
    }

    /// The host's signals since the last call, or the start.
    pub fn interval(&mut self) -> CongestionSignals {
        self.collector.read_and_reset()
    }

    /// Totals of a flow so far; nothing is forgotten while it is watched.
    pub fn flow(&self, name: String, watch: &Watch) -> FlowTotals {
        let sample = watch.sample();
        FlowTotals {
            name,
            id: watch.id(),
            sent_bytes: sample.sent_bytes.unwrap_or_default(),
            drops: sample.drops.unwrap_or_default(),
            reasons: self.source.drops_by_reason(Some(watch.id())),
        }
    }

    /// The sum of these flows, and the host's share since the start.
    pub fn report(&self, flows: &[FlowTotals]) -> SignalsReport {
        let now = self.source.host();
        let mut drops_by_reason = BTreeMap::new();
        for by in flows.iter().flat_map(|flow| &flow.reasons) {
            *drops_by_reason.entry(by.reason.to_string()).or_default() += by.drops.packets;
        }
        SignalsReport {
            send_bytes: Some(flows.iter().map(|flow| flow.sent_bytes).sum()),
            drop_packets: Some(flows.iter().map(|flow| flow.drops.total().packets).sum()),
            drops_by_reason,
            events: Some(now.events.saturating_sub(self.before.events)),
            events_lost: Some(now.events_lost.saturating_sub(self.before.events_lost)),
            softirq_ns: now.softirq.map(|softirq| {
                let time = softirq_time(softirq)
                    .saturating_sub(softirq_time(self.before.softirq.unwrap_or_default()));
                u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
            }),
        }
    }

    /// Where these flows' packets were dropped; empty when none was.
    ///
    /// The numbers are exact. Reasons and functions are those of the events, of which some may
    /// have been lost when there were many.
    pub fn drops(&self, flows: &[FlowTotals]) -> Table {
        let by_class = self
            .locations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let symbols = KernelSymbols::new();
        // All at once: the list of symbols is long.
        let locations: Vec<u64> = by_class
            .values()
            .flatten()
            .map(|location| location.1)
            .collect();
        symbols.names(&locations);
        let described = |(reason, location): &(Arc<str>, u64)| match symbols.names(&[*location]) {
            names if *location != 0 => format!("{reason} at {}", names.join("")),
            _ => reason.to_string(),
        };
        let mut table = Table::new(["flow", "direction", "class", "packets", "bytes", "reason"]);
        for flow in flows {
            for (direction, class, drops) in flow.dropped() {
                let seen = by_class.get(&(flow.id, direction, class));
                let seen: BTreeSet<_> = seen.into_iter().flatten().map(described).collect();
                table.row([
                    flow.name.clone(),
                    format!("{direction:?}").to_lowercase(),
                    words(&format!("{class:?}")),
                    drops.packets.to_string(),
                    bytes(drops.bytes),
                    if seen.is_empty() {
                        "not recorded".to_owned()
                    } else {
                        Vec::from_iter(seen).join(", ")
                    },
                ]);
            }
        }
        table
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// What the source reported of a flow.
#[derive(Clone, Debug)]
pub struct FlowTotals {
    name: String,
    id: FlowId,
    sent_bytes: u64,
    drops: DropTable,
    reasons: Vec<DropsByReason>,
}

impl FlowTotals {
    /// The drops by direction and class, those that happened.
    fn dropped(&self) -> impl Iterator<Item = (Direction, DropClass, DropCounters)> {
        [Direction::Egress, Direction::Ingress]
            .into_iter()
            .flat_map(|direction| DropClass::ALL.map(|class| (direction, class)))
            .map(|(direction, class)| (direction, class, self.drops.get(direction, class)))
            .filter(|(_, _, drops)| drops.skbs > 0)
    }

    /// The same, with nothing counted as sent: for the receiving end of what is reported.
    pub fn drops_only(self) -> Self {
        Self {
            sent_bytes: 0,
            ..self
        }
    }
}

/// The signals of a report. `None` (null) is what the source, or the lack of one, cannot tell.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SignalsReport {
    /// UDP payload bytes that the flows handed to a network device's queue.
    pub send_bytes: Option<u64>,
    /// Packets of the flows that this host dropped, in both directions.
    pub drop_packets: Option<u64>,
    /// The same by the kernel's name of the reason.
    pub drops_by_reason: BTreeMap<String, u64>,
    /// Events (drops, pressure crossings) of the whole host.
    pub events: Option<u64>,
    /// Events that were not written because there were too many; counters stay exact.
    pub events_lost: Option<u64>,
    /// Time in network softirqs of the whole host, summed over CPUs.
    pub softirq_ns: Option<u64>,
}

fn softirq_time(softirq: SoftirqSample) -> Duration {
    softirq.net_rx + softirq.net_tx
}

async fn note_locations(mut events: Box<dyn EventStream>, locations: Arc<Mutex<DropLocations>>) {
    while let Some(event) = events.next().await {
        tracing::debug!(?event);
        let Event::Drop(drop) = event else { continue };
        let Some(flow) = drop.flow else { continue };
        let mut by_class = locations.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = by_class
            .entry((flow, drop.direction, drop.class))
            .or_default();
        seen.insert((drop.reason, drop.location));
    }
}

/// `QueueFull` as `queue full`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use ebpf_congestion_signals::MockSource;

    use super::*;

    #[tokio::test]
    async fn drops_are_summed_by_reason_over_flows_and_have_rows_of_their_own() {
        let source = Arc::new(MockSource::new());
        let observation = Observation::start(source.clone()).await.unwrap();
        let flows = [source.add_flow(), source.add_flow()];
        for (flow, packets) in flows.iter().zip([3, 4]) {
            let dropped = DropCounters {
                skbs: 1,
                packets,
                bytes: 1000,
            };
            flow.drop_packets(
                Direction::Egress,
                DropClass::QueueFull,
                "QDISC_DROP",
                dropped,
            );
            flow.observe_sent(10, 12_000);
        }
        let totals = flows.map(|flow| observation.flow("a".into(), &flow.watch()));

        let report = observation.report(&totals);
        assert_eq!(report.drop_packets, Some(7));
        assert_eq!(report.send_bytes, Some(24_000));
        let reasons = BTreeMap::from([("QDISC_DROP".to_owned(), 7)]);
        assert_eq!(report.drops_by_reason, reasons);
        assert_eq!(report.softirq_ns, None);

        let table = observation.drops(&totals).to_string();
        assert_eq!(table.matches("queue full").count(), 2, "{table}");
    }

    #[test]
    fn a_name_becomes_words() {
        assert_eq!(words("ReceiveBuffer"), "receive buffer");
    }
}
