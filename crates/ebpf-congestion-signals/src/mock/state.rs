//! What all handles of a mocked source share.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::reader::MockState;
use crate::flow_id::FlowId;
use crate::sample::{DropCounters, FlowSample, HostSample, KernelTime};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) now: Duration,
    pub(super) host: HostSample,
    pub(super) flows: Vec<Arc<MockState>>,
    pub(super) script: Vec<Step>,
    pub(super) reasons: HashMap<(Option<FlowId>, Arc<str>), DropCounters>,
}

/// A change of a flow's sample at a time.
pub(super) struct Step {
    pub(super) at: Duration,
    pub(super) flow: Arc<MockState>,
    pub(super) change: Box<dyn FnOnce(&mut FlowSample) + Send>,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

pub(super) fn kernel_time(time: Duration) -> KernelTime {
    KernelTime::from_nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
