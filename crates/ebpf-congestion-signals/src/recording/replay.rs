//! A source that replays a recording.

use std::io::{self, BufRead};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;

use super::line::{FORMAT, Header, Line, VERSION};
use crate::error::{EventsError, WatchError};
use crate::event::EventStream;
use crate::fanout::Fanout;
use crate::flow_id::FlowId;
use crate::sample::{
    DropsByReason, FlowSample, HostSample, KernelTime, LocalCongestion, SourceKind,
};
use crate::source::{Capability, FlowReader, SignalSource, Watch, WatchTarget};
use crate::targets::Targets;

/// Why a recording cannot be replayed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// It cannot be read.
    #[error("the recording cannot be read")]
    Read(#[from] io::Error),
    /// It does not begin as a recording does.
    #[error(
        "this is no recording of congestion signals: its first line is not \
         {{\"format\":\"congestion-signals\",\"version\":1}}"
    )]
    NoRecording,
    /// It has another version.
    #[error("the recording is of version {found}, and this program reads version {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// A line is malformed. Nothing of the recording is used.
    #[error("line {line} of the recording: {problem}")]
    Line {
        /// Its number, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// A source that replays a recording. Its clock moves only by [`advance`](Self::advance), so a test
/// sees the same each time.
///
/// [`watch`](SignalSource::watch) hands flows out in the order in which they were recorded, whatever
/// the socket; for a socket that is being watched, the same flow again. Reading takes a lock that is
/// held for a copy, as with [`MockSource`](crate::MockSource). Events are not recorded: their stream
/// is silent.
#[derive(Debug)]
pub struct ReplaySource {
    now: Arc<Mutex<Duration>>,
    host: Vec<HostSample>,
    flows: Vec<Arc<Track>>,
    /// Flows that were handed out.
    watched: Mutex<usize>,
    targets: Targets,
    events: Fanout,
}

/// A flow's samples in the order of time.
#[derive(Debug)]
struct Track {
    id: FlowId,
    now: Arc<Mutex<Duration>>,
    samples: Vec<FlowSample>,
}

impl ReplaySource {
    /// Reads a whole recording.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is no recording, or has a malformed line.
    pub fn read(recording: impl BufRead) -> Result<Self, ReplayError> {
        let mut lines = recording.lines();
        let header = lines.next().ok_or(ReplayError::NoRecording)??;
        let header: Header = serde_json::from_str(&header).map_err(|_| ReplayError::NoRecording)?;
        if header.format != FORMAT {
            return Err(ReplayError::NoRecording);
        }
        if header.version != VERSION {
            return Err(ReplayError::Version {
                found: header.version,
            });
        }
        let mut host = Vec::new();
        let mut flows: Vec<Vec<FlowSample>> = Vec::new();
        let mut last = 0;
        for (text, line) in lines.zip(2..) {
            let problem = |problem: String| ReplayError::Line { line, problem };
            let entry: Line = serde_json::from_str(&text?)
                .map_err(|_| problem("it is neither a flow's sample nor the host's".to_owned()))?;
            let t = match &entry {
                Line::Flow(flow) => flow.t,
                Line::Host(host) => host.t,
            };
            if t < last {
                return Err(problem(format!("its time {t} is before {last}")));
            }
            last = t;
            match entry {
                Line::Host(entry) => host.push(entry.sample()),
                Line::Flow(entry) => {
                    let sample = entry
                        .sample()
                        .ok_or_else(|| problem("no source has such a queue id".to_owned()))?;
                    let number = entry.flow as usize;
                    if number > flows.len() {
                        let next = flows.len();
                        return Err(problem(format!("flow {number} comes before flow {next}")));
                    }
                    if number == flows.len() {
                        flows.push(Vec::new());
                    }
                    flows[number].push(sample);
                }
            }
        }
        let now = Arc::new(Mutex::new(Duration::ZERO));
        let flows = (0..).zip(flows).map(|(number, samples)| {
            Arc::new(Track {
                id: FlowId::from_u64(number),
                now: Arc::clone(&now),
                samples,
            })
        });
        Ok(Self {
            flows: flows.collect(),
            now,
            host,
            watched: Mutex::new(0),
            targets: Targets::default(),
            events: Fanout::new(),
        })
    }

    /// Moves the clock on; it starts at zero.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock();
        *now = now.saturating_add(by);
    }

    /// Time of the last sample, from the first.
    pub fn length(&self) -> Duration {
        let of_flows = self
            .flows
            .iter()
            .filter_map(|flow| flow.samples.last()?.updated);
        let of_host = self.host.last().map(|sample| sample.taken);
        let last = of_flows.chain(of_host).max().unwrap_or_default();
        Duration::from_nanos(last.as_nanos())
    }

    /// Number of recorded flows.
    pub fn flows(&self) -> usize {
        self.flows.len()
    }
}

/// The last of `samples` that is no later than `now`.
fn at<T>(samples: &[T], now: Duration, time: impl Fn(&T) -> KernelTime) -> Option<&T> {
    let now = KernelTime::from_nanos(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
    let behind = samples.partition_point(|sample| time(sample) <= now);
    samples.get(behind.checked_sub(1)?)
}

impl SignalSource for ReplaySource {
    fn kind(&self) -> SourceKind {
        SourceKind::Replay
    }

    fn capabilities(&self) -> Vec<Capability> {
        vec![Capability::new("recording", "whatever was recorded", None)]
    }

    fn host(&self) -> HostSample {
        let now = *self.now.lock();
        let sample = at(&self.host, now, |sample| sample.taken);
        sample.copied().unwrap_or_default()
    }

    /// Reasons are not recorded.
    fn drops_by_reason(&self, _flow: Option<FlowId>) -> Vec<DropsByReason> {
        Vec::new()
    }

    fn watch(&self, target: WatchTarget<'_>) -> Result<Watch, WatchError> {
        self.targets.watch(&target, || {
            let mut watched = self.watched.lock();
            let flow = self.flows.get(*watched).ok_or(WatchError::NoSlot {
                slots: u32::try_from(self.flows.len()).unwrap_or(u32::MAX),
            })?;
            *watched += 1;
            Ok(Arc::clone(flow) as Arc<dyn FlowReader>)
        })
    }

    fn events(&self) -> Result<Box<dyn EventStream>, EventsError> {
        Ok(self.events.subscribe())
    }
}

impl FlowReader for Track {
    fn id(&self) -> FlowId {
        self.id
    }

    fn congestion(&self) -> LocalCongestion {
        self.sample().congestion
    }

    fn sample(&self) -> FlowSample {
        let now = *self.now.lock();
        let sample = at(&self.samples, now, |sample| {
            sample.updated.unwrap_or_default()
        });
        let sample = sample.copied();
        sample.unwrap_or_else(|| FlowSample::empty(SourceKind::Replay))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recorder;
    use super::*;
    use crate::MockSource;
    use crate::sample::{Direction, DropClass, DropCounters, QueueId, QueueSample, SendCounters};

    const MS: Duration = Duration::from_millis(1);

    /// Two flows, of which the second comes later, sampled each millisecond.
    fn recording() -> Vec<u8> {
        let source = Arc::new(MockSource::new());
        let flows = [source.add_flow(), source.add_flow()];
        let mut recorder = Recorder::new(source.clone(), Vec::new()).unwrap();
        recorder.add(flows[0].watch());
        for step in 0..10 {
            if step == 4 {
                recorder.add(flows[1].watch());
            }
            source.set_host(|host| {
                host.udp_send = Some(SendCounters {
                    bytes: 1200 * step,
                    calls: step,
                    estimated: 0,
                });
            });
            flows[0].observe_sent(1, 1200);
            flows[0].set_queue(QueueId::with_generation(3, 2).map(|id| {
                QueueSample::new(id)
                    .with_own(step)
                    .with_shared(2 * step)
                    .with_total(3 * step)
                    .with_drained(1)
                    .with_limit(Some(150_000))
            }));
            let dropped = DropCounters {
                skbs: 1,
                packets: 2,
                bytes: 2400,
            };
            let (egress, full) = (Direction::Egress, DropClass::QueueFull);
            flows[1].drop_packets(egress, full, "QDISC_DROP", dropped);
            flows[1].drop_packets(egress, DropClass::Policy, "NETFILTER_DROP", dropped);
            recorder.record().unwrap();
            source.advance(MS);
        }
        recorder.finish().unwrap()
    }

    fn any_socket() -> std::net::UdpSocket {
        std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap()
    }

    #[test]
    fn a_replay_says_at_each_time_what_was_said_then() {
        let source = ReplaySource::read(recording().as_slice()).unwrap();
        assert_eq!((source.flows(), source.length()), (2, 9 * MS));
        let sockets = [(); 3].map(|()| any_socket());
        let watch = |socket: usize| source.watch(WatchTarget::socket(&sockets[socket]));
        let [first, second] = [0, 1].map(|socket| watch(socket).unwrap());
        assert_eq!(watch(0).unwrap().id(), first.id());
        assert!(matches!(watch(2), Err(WatchError::NoSlot { slots: 2 })));
        for step in 0..10 {
            let congestion = first.congestion();
            assert!(congestion.live);
            assert_eq!(congestion.observed_packets, Some(step + 1));
            assert_eq!(
                congestion.taken,
                Some(KernelTime::from_nanos(step * 1_000_000))
            );
            let queue = congestion.queue.unwrap();
            assert_eq!(queue.id.generation(), 2);
            assert_eq!(
                (queue.own, queue.shared, queue.total),
                (Some(step), Some(2 * step), Some(3 * step))
            );
            assert_eq!(queue.limit, Some(150_000));
            assert_eq!(source.host().udp_send.map(|send| send.calls), Some(step));
            let drops = if step < 4 { 0 } else { 2 * (step + 1) };
            let reported = (step >= 4).then_some(drops);
            assert_eq!(second.congestion().queue_drops, reported);
            assert_eq!(second.congestion().policy_drops, reported);
            let table = second.sample().drops.map(|drops| drops.total().packets);
            assert_eq!(table, reported.map(|drops| 2 * drops));
            source.advance(MS);
        }
        source.advance(1000 * MS);
        assert_eq!(
            first.congestion().observed_packets,
            Some(10),
            "the last stays"
        );
    }

    #[test]
    fn what_is_no_recording_is_refused_with_the_line() {
        let whole = String::from_utf8(recording()).unwrap();
        let read = |text: String| ReplaySource::read(text.as_bytes()).unwrap_err();
        assert!(matches!(read(String::new()), ReplayError::NoRecording));
        assert!(matches!(read("{}\n".into()), ReplayError::NoRecording));
        let newer = whole.replacen("\"version\":1", "\"version\":2", 1);
        assert!(matches!(read(newer), ReplayError::Version { found: 2 }));
        let at = |error| match error {
            ReplayError::Line { line, .. } => line,
            other => panic!("{other}"),
        };
        let mut lines: Vec<&str> = whole.lines().collect();
        lines.swap(1, 4);
        assert_eq!(at(read(lines.join("\n"))), 3, "back in time");
        let far = whole.replacen("\"id\":3", "\"id\":1000", 1);
        assert_eq!(at(read(far)), 3);
        let cut = whole[..whole.len() - 20].to_owned();
        assert_eq!(at(read(cut)), whole.lines().count());
        let strange = whole.replacen("\"flow\":0", "\"flow\":7", 1);
        assert_eq!(at(read(strange)), 3);
    }
}
