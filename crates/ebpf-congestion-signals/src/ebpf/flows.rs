//! Which flows are watched, and the slots they have.

use std::collections::{HashMap, VecDeque};
use std::io;

use aya::maps::MapError;
use ebpf_congestion_signals_common::{
    DropCounters, FLOW_IS_SHARED, FlowSlot, Layout, LocalKey, PeerKey, ReasonKey, SLOT_BYTES,
    SocketEntry, cookie_place,
};

use super::load::{Maps, Plain, SlotWords};
use super::mapped::FlowIndex;
use super::socket::{self, Identity};
use crate::error::WatchError;
use crate::source::{FlowId, WatchTarget};

/// A flow that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) id: FlowId,
    pub(super) index: FlowIndex,
    cookie: u64,
    /// The single remote address, where that is what is watched.
    peer: Option<PeerKey>,
}

impl Flow {
    /// Whether this is a socket's single peer.
    pub(super) fn is_peer(&self) -> bool {
        self.peer.is_some()
    }
}

/// A socket of which something is watched.
struct Watched {
    /// By which packets that have lost it are found.
    local: Option<LocalKey>,
    entry: SocketEntry,
}

/// The watched flows, here and in the probes' maps.
pub(super) struct Registry {
    maps: Maps,
    layout: Layout,
    /// Slots that are free, longest-free first: a probe that is just running may still write to
    /// one that was given back.
    free: VecDeque<FlowIndex>,
    sockets: HashMap<u64, Watched>,
    /// Watched sockets that share a local address (SO_REUSEPORT).
    locals: HashMap<LocalKey, Vec<u64>>,
    flows: HashMap<FlowIndex, FlowId>,
    next_id: u64,
}

impl Registry {
    pub(super) fn new(maps: Maps, layout: Layout) -> Self {
        Self {
            maps,
            layout,
            free: FlowIndex::all(layout).collect(),
            sockets: HashMap::new(),
            locals: HashMap::new(),
            flows: HashMap::new(),
            next_id: 0,
        }
    }

    /// The flow that has a slot now.
    pub(super) fn flow_at(&self, slot: u32) -> Option<FlowId> {
        self.flows
            .iter()
            .find(|(index, _)| index.slot() == slot)
            .map(|(_, id)| *id)
    }

    fn slot_of(&self, id: FlowId) -> Option<u32> {
        self.flows
            .iter()
            .find(|(_, flow)| **flow == id)
            .map(|(index, _)| index.slot())
    }

    /// Begins to watch.
    pub(super) fn add(&mut self, target: &WatchTarget<'_>) -> Result<Flow, WatchError> {
        let identity = socket::identify(target.fd())?;
        let peer = target.peer_address().map(|remote| PeerKey {
            cookie: identity.cookie,
            remote: socket::address(remote),
        });
        if self.is_watched(identity.cookie, peer) {
            return Err(WatchError::AlreadyWatched);
        }
        let index = self.free.pop_front().ok_or(WatchError::NoSlot {
            slots: self.layout.flows,
        })?;
        let flow = Flow {
            id: FlowId::from_u64(self.next_id),
            index,
            cookie: identity.cookie,
            peer,
        };
        if let Err(error) = self.register(&flow, &identity, target.is_sharing()) {
            self.remove(&flow);
            return Err(error);
        }
        self.next_id += 1;
        self.flows.insert(index, flow.id);
        Ok(flow)
    }

    fn is_watched(&self, cookie: u64, peer: Option<PeerKey>) -> bool {
        match peer {
            Some(peer) => self.maps.peers.get(&Plain(peer), 0).is_ok(),
            None => self
                .sockets
                .get(&cookie)
                .is_some_and(|socket| socket.entry.slot != 0),
        }
    }

    /// Writes the entries of a flow, from what the probes look at last to what they look at
    /// first.
    fn register(
        &mut self,
        flow: &Flow,
        identity: &Identity,
        sharing: bool,
    ) -> Result<(), WatchError> {
        self.forget_reasons(flow.index.slot());
        self.maps
            .slots
            .set(flow.index.slot(), fresh_slot(sharing), 0)
            .map_err(refused("SLOTS"))?;
        if let Some(peer) = flow.peer {
            self.maps
                .peers
                .insert(Plain(peer), flow.index.slot(), 0)
                .map_err(refused("PEERS"))?;
        }
        if !self.sockets.contains_key(&identity.cookie) {
            self.mark_watched(identity.cookie, u32::saturating_add)
                .map_err(refused("WATCHED"))?;
        }
        let socket = self.sockets.entry(identity.cookie).or_insert_with(|| {
            if let Some(local) = identity.local {
                self.locals.entry(local).or_default().push(identity.cookie);
            }
            Watched {
                local: identity.local,
                entry: SocketEntry::default(),
            }
        });
        if flow.peer.is_some() {
            socket.entry.peers += 1;
        } else {
            socket.entry.slot = flow.index.slot();
        }
        let entry = socket.entry;
        if let Some(local) = identity.local {
            self.publish_local(&local)?;
        }
        self.maps
            .sockets
            .insert(identity.cookie, Plain(entry), 0)
            .map_err(refused("SOCKETS"))
    }

    /// Ends the watch, and undoes what a failed one has done.
    pub(super) fn remove(&mut self, flow: &Flow) {
        if let Some(peer) = flow.peer {
            logged("PEERS", self.maps.peers.remove(&Plain(peer)));
        }
        if let Some(socket) = self.sockets.get_mut(&flow.cookie) {
            if flow.is_peer() {
                socket.entry.peers = socket.entry.peers.saturating_sub(1);
            } else {
                socket.entry.slot = 0;
            }
            let Watched { local, entry } = *socket;
            if entry == SocketEntry::default() {
                self.sockets.remove(&flow.cookie);
                logged("SOCKETS", self.maps.sockets.remove(&flow.cookie));
                logged(
                    "WATCHED",
                    self.mark_watched(flow.cookie, u32::saturating_sub),
                );
                if let Some(local) = local {
                    self.forget_local(flow.cookie, local);
                }
            } else {
                logged(
                    "SOCKETS",
                    self.maps.sockets.insert(flow.cookie, Plain(entry), 0),
                );
            }
        }
        self.flows.remove(&flow.index);
        self.free.push_back(flow.index);
    }

    /// Counts a socket where the probes look first.
    fn mark_watched(
        &mut self,
        cookie: u64,
        change: impl Fn(u32, u32) -> u32,
    ) -> Result<(), MapError> {
        let place = cookie_place(cookie);
        let sockets = self.maps.watched.get(&place, 0)?;
        self.maps.watched.set(place, change(sockets, 1), 0)
    }

    fn forget_local(&mut self, cookie: u64, local: LocalKey) {
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

    /// Tells the probes which socket has a local address. Where several share it, none: a packet
    /// that has lost its socket is better counted for nobody than for the wrong one.
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

    /// Drops by reason of a flow, or of the host.
    pub(super) fn reasons(&self, flow: Option<FlowId>) -> Vec<(ReasonKey, DropCounters)> {
        let slot = match flow {
            None => 0,
            Some(id) => match self.slot_of(id) {
                Some(slot) => slot,
                None => return Vec::new(),
            },
        };
        let entries = self.maps.reasons.iter().filter_map(|entry| match entry {
            Ok((Plain(key), Plain(counters))) => Some((key, counters)),
            Err(error) => {
                tracing::warn!(%error, "the table of drop reasons cannot be read on");
                None
            }
        });
        entries.filter(|(key, _)| key.slot == slot).collect()
    }

    /// Removes what an earlier flow of this slot has left.
    fn forget_reasons(&mut self, slot: u32) {
        let stale: Vec<ReasonKey> = self
            .maps
            .reasons
            .keys()
            .filter_map(|key| key.ok().map(|Plain(key)| key))
            .filter(|key| key.slot == slot)
            .collect();
        for key in stale {
            logged("REASONS", self.maps.reasons.remove(&Plain(key)));
        }
    }
}

/// A slot that has counted nothing.
fn fresh_slot(sharing: bool) -> SlotWords {
    const FLAGS_AT: usize = std::mem::offset_of!(FlowSlot, flags);
    let mut bytes = [0u8; SLOT_BYTES];
    let flags = if sharing { FLOW_IS_SHARED } else { 0 };
    bytes[FLAGS_AT..FLAGS_AT + 4].copy_from_slice(&flags.to_ne_bytes());
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

/// Removing what is not there is no failure; anything else leaves an entry that does no harm.
fn logged(map: &'static str, result: Result<(), MapError>) {
    match result {
        Ok(()) | Err(MapError::KeyNotFound) => {}
        Err(MapError::SyscallError(call)) if call.io_error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(map, %error, "a map entry could not be changed"),
    }
}
