//! One error a kind of operation; each message names the cause and what to do about it.

use std::io;
#[cfg(all(feature = "ebpf", target_os = "linux"))]
use std::path::PathBuf;

use thiserror::Error;

use crate::shortage::remedy_or;

/// Why a flow cannot be watched.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The socket is neither UDP nor TCP over IPv4 or IPv6.
    #[error(
        "the socket is neither UDP nor TCP over IPv4 or IPv6 ({found}): only such sockets can be \
         watched"
    )]
    WrongProtocol {
        /// What it is instead.
        found: String,
    },
    /// The socket has no local port yet.
    #[error("the socket is not bound: bind it (port 0 will do) or connect it before it is watched")]
    NotBound,
    /// The kernel would not say what the socket is.
    #[error(
        "{operation} failed for the socket: {}",
        remedy_or(source, "is it closed?")
    )]
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
    /// This source cannot watch such a flow, wherever it runs.
    #[error("this source cannot watch {what}")]
    Unsupported {
        /// What was asked for.
        what: String,
    },
    /// The source has lost what it learns from, and can watch nothing more.
    #[error("the source is no longer connected ({reason}): make a new one")]
    Disconnected {
        /// Why.
        reason: String,
    },
    /// The source may not watch this flow for this caller.
    #[error("watching this flow is denied: {reason}")]
    Denied {
        /// Why, and what would change that.
        reason: String,
    },
    /// The kernel refused an entry in the map of watched flows.
    #[error(
        "the kernel refused to register the flow in map {map}: {}",
        remedy_or(source, "load the source with room for more flows")
    )]
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
    #[error(
        "the ring buffer cannot be waited on: {}",
        remedy_or(.0, "build the runtime with its I/O driver enabled")
    )]
    Register(#[source] io::Error),
    /// This source has no events.
    #[error("this source has no events: compare its counters instead")]
    Unsupported,
    /// The source has lost what it learns from.
    #[error("the source is no longer connected ({reason}): make a new one")]
    Disconnected {
        /// Why.
        reason: String,
    },
    /// The source may not give events to this reader.
    #[error("reading events is denied: {reason}")]
    Denied {
        /// Why, and what would change that.
        reason: String,
    },
}

/// Why probes cannot be loaded.
#[cfg(all(feature = "ebpf", target_os = "linux"))]
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The process may not load probes.
    #[error("not permitted to load probes ({refused}): {cause}")]
    NotPermitted {
        /// What the kernel refused.
        refused: &'static str,
        /// Why, as far as the process can find out, and what would change that.
        cause: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel's type information cannot be read.
    #[error("the kernel's type information is needed to load probes")]
    Btf(#[from] crate::btf::BtfError),
    /// A map could not be made.
    #[error(
        "the kernel refused to make a map of {slots} slots: load with fewer flows, or give the \
         process more memory"
    )]
    Map {
        /// Slots asked for.
        slots: u32,
        /// The loader's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The process, or the host, has no descriptors or no memory left for the probes. Loading may
    /// succeed later.
    #[error("the kernel refused {refused}: {}", remedy_or(source, "try again"))]
    Exhausted {
        /// What the kernel refused.
        refused: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A file in which the kernel describes the host cannot be read or understood.
    #[error(
        "{} cannot be read: mount sysfs on /sys, or let the sandbox or container expose the file \
         read-only",
        path.display()
    )]
    Host {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// This kernel has none of the tracepoints that the probes attach to.
    #[error("this kernel is too old for every probe: {needs}")]
    KernelTooOld {
        /// What would be needed.
        needs: &'static str,
    },
    /// The kernel's verifier rejected every probe. A defect of this crate: please report it with
    /// the log.
    #[error("the kernel rejected probe {probe}; its verifier says: {log}")]
    Rejected {
        /// The probe's name.
        probe: &'static str,
        /// The verifier's log, or the error where there is none.
        log: String,
    },
    /// The embedded object does not fit this crate: a defect of the build.
    #[error("the embedded object cannot be used ({problem}): rebuild it with `cargo xtask bpf`")]
    Object {
        /// What does not fit.
        problem: String,
    },
    /// Memory of a map could not be shared with the process.
    #[error(
        "the map of slots cannot be mapped into memory: load with fewer flows, or raise the limit of \
         the process's memory (`ulimit -v`)"
    )]
    Mmap(#[source] io::Error),
    /// An option is out of its limits.
    #[error("{option} is {value}, but must be {limits}")]
    Option {
        /// Which option.
        option: &'static str,
        /// Its value.
        value: u64,
        /// What it may be.
        limits: &'static str,
    },
}

/// An error and its causes.
#[cfg(all(feature = "ebpf", target_os = "linux"))]
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}
