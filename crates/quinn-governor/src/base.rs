//! What the control law has to know of the wrapped controller.

use quinn_proto::congestion::{Bbr, Controller};

/// How a base controller finds its window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BaseKind {
    /// It grows until congestion is reported, then reduces: Cubic, NewReno and their like. While
    /// the cap binds it is called as if the application limited sending, so that it does not grow
    /// behind the cap; a local drop is passed on as a congestion event.
    #[default]
    LossBased,
    /// It measures the path and derives its window from that: BBR and its like. What it measures
    /// behind a busy local queue is correct, and bounds its window, so its window is only capped.
    /// If it were called as if the application limited sending, it would discard its measurements:
    /// quinn's BBR then never left its start-up phase, and kept growing.
    ModelBased,
}

impl BaseKind {
    /// Recognises quinn's own controllers; any other counts as loss-based, as most are.
    pub(crate) fn of(base: &dyn Controller) -> Self {
        if base.clone_box().into_any().is::<Bbr>() {
            Self::ModelBased
        } else {
            Self::LossBased
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use quinn_proto::congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig};

    use super::*;

    #[test]
    fn controllers_of_quinn_are_recognised() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let kind = |factory: Arc<dyn ControllerFactory>| BaseKind::of(&*factory.build(now, 1200));
        assert_eq!(kind(Arc::new(CubicConfig::default())), BaseKind::LossBased);
        assert_eq!(
            kind(Arc::new(NewRenoConfig::default())),
            BaseKind::LossBased
        );
        assert_eq!(kind(Arc::new(BbrConfig::default())), BaseKind::ModelBased);
    }
}
