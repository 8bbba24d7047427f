//! Which flow was handed out for which socket, by sources that do not ask the kernel.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::error::WatchError;
use crate::flow_id::FlowId;
use crate::sample::{FlowSample, LocalCongestion};
use crate::source::{FlowReader, Watch, WatchTarget};
use crate::version::{Change, Version};

/// A socket, and the single remote address of it where that is what is watched.
type Key = (u64, Option<SocketAddr>);

/// Flows that have handles, by what they were asked for.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    flows: Mutex<HashMap<Key, Weak<Handle>>>,
}

impl Targets {
    /// Another handle of a flow that has one, else a handle of what `begin` makes.
    pub(crate) fn watch(
        &self,
        target: &WatchTarget<'_>,
        begin: impl FnOnce() -> Result<Arc<dyn FlowReader>, WatchError>,
    ) -> Result<Watch, WatchError> {
        let Some(socket) = identity(target)? else {
            return begin().map(Watch::new);
        };
        let mut flows = self.flows.lock();
        let key = (socket, target.peer_address());
        if let Some(handle) = flows.get(&key).and_then(Weak::upgrade) {
            return Ok(Watch::new(handle));
        }
        // Now and then, those whose last handle is gone make room.
        if flows.len().is_power_of_two() {
            flows.retain(|_, flow| flow.strong_count() > 0);
        }
        let handle = Arc::new(Handle { flow: begin()? });
        flows.insert(key, Arc::downgrade(&handle));
        Ok(Watch::new(handle))
    }
}

/// What the handles of one flow share. The source holds the flow itself.
#[derive(Debug)]
struct Handle {
    flow: Arc<dyn FlowReader>,
}

impl FlowReader for Handle {
    fn id(&self) -> FlowId {
        self.flow.id()
    }

    fn congestion(&self) -> LocalCongestion {
        self.flow.congestion()
    }

    fn sample(&self) -> FlowSample {
        self.flow.sample()
    }

    fn versioned(&self) -> (LocalCongestion, Version) {
        self.flow.versioned()
    }

    fn change_since(&self, version: &Version) -> Change {
        self.flow.change_since(version)
    }

    fn seen_packets(&self) -> Option<u64> {
        self.flow.seen_packets()
    }
}

/// What no other open socket has: its inode.
#[cfg(unix)]
fn identity(target: &WatchTarget<'_>) -> Result<Option<u64>, WatchError> {
    use std::os::unix::fs::MetadataExt;

    let failed = |source| WatchError::Socket {
        operation: "fstat",
        source,
    };
    let socket = target.fd().try_clone_to_owned().map_err(failed)?;
    let socket = std::fs::File::from(socket).metadata().map_err(failed)?;
    Ok(Some(socket.ino()))
}

#[cfg(not(unix))]
fn identity(_target: &WatchTarget<'_>) -> Result<Option<u64>, WatchError> {
    Ok(None)
}

#[cfg(all(test, unix))]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;
    use crate::sample::SourceKind;

    #[derive(Debug)]
    struct Numbered(u64);

    impl FlowReader for Numbered {
        fn id(&self) -> FlowId {
            FlowId::from_u64(self.0)
        }

        fn congestion(&self) -> LocalCongestion {
            LocalCongestion::default()
        }

        fn sample(&self) -> FlowSample {
            FlowSample::empty(SourceKind::Replay)
        }
    }

    #[test]
    fn a_socket_or_peer_that_is_watched_already_gives_another_handle() {
        let (targets, mut flows) = (Targets::default(), 0);
        let mut watch = |target: WatchTarget<'_>| {
            let begin = || {
                flows += 1;
                Ok(Arc::new(Numbered(flows)) as Arc<dyn FlowReader>)
            };
            targets.watch(&target, begin).unwrap()
        };
        let [socket, other] = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let target = WatchTarget::socket(&socket);
        let (first, second) = (watch(target), watch(target.sharing()));
        assert_eq!(first.id(), second.id());
        let peer = target.peer(([192, 0, 2, 1], 443).into());
        let of_peer = watch(peer);
        assert_ne!(of_peer.id(), first.id());
        assert_eq!(watch(peer).id(), of_peer.id());
        assert_ne!(watch(WatchTarget::socket(&other)).id(), first.id());
        let id = first.id();
        drop((first, second));
        assert_ne!(watch(target).id(), id, "a new watch");
    }
}
