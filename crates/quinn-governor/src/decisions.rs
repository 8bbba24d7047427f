//! Changes of what bounds the window, for the qlog.

use std::time::Instant;

#[cfg(feature = "qlog")]
use crate::qlog::DecisionLog;

/// What bounds a connection's window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Base,
    Capped,
    Recovery,
}

/// Why it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    LocalQueue,
    LocalDrop,
    SignalsLost,
}

#[cfg(feature = "qlog")]
impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Capped => "capped",
            Self::Recovery => "recovery",
        }
    }
}

#[cfg(feature = "qlog")]
impl Trigger {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LocalQueue => "local_queue",
            Self::LocalDrop => "local_drop",
            Self::SignalsLost => "signals_lost",
        }
    }
}

/// The decisions of one connection. Without the feature `qlog` they are not recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decisions {
    state: State,
    #[cfg(feature = "qlog")]
    log: Option<DecisionLog>,
}

impl Decisions {
    #[cfg(feature = "qlog")]
    pub(crate) fn logged(log: DecisionLog) -> Self {
        Self {
            state: State::default(),
            log: Some(log),
        }
    }

    /// Records what bounds the window now, if that has changed.
    pub(crate) fn note(&mut self, now: Instant, state: State, trigger: Trigger) {
        if state == self.state {
            return;
        }
        #[cfg(feature = "qlog")]
        if let Some(log) = &self.log {
            log.changed(now, [self.state.name(), state.name()], trigger.name());
        }
        #[cfg(not(feature = "qlog"))]
        let _ = (now, trigger);
        self.state = state;
    }
}
