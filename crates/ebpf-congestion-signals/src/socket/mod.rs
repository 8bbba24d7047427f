//! The source of signals for programs without privilege: what a program may know of its own
//! sockets, and what the kernel reports of its queues without privilege.
//!
//! - `observer` gets a report of every send and receive, and reads the socket's memory use between.
//! - `ledger` turns that memory into bytes in the queue, and into each peer's part.
//! - `poller` lists devices' queues, in a thread of its own, while a socket waits in one.
//! - `reader` puts together what those see who watch a flow: a few loads.
//! - `source` offers it; what all of them share is in `shared`.

mod books;
mod capabilities;
mod error_queue;
mod flow;
mod host;
mod in_progress;
mod kernel;
pub mod ledger;
pub mod netlink;
mod observer;
mod poller;
mod pressure;
mod queues;
mod reader;
mod shape;
mod shared;
mod snmp;
mod source;
mod state;
pub mod truesize;
mod waker;

pub use error_queue::NetworkError;
pub use source::SocketSource;
