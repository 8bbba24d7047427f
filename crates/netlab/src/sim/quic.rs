//! One QUIC flow: the connection at either end, what writes into it and what reads from it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn_proto::congestion::ControllerFactory;
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, Dir, Endpoint, EndpointConfig, Event, ServerConfig,
    StreamEvent, StreamId, TransportConfig, VarInt, WriteError,
};

use super::app::{self, App, Completion};
use super::crypto::{PlainClient, PlainKey, PlainServer};
use super::ids::SeededIds;
use super::observe::{Observing, SharedFactory, SharedRecord};
use super::packet::Batch;
use super::random::Random;
use super::receiver::Receiver;
use super::scenario::{FlowSpec, TransportChange};
use super::time::{Clock, SimTime};

/// A connection, and the endpoint's name for it.
pub(super) struct End {
    pub(super) handle: ConnectionHandle,
    pub(super) connection: Connection,
    /// When it is to be woken next.
    pub(super) timer: Option<SimTime>,
}

/// A flow at work.
pub(super) struct QuicFlow {
    pub(super) spec: FlowSpec,
    pub(super) factory: SharedFactory,
    pub(super) record: SharedRecord,
    pub(super) base_record: SharedRecord,
    /// Index of its socket at the sending host.
    pub(super) socket: usize,
    /// Index of its signals.
    pub(super) watch: usize,
    pub(super) sender: Option<End>,
    pub(super) receiver: Option<End>,
    pub(super) receiving_endpoint: Endpoint,
    pub(super) receiving_socket: Receiver,
    /// A batch that the socket did not take.
    pub(super) buffered: Option<Batch>,
    /// It waits for the socket to take more.
    pub(super) blocked: bool,
    bursts: Vec<Burst>,
    connected: bool,
    /// What the receiver sends, and how much of it came.
    download: Option<Burst>,
    downloaded: u64,
    pub(super) received: u64,
    pub(super) counts: Counts,
    pub(super) completions: Vec<Completion>,
    pub(super) error: Option<String>,
}

/// What became of a flow's datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) local_drops: u64,
    pub(super) remote_drops: u64,
    pub(super) path_losses: u64,
    pub(super) policy_drops: u64,
    pub(super) blocked_sends: u64,
    pub(super) refused: u64,
}

/// Something to be sent on a stream of its own.
#[derive(Clone, Copy, Debug)]
struct Burst {
    began: SimTime,
    /// `None`: without end.
    size: Option<u64>,
    written: u64,
    stream: Option<StreamId>,
    finished: bool,
}

impl QuicFlow {
    pub(super) fn new(
        spec: &FlowSpec,
        factory: SharedFactory,
        records: (SharedRecord, SharedRecord),
        socket_and_watch: (usize, usize),
        receiving_socket: Receiver,
        random: &mut Random,
    ) -> Self {
        let mut server = ServerConfig::new(Arc::new(PlainServer), Arc::new(PlainKey));
        server
            .transport_config(Arc::new(receiving(receiving_socket.window())))
            .migration(false);
        Self {
            spec: spec.clone(),
            factory,
            record: records.0,
            base_record: records.1,
            socket: socket_and_watch.0,
            watch: socket_and_watch.1,
            sender: None,
            receiver: None,
            receiving_endpoint: endpoint(Some(server), random),
            receiving_socket,
            buffered: None,
            blocked: false,
            bursts: Vec::new(),
            connected: false,
            download: None,
            downloaded: 0,
            received: 0,
            counts: Counts::default(),
            completions: Vec::new(),
            error: None,
        }
    }

    /// Connects through the sending host's endpoint.
    pub(super) fn connect(
        &mut self,
        clock: Clock,
        now: SimTime,
        index: usize,
        endpoint: &mut Endpoint,
        random: &mut Random,
    ) {
        let mut transport = transport(self.spec.transport.as_ref());
        let observing: Arc<dyn ControllerFactory + Send + Sync> = Arc::new(Observing {
            inner: Arc::clone(&self.factory),
            record: Arc::clone(&self.record),
            clock,
        });
        transport.congestion_controller_factory(observing);
        let mut config = ClientConfig::new(Arc::new(PlainClient));
        config.transport_config(Arc::new(transport));
        let first_id = random.bytes();
        config.initial_dst_cid_provider(Arc::new(move || {
            quinn_proto::ConnectionId::new(&first_id[..20])
        }));
        let remote = receiver_address(index);
        match endpoint.connect(clock.instant(now), config, remote, "receiver") {
            Ok((handle, connection)) => {
                self.sender = Some(End {
                    handle,
                    connection,
                    timer: None,
                });
            }
            Err(error) => self.error = Some(error.to_string()),
        }
    }

    /// Something more is to be sent; when the next will be.
    pub(super) fn begin_burst(&mut self, now: SimTime) -> Option<SimTime> {
        let (size, next) = match self.spec.app {
            App::Bulk => (None, None),
            App::Transfer(bytes) => (Some(bytes), None),
            App::OnOff { burst, every } => (Some(burst), Some(now + every)),
            App::Responses { bytes, .. } => (Some(bytes), None),
        };
        self.bursts.push(Burst {
            began: now,
            size,
            written: 0,
            stream: None,
            finished: false,
        });
        next
    }

    /// The sending program's part: takes note of what happened and writes what it can.
    pub(super) fn run_sender(&mut self) {
        let Some(end) = &mut self.sender else {
            return;
        };
        while let Some(event) = end.connection.poll() {
            match event {
                Event::Connected => self.connected = true,
                Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) => {
                    while let Some(id) = end.connection.streams().accept(Dir::Uni) {
                        self.downloaded += read(&mut end.connection, id).bytes;
                    }
                }
                Event::Stream(StreamEvent::Readable { id }) => {
                    self.downloaded += read(&mut end.connection, id).bytes;
                }
                Event::ConnectionLost { reason } => {
                    self.error.get_or_insert(reason.to_string());
                }
                _ => {}
            }
        }
        if !self.connected || self.error.is_some() {
            return;
        }
        for burst in self.bursts.iter_mut().filter(|burst| !burst.finished) {
            let Some(stream) = burst
                .stream
                .or_else(|| end.connection.streams().open(Dir::Uni))
            else {
                return;
            };
            burst.stream = Some(stream);
            loop {
                let rest = match burst.size {
                    Some(size) => size - burst.written,
                    // Written ahead of what has arrived, no more.
                    None if burst.written - self.received < app::AHEAD => u64::MAX,
                    None => break,
                };
                let mut stream = end.connection.send_stream(stream);
                if rest == 0 {
                    burst.finished = stream.finish().is_ok();
                    break;
                }
                match stream.write_chunks(&mut [app::piece(rest)]) {
                    Ok(written) => burst.written += written.bytes as u64,
                    Err(WriteError::Blocked) => break,
                    Err(error) => {
                        self.error.get_or_insert(error.to_string());
                        return;
                    }
                }
            }
        }
    }

    /// The receiving program's part: reads what there is.
    pub(super) fn run_receiver(&mut self, now: SimTime) {
        let Some(end) = &mut self.receiver else {
            return;
        };
        while let Some(event) = end.connection.poll() {
            match event {
                Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) => {
                    while let Some(id) = end.connection.streams().accept(Dir::Uni) {
                        let read = read(&mut end.connection, id);
                        self.received += read.bytes;
                        if read.ended {
                            complete(&self.bursts, &mut self.completions, id, now);
                        }
                    }
                }
                Event::Stream(StreamEvent::Readable { id }) => {
                    let read = read(&mut end.connection, id);
                    self.received += read.bytes;
                    if read.ended {
                        complete(&self.bursts, &mut self.completions, id, now);
                    }
                }
                Event::ConnectionLost { reason } => {
                    self.error.get_or_insert(reason.to_string());
                }
                _ => {}
            }
        }
        let until = self.spec.downloads_until.map(SimTime::from);
        if until.is_some_and(|until| now < until) {
            write_download(&mut end.connection, &mut self.download, self.downloaded);
        }
    }
}

/// Writes what the receiver sends, some way ahead of what has come.
fn write_download(connection: &mut Connection, download: &mut Option<Burst>, came: u64) {
    const AHEAD: u64 = 1 << 20;
    if download.is_none() {
        *download = connection.streams().open(Dir::Uni).map(|stream| Burst {
            began: SimTime::ZERO,
            size: None,
            written: 0,
            stream: Some(stream),
            finished: false,
        });
    }
    let Some(Burst {
        written,
        stream: Some(id),
        ..
    }) = download
    else {
        return;
    };
    while *written < came + AHEAD {
        let mut stream = connection.send_stream(*id);
        match stream.write_chunks(&mut [app::piece(AHEAD)]) {
            Ok(more) => *written += more.bytes as u64,
            Err(_) => return,
        }
    }
}

/// What a read of a stream returned.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    bytes: u64,
    ended: bool,
}

fn read(connection: &mut Connection, id: StreamId) -> Read {
    let mut found = Read::default();
    let mut stream = connection.recv_stream(id);
    let Ok(mut chunks) = stream.read(false) else {
        return found;
    };
    loop {
        match chunks.next(usize::MAX) {
            Ok(Some(chunk)) => found.bytes += chunk.bytes.len() as u64,
            Ok(None) => {
                found.ended = true;
                break;
            }
            Err(_) => break,
        }
    }
    // Whether that asks for a packet, the connection is asked in any case.
    let _ = chunks.finalize();
    found
}

fn complete(bursts: &[Burst], completions: &mut Vec<Completion>, id: StreamId, now: SimTime) {
    let burst = usize::try_from(id.index())
        .ok()
        .and_then(|index| bursts.get(index));
    if let Some(burst) = burst {
        completions.push(Completion {
            began: burst.began.since_start(),
            took: now.since(burst.began),
        });
    }
}

/// An endpoint whose every choice comes from `random`.
pub(super) fn endpoint(server: Option<ServerConfig>, random: &mut Random) -> Endpoint {
    let mut config = EndpointConfig::new(Arc::new(PlainKey));
    config.rng_seed(Some(random.bytes()));
    let ids = random.clone();
    config.cid_generator(move || Box::new(SeededIds::new(ids.clone())));
    random.next();
    Endpoint::new(Arc::new(config), server.map(Arc::new), true, None)
}

/// quinn's defaults, but that flow control and idleness limit nothing.
fn transport(change: Option<&TransportChange>) -> TransportConfig {
    let window = VarInt::from_u64(app::FLOW_CONTROL_WINDOW).unwrap_or(VarInt::MAX);
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(window)
        .receive_window(window)
        .send_window(app::FLOW_CONTROL_WINDOW)
        .max_concurrent_uni_streams(VarInt::from_u32(10_000))
        .max_idle_timeout(None);
    if let Some(change) = change {
        change(&mut transport);
    }
    transport
}

/// The same at the receiver, with a window for the whole connection.
fn receiving(window: u64) -> TransportConfig {
    let mut transport = transport(None);
    transport.receive_window(VarInt::from_u64(window).unwrap_or(VarInt::MAX));
    transport
}

/// The address of the sending host's socket of this index.
pub(super) fn sender_address(socket: usize) -> SocketAddr {
    address(10, socket, 40_000)
}

/// The address of the receiver of the flow of this index.
pub(super) fn receiver_address(flow: usize) -> SocketAddr {
    address(11, flow, 4433)
}

fn address(network: u8, index: usize, port: u16) -> SocketAddr {
    let [.., high, low] = (index as u64 + 1).to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(network, 0, high, low), port))
}

/// Time until the connection wants to be woken, rounded up as the host's timers do.
pub(super) fn next_timer(
    end: &mut End,
    clock: Clock,
    now: SimTime,
    granularity: Duration,
) -> Option<SimTime> {
    let at = clock.time(end.connection.poll_timeout()?);
    let at = at.ceil(granularity).max(now);
    if end.timer.is_some_and(|timer| timer <= at) {
        return None;
    }
    end.timer = Some(at);
    Some(at)
}
