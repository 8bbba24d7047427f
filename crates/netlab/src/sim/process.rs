//! Programs that have the host's signals.

use std::fmt;
use std::sync::Arc;

use ebpf_congestion_signals::{MockSource, SignalSource, Watch};

use super::observe::{BaseRecords, ObservingBase, SharedFactory};

/// Makes the controllers of one process, given a source of signals.
type Start = dyn Fn(&ProcessContext) -> Box<dyn FnMut(Watch) -> SharedFactory> + Send + Sync;

/// A program of the sender's host that has its signals. Clones are the same program: flows that
/// were given clones of one share what it sets up when a run starts.
#[derive(Clone)]
pub struct Process {
    start: Arc<Start>,
}

impl Process {
    /// A program that, given its host, says how a flow that it watches is controlled. The inner
    /// function is called once for each watched flow, or socket.
    pub fn new<F>(start: F) -> Self
    where
        F: Fn(&ProcessContext) -> Box<dyn FnMut(Watch) -> SharedFactory> + Send + Sync + 'static,
    {
        Self {
            start: Arc::new(start),
        }
    }

    /// The same program, run once more: another process.
    #[must_use]
    pub fn another(&self) -> Self {
        let start = Arc::clone(&self.start);
        Self {
            start: Arc::new(move |context: &ProcessContext| start(context)),
        }
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.start, &other.start)
    }

    pub(super) fn start(&self, context: &ProcessContext) -> Box<dyn FnMut(Watch) -> SharedFactory> {
        (self.start)(context)
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

/// What a [`Process`] finds when it starts.
#[derive(Debug)]
pub struct ProcessContext {
    pub(super) source: Arc<MockSource>,
    pub(super) bases: BaseRecords,
}

impl ProcessContext {
    /// The host's signals.
    pub fn source(&self) -> Arc<dyn SignalSource> {
        Arc::clone(&self.source) as Arc<dyn SignalSource>
    }

    /// Wraps the factory of a base controller, one below another, so that its windows appear in
    /// traces and outcomes too. Its type stays visible to code that downcasts it.
    pub fn observed_base(&self, base: SharedFactory) -> SharedFactory {
        Arc::new(ObservingBase {
            inner: base,
            records: self.bases.clone(),
        })
    }
}
