//! What a user can set.

use quinn_proto::VarInt;
use thiserror::Error;

use crate::base::BaseKind;
use crate::law::constants::{
    INITIAL_LIMIT_DATAGRAMS, MAX_LIMIT_BYTES, MAX_LIMIT_CEILING, MAX_LIMIT_FLOOR, Tuning,
};
use crate::mechanism::Mechanism;

/// Which parts of the control law are active, and within what bounds. The defaults suit every
/// sender; switch parts off to compare, or to find out which part had an effect.
///
/// ```
/// use quinn_governor::GovernorConfig;
///
/// let mut config = GovernorConfig::default();
/// config.slow_start_exit(false).max_backlog(256 * 1024);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GovernorConfig {
    pub(crate) law: LawConfig,
    pub(crate) max_backlog: u64,
    pub(crate) initial_backlog_datagrams: u64,
    pub(crate) base_kind: Option<BaseKind>,
    pub(crate) receive_window: Option<VarInt>,
}

/// The part of the configuration that each controller has a copy of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LawConfig {
    #[cfg(feature = "tuning")]
    pub(crate) tuning: &'static Tuning,
    pub(crate) backlog_cap: bool,
    pub(crate) local_drops: bool,
    pub(crate) slow_start_exit: bool,
    #[cfg(feature = "tuning")]
    pub(crate) without: Option<Mechanism>,
}

impl LawConfig {
    /// The law's numbers: constants, unless a sensitivity is measured.
    #[cfg(not(feature = "tuning"))]
    #[inline]
    #[expect(
        clippy::unused_self,
        reason = "with the feature they are the configuration's"
    )]
    pub(crate) const fn tuning(&self) -> &'static Tuning {
        &Tuning::STANDARD
    }

    /// The law's numbers.
    #[cfg(feature = "tuning")]
    pub(crate) const fn tuning(&self) -> &'static Tuning {
        self.tuning
    }

    /// Whether a mechanism is active: all are, except one that an ablation switched off.
    #[inline]
    pub(crate) fn has(&self, mechanism: Mechanism) -> bool {
        #[cfg(feature = "tuning")]
        return self.without != Some(mechanism);
        #[cfg(not(feature = "tuning"))]
        {
            let _ = mechanism;
            true
        }
    }
}

impl Default for LawConfig {
    fn default() -> Self {
        Self {
            #[cfg(feature = "tuning")]
            tuning: &Tuning::STANDARD,
            backlog_cap: true,
            local_drops: true,
            slow_start_exit: true,
            #[cfg(feature = "tuning")]
            without: None,
        }
    }
}

impl GovernorConfig {
    /// Also governs what connections receive. `window` is the most bytes that a peer may have in
    /// flight while the receive buffer does not overflow. [`Governors::govern`] sets it as the
    /// transport's [`receive_window`], which is unlimited by default and could then not be reduced;
    /// call [`Governors::receive`] for each connection. Off by default.
    ///
    /// Answers drops by the full buffer of the connection's socket, not those for lack of memory,
    /// when all UDP sockets of the host together exceed `udp_mem`.
    ///
    /// [`Governors::govern`]: crate::Governors::govern
    /// [`Governors::receive`]: crate::Governors::receive
    /// [`receive_window`]: quinn_proto::TransportConfig::receive_window
    pub fn receive_window(&mut self, window: VarInt) -> &mut Self {
        self.receive_window = Some(window);
        self
    }

    /// Whether to cap the backlog of this process in the local queue. On by default. Without it
    /// slow start does not end early either, because the cap decides when.
    pub fn backlog_cap(&mut self, on: bool) -> &mut Self {
        self.law.backlog_cap = on;
        self
    }

    /// Whether to reduce the window at once, instead of a round trip later, when the local queue
    /// dropped a datagram. On by default.
    pub fn local_drops(&mut self, on: bool) -> &mut Self {
        self.law.local_drops = on;
        self
    }

    /// Whether to end the base controller's slow start when the local queue has filled.
    /// On by default.
    pub fn slow_start_exit(&mut self, on: bool) -> &mut Self {
        self.law.slow_start_exit = on;
        self
    }

    /// The most bytes that all governed connections together may keep in a queue without competing
    /// traffic: the upper bound of the limit that keeps the link busy. 1 MiB by default; from 16
    /// KiB to 64 MiB.
    pub fn max_backlog(&mut self, bytes: u64) -> &mut Self {
        self.max_backlog = bytes;
        self
    }

    /// The limit that every queue starts with, in datagrams of full size. 4 by default; from 2 to
    /// 1024, and never above [`GovernorConfig::max_backlog`].
    pub fn initial_backlog_datagrams(&mut self, datagrams: u64) -> &mut Self {
        self.initial_backlog_datagrams = datagrams;
        self
    }

    /// The kind of the base controller. Needed only for a controller of your own that models the
    /// path as BBR does; quinn's own are recognised.
    pub fn base_kind(&mut self, kind: BaseKind) -> &mut Self {
        self.base_kind = Some(kind);
        self
    }

    /// Other numbers in the law, to measure their sensitivity.
    #[cfg(feature = "tuning")]
    #[doc(hidden)]
    pub fn tuning(&mut self, tuning: &'static Tuning) -> &mut Self {
        self.law.tuning = tuning;
        self
    }

    /// Without one mechanism, to measure its effect.
    #[cfg(feature = "tuning")]
    #[doc(hidden)]
    pub fn without(&mut self, mechanism: Mechanism) -> &mut Self {
        match mechanism {
            Mechanism::Cap => self.law.backlog_cap = false,
            Mechanism::LocalDrops => self.law.local_drops = false,
            Mechanism::SlowStartEnd => self.law.slow_start_exit = false,
            _ => self.law.without = Some(mechanism),
        }
        self
    }

    /// Whether a mechanism is active.
    #[inline]
    pub(crate) fn has(&self, mechanism: Mechanism) -> bool {
        self.law.has(mechanism)
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        in_range(
            "max_backlog",
            self.max_backlog,
            MAX_LIMIT_FLOOR,
            MAX_LIMIT_CEILING,
        )?;
        in_range(
            "initial_backlog_datagrams",
            self.initial_backlog_datagrams,
            2,
            1024,
        )
    }
}

impl Default for GovernorConfig {
    fn default() -> Self {
        Self {
            law: LawConfig::default(),
            max_backlog: MAX_LIMIT_BYTES,
            initial_backlog_datagrams: INITIAL_LIMIT_DATAGRAMS,
            base_kind: None,
            receive_window: None,
        }
    }
}

/// Why a configuration was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number is outside of its range.
    #[error("{setting} is {value}: it must be from {min} to {max}")]
    OutOfRange {
        /// The name of the setter.
        setting: &'static str,
        /// What was given.
        value: u64,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
    },
}

fn in_range(setting: &'static str, value: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(ConfigError::OutOfRange {
            setting,
            value,
            min,
            max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(GovernorConfig::default().validate(), Ok(()));
    }

    #[test]
    fn a_number_out_of_range_is_named_with_its_range() {
        let mut config = GovernorConfig::default();
        config.max_backlog(1);
        let error = config.validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "max_backlog is 1: it must be from 16384 to 67108864"
        );
        let mut config = GovernorConfig::default();
        config.initial_backlog_datagrams(1);
        assert!(config.validate().is_err());
    }
}
