//! Which flows are watched, and the slots they have.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Weak};

use aya::maps::MapError;
use ebpf_congestion_signals_common::{
    FLOW_IS_SHARED, FlowRef, FlowSlot, Layout, LocalKey, PeerKey, SLOT_BYTES, SocketEntry,
    cookie_bucket,
};

use super::load::{Maps, Plain, SlotWords};
use super::mapped::FlowIndex;
use super::socket::Identity;
use crate::error::WatchError;
use crate::flow_id::FlowId;
use crate::source::FlowReader;

/// What is watched: a socket by its cookie, or one remote address of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FlowKey {
    pub(super) cookie: u64,
    pub(super) peer: Option<PeerKey>,
}

/// A flow that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) index: FlowIndex,
    /// The slot's generation while it is this flow's.
    pub(super) generation: u32,
    pub(super) key: FlowKey,
}

impl Flow {
    /// The slot and its generation: a slot is given away again, with another generation.
    pub(super) fn id(&self) -> FlowId {
        flow_id(self.index.slot(), self.generation)
    }

    /// Whether this is a socket's single peer.
    pub(super) fn is_peer(&self) -> bool {
        self.key.peer.is_some()
    }

    fn reference(&self, sharing: bool) -> FlowRef {
        let flag = if sharing { FLOW_IS_SHARED } else { 0 };
        FlowRef {
            slot: self.index.slot() | flag,
            generation: self.generation,
        }
    }
}

/// The flow that has a slot in a generation.
pub(super) fn flow_id(slot: u32, generation: u32) -> FlowId {
    FlowId::from_u64(u64::from(generation) << 32 | u64::from(slot))
}

/// The slot and the generation of a flow.
pub(super) fn slot_of(id: FlowId) -> (u32, u32) {
    let [low, high] = [id.as_u64(), id.as_u64() >> 32].map(|half| half & u64::from(u32::MAX));
    let word = |half| u32::try_from(half).unwrap_or_default();
    (word(low), word(high))
}

/// A flow that has readers.
struct Read {
    flow: Flow,
    sharing: bool,
    reader: Weak<dyn FlowReader>,
}

/// A socket that is watched, whole or one of its peers.
struct Watched {
    /// Finds packets whose skb no longer names the socket.
    local: Option<LocalKey>,
    entry: SocketEntry,
}

/// The watched flows, here and in the probes' maps. The work of a change does not depend on how
/// many there are.
pub(super) struct Registry {
    maps: Maps,
    layout: Layout,
    /// Slots that are free, longest-free first: a probe that is just running may still write to
    /// one that was given back.
    free: VecDeque<FlowIndex>,
    /// How many flows have had each slot.
    generations: Vec<u32>,
    /// The generation in which each slot is a watched flow's; 0: it is not.
    live: Vec<u32>,
    sockets: HashMap<u64, Watched>,
    /// Watched sockets that share a local address (SO_REUSEPORT).
    locals: HashMap<LocalKey, Vec<u64>>,
    flows: HashMap<FlowKey, Read>,
}

impl Registry {
    pub(super) fn new(maps: Maps, layout: Layout) -> Self {
        Self {
            maps,
            layout,
            free: FlowIndex::all(layout).collect(),
            generations: vec![0; layout.slots() as usize],
            live: vec![0; layout.slots() as usize],
            sockets: HashMap::new(),
            locals: HashMap::new(),
            flows: HashMap::new(),
        }
    }

    /// The reader of a flow that is watched already. `None` also while its last reader is being
    /// dropped.
    pub(super) fn reader(&self, key: &FlowKey) -> Option<(Flow, Arc<dyn FlowReader>)> {
        let known = self.flows.get(key)?;
        Some((known.flow, known.reader.upgrade()?))
    }

    /// Makes a flow a sharing one. Bytes of it that are queued already count as shared from its
    /// next packet on.
    pub(super) fn share(&mut self, key: &FlowKey) -> Result<(), WatchError> {
        let Some(held) = self.flows.get_mut(key) else {
            return Ok(());
        };
        if held.sharing {
            return Ok(());
        }
        let reference = held.flow.reference(true);
        match key.peer {
            Some(peer) => self.maps.peers.insert(Plain(peer), Plain(reference), 0),
            None => match self.sockets.get_mut(&key.cookie) {
                Some(socket) => {
                    socket.entry.flow = reference;
                    let entry = Plain(socket.entry);
                    self.maps.sockets.insert(key.cookie, entry, 0)
                }
                None => Ok(()),
            },
        }
        .map_err(refused(if key.peer.is_some() {
            "PEERS"
        } else {
            "SOCKETS"
        }))?;
        held.sharing = true;
        Ok(())
    }

    /// Begins to watch. `reader` makes the flow's first reader.
    pub(super) fn add(
        &mut self,
        key: FlowKey,
        identity: &Identity,
        sharing: bool,
        reader: impl FnOnce(Flow) -> Arc<dyn FlowReader>,
    ) -> Result<(Flow, Arc<dyn FlowReader>), WatchError> {
        let index = self.free.pop_front().ok_or(WatchError::NoSlot {
            slots: self.layout.flows,
        })?;
        let generation = &mut self.generations[index.slot() as usize];
        // Generation 0 is that of a slot that was never in use.
        *generation = generation.wrapping_add(1).max(1);
        let flow = Flow {
            index,
            generation: *generation,
            key,
        };
        if let Err(error) = self.register(&flow, identity, sharing) {
            self.free.push_back(index);
            return Err(error);
        }
        self.live[index.slot() as usize] = flow.generation;
        let reader = reader(flow);
        let read = Read {
            flow,
            sharing,
            reader: Arc::downgrade(&reader),
        };
        self.flows.insert(key, read);
        Ok((flow, reader))
    }

    /// Writes the entries of a flow, from what the probes read last to what they read first.
    /// What was written before a failure is taken back.
    fn register(
        &mut self,
        flow: &Flow,
        identity: &Identity,
        sharing: bool,
    ) -> Result<(), WatchError> {
        let cookie = flow.key.cookie;
        let reference = flow.reference(sharing);
        self.maps
            .slots
            .set(flow.index.slot(), fresh_slot(flow.generation), 0)
            .map_err(refused("SLOTS"))?;
        if let Some(peer) = flow.key.peer {
            self.maps
                .peers
                .insert(Plain(peer), Plain(reference), 0)
                .map_err(refused("PEERS"))?;
        }
        let known = self.sockets.get(&cookie);
        let is_new = known.is_none();
        let mut entry = known.map_or_else(SocketEntry::default, |socket| socket.entry);
        if flow.is_peer() {
            entry.peers += 1;
        } else {
            entry.flow = reference;
        }
        let mut done = self
            .maps
            .sockets
            .insert(cookie, Plain(entry), 0)
            .map_err(refused("SOCKETS"));
        if done.is_ok() && is_new {
            done = self.add_local(cookie, identity.local);
            if done.is_ok() {
                done = self
                    .mark_watched(cookie, u32::saturating_add)
                    .map_err(refused("WATCHED"));
                if done.is_err() {
                    self.forget_local(cookie, identity.local);
                }
            }
            if done.is_err() {
                logged("SOCKETS", self.maps.sockets.remove(&cookie));
            }
        }
        if let Err(error) = done {
            if let Some(peer) = flow.key.peer {
                logged("PEERS", self.maps.peers.remove(&Plain(peer)));
            }
            return Err(error);
        }
        let socket = self.sockets.entry(cookie).or_insert_with(|| Watched {
            local: identity.local,
            entry,
        });
        socket.entry = entry;
        Ok(())
    }

    /// Ends the watch. A flow of the same key that was begun meanwhile stays.
    pub(super) fn remove(&mut self, flow: &Flow) {
        let key = &flow.key;
        let is_current = self
            .flows
            .get(key)
            .is_some_and(|held| held.flow.generation == flow.generation);
        if is_current {
            self.flows.remove(key);
            if let Some(peer) = key.peer {
                logged("PEERS", self.maps.peers.remove(&Plain(peer)));
            }
        }
        if let Some(socket) = self.sockets.get_mut(&key.cookie) {
            if flow.is_peer() {
                socket.entry.peers = socket.entry.peers.saturating_sub(1);
            } else if is_current {
                socket.entry.flow = FlowRef::NONE;
            }
            let Watched { local, entry } = *socket;
            if entry == SocketEntry::default() {
                self.sockets.remove(&key.cookie);
                logged("SOCKETS", self.maps.sockets.remove(&key.cookie));
                logged(
                    "WATCHED",
                    self.mark_watched(key.cookie, u32::saturating_sub),
                );
                self.forget_local(key.cookie, local);
            } else {
                let result = self.maps.sockets.insert(key.cookie, Plain(entry), 0);
                logged("SOCKETS", result);
            }
        }
        self.live[flow.index.slot() as usize] = 0;
        self.free.push_back(flow.index);
    }

    /// Whether a slot in this generation is a watched flow's.
    pub(super) fn is_live(&self, slot: u32, generation: u32) -> bool {
        self.live.get(slot as usize) == Some(&generation)
    }

    /// Counts a socket in the array that the probes read first.
    fn mark_watched(
        &mut self,
        cookie: u64,
        change: impl Fn(u32, u32) -> u32,
    ) -> Result<(), MapError> {
        let place = cookie_bucket(cookie);
        let sockets = self.maps.watched.get(&place, 0)?;
        self.maps.watched.set(place, change(sockets, 1), 0)
    }

    fn add_local(&mut self, cookie: u64, local: Option<LocalKey>) -> Result<(), WatchError> {
        let Some(local) = local else { return Ok(()) };
        self.locals.entry(local).or_default().push(cookie);
        let result = self.publish_local(&local);
        if result.is_err() {
            self.forget_local(cookie, Some(local));
        }
        result
    }

    fn forget_local(&mut self, cookie: u64, local: Option<LocalKey>) {
        let Some(local) = local else { return };
        if let Some(cookies) = self.locals.get_mut(&local) {
            cookies.retain(|other| *other != cookie);
            if cookies.is_empty() {
                self.locals.remove(&local);
            }
        }
        if let Err(error) = self.publish_local(&local) {
            tracing::warn!(%error, "a watched socket's address stays registered");
        }
    }

    /// Sets which socket has a local address, for the probes. Where several share it, none: a
    /// packet that has lost its socket is better not counted than counted for the wrong one.
    fn publish_local(&mut self, local: &LocalKey) -> Result<(), WatchError> {
        match self.locals.get(local).map(Vec::as_slice) {
            Some([cookie]) => self
                .maps
                .locals
                .insert(Plain(*local), *cookie, 0)
                .map_err(refused("LOCALS")),
            _ => {
                logged("LOCALS", self.maps.locals.remove(&Plain(*local)));
                Ok(())
            }
        }
    }
}

/// A slot with all counters at zero.
fn fresh_slot(generation: u32) -> SlotWords {
    const GENERATION_AT: usize = std::mem::offset_of!(FlowSlot, generation);
    let mut bytes = [0u8; SLOT_BYTES];
    bytes[GENERATION_AT..GENERATION_AT + 4].copy_from_slice(&generation.to_ne_bytes());
    let mut words: SlotWords = [0; SLOT_BYTES / 8];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut chunk = [0; 8];
        chunk.copy_from_slice(bytes);
        *word = u64::from_ne_bytes(chunk);
    }
    words
}

fn refused(map: &'static str) -> impl Fn(MapError) -> WatchError {
    move |error| {
        let source = match error {
            MapError::SyscallError(call) => call.io_error,
            other => io::Error::other(other.to_string()),
        };
        WatchError::Map { map, source }
    }
}

/// A missing entry is no failure; after another error an entry stays, which is harmless.
fn logged(map: &'static str, result: Result<(), MapError>) {
    match result {
        Ok(()) | Err(MapError::KeyNotFound) => {}
        Err(MapError::SyscallError(call)) if call.io_error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(map, %error, "a map entry could not be changed"),
    }
}
