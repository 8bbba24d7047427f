//! One error a kind of operation; each message names the cause and what to do about it.

use std::io;

use thiserror::Error;

/// Why a flow cannot be watched.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The socket is not a UDP socket over IPv4 or IPv6.
    #[error("the socket is not UDP over IPv4 or IPv6 ({found}): only such sockets can be watched")]
    NotUdp {
        /// What it is instead.
        found: String,
    },
    /// The socket has no local port yet.
    #[error("the socket is not bound: bind it (port 0 will do) before it is watched")]
    NotBound,
    /// The kernel would not say what the socket is.
    #[error("the socket cannot be read ({operation}): is it closed?")]
    Socket {
        /// The call that failed.
        operation: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Every slot for flows is taken.
    #[error(
        "all {slots} flow slots are taken: release watches that are no longer needed, or load the \
         source with room for more flows"
    )]
    NoSlot {
        /// How many flows the source was loaded for.
        slots: u32,
    },
    /// The same flow is watched already.
    #[error("this flow is watched already: clone its Watch instead of watching it again")]
    AlreadyWatched,
    /// The kernel refused an entry in the map of watched flows.
    #[error("the kernel refused to register the flow in map {map}")]
    Map {
        /// The map's name.
        map: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Why events cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EventsError {
    /// There is no tokio runtime to wait in.
    #[error("no tokio runtime is running here: call this from a task, or enter a runtime first")]
    NoRuntime,
    /// The ring buffer could not be registered with the runtime.
    #[error("the ring buffer cannot be waited on")]
    Register(#[source] io::Error),
}
