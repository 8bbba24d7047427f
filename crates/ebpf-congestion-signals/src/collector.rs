//! Reads a source at intervals: a thin layer for programs that need plain numbers.

use std::sync::Arc;

use crate::error::EventsError;
use crate::event::EventStream;
use crate::sample::HostSample;
use crate::signals::CongestionSignals;
use crate::source::SignalSource;

/// Collects the host's signals between one read and the next.
///
/// Reading does not affect other readers of the source: nothing is reset in the kernel; the
/// collector keeps its last sample and subtracts.
#[derive(Debug)]
pub struct CongestionCollector {
    source: Arc<dyn SignalSource>,
    last: HostSample,
}

impl CongestionCollector {
    /// Loads the probes into the running kernel and attaches them. Blocks, as
    /// [`EbpfSource::load`](crate::EbpfSource::load) does.
    #[cfg(all(feature = "ebpf", target_os = "linux"))]
    pub fn load() -> Result<Self, crate::LoadError> {
        Ok(Self::new(Arc::new(crate::EbpfSource::load()?)))
    }

    /// Collects from a source that others may read too. The first interval begins now, or at
    /// [`start_collection`](Self::start_collection).
    pub fn new(source: Arc<dyn SignalSource>) -> Self {
        let last = source.host();
        Self { source, last }
    }

    /// The source it collects from.
    pub fn source(&self) -> &Arc<dyn SignalSource> {
        &self.source
    }

    /// Begins an interval now, and returns a stream of the source's events from now on. Needs a
    /// tokio runtime.
    pub async fn start_collection(&mut self) -> Result<Box<dyn EventStream>, EventsError> {
        let events = self.source.events()?;
        self.last = self.source.host();
        Ok(events)
    }

    /// What happened since the last read; at first, since collection started, else since the
    /// collector was made. Costs as much as [`SignalSource::host`].
    pub fn read_and_reset(&mut self) -> CongestionSignals {
        let now = self.source.host();
        let signals = CongestionSignals::between(&self.last, &now);
        self.last = now;
        signals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MockSource;
    use crate::sample::SendCounters;

    #[test]
    fn a_read_without_a_start_counts_from_when_the_collector_was_made() {
        let source = Arc::new(MockSource::new());
        let sent = |bytes| {
            source.set_host(|host| {
                host.udp_send = Some(SendCounters {
                    bytes,
                    ..SendCounters::default()
                });
            });
        };
        sent(100);
        let mut collector = CongestionCollector::new(source.clone());
        sent(150);
        assert_eq!(collector.read_and_reset().send_bytes, Some(50));
    }

    #[tokio::test]
    async fn two_collectors_of_one_source_each_see_all_of_it() {
        let source = Arc::new(MockSource::new());
        source.set_host(|host| host.udp_send = Some(SendCounters::default()));
        let mut often = CongestionCollector::new(source.clone());
        let mut rarely = CongestionCollector::new(source.clone());
        often.start_collection().await.unwrap();
        rarely.start_collection().await.unwrap();
        for bytes in [100, 300] {
            source.set_host(|host| {
                host.udp_send = Some(SendCounters {
                    bytes,
                    calls: bytes / 100,
                    ..SendCounters::default()
                });
            });
            assert!(often.read_and_reset().send_bytes > Some(0));
        }
        assert_eq!(often.read_and_reset().send_bytes, Some(0));
        assert_eq!(rarely.read_and_reset().send_bytes, Some(300));
    }
}
