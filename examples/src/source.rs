//! Which source of signals to use.

use std::sync::Arc;

use anyhow::Context;
#[cfg(target_os = "linux")]
use ebpf_congestion_signals::EbpfSource;
use ebpf_congestion_signals::{MockSource, SignalSource};

use crate::args::SourceChoice;

/// The source that signals come from, if any.
#[derive(Clone, Debug)]
pub enum Source {
    /// Probes in the kernel.
    #[cfg(target_os = "linux")]
    Ebpf(Arc<EbpfSource>),
    /// Invented signals.
    Mock(Arc<MockSource>),
    /// None: and why, where one was wished for.
    None(Option<String>),
}

impl Source {
    /// The source of this choice. Fails only where probes were demanded and cannot be had.
    pub fn choose(choice: SourceChoice) -> anyhow::Result<Self> {
        match choice {
            SourceChoice::Auto => {
                // Causes follow on the same line.
                Ok(load().unwrap_or_else(|refused| Self::None(Some(format!("{refused:#}")))))
            }
            SourceChoice::Ebpf => load().context(
                "--source ebpf cannot be had (auto runs without signals where that is so)",
            ),
            SourceChoice::Mock => Ok(Self::Mock(Arc::new(MockSource::new()))),
            SourceChoice::None => Ok(Self::None(None)),
        }
    }

    /// The source as its readers know it.
    pub fn signals(&self) -> Option<Arc<dyn SignalSource>> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Ebpf(source) => Some(Arc::clone(source) as Arc<dyn SignalSource>),
            Self::Mock(source) => Some(Arc::clone(source) as Arc<dyn SignalSource>),
            Self::None(_) => None,
        }
    }

    /// Takes the probes out of the kernel, if there are any.
    pub fn detach(&self) {
        #[cfg(target_os = "linux")]
        if let Self::Ebpf(source) = self {
            source.detach();
        }
    }

    /// The name in reports.
    pub fn name(&self) -> &'static str {
        self.signals().map_or("none", |source| source.kind().name())
    }

    /// What this choice means for the run, in one line.
    pub fn notice(&self) -> String {
        match self {
            #[cfg(target_os = "linux")]
            Self::Ebpf(source) => {
                let missing: Vec<_> = source
                    .capabilities()
                    .into_iter()
                    .filter_map(|capability| {
                        let why = capability.missing?;
                        Some(format!("; no {}: {why}", capability.gives))
                    })
                    .collect();
                format!("signals: ebpf, probes in the kernel{}", missing.concat())
            }
            Self::Mock(_) => {
                "signals: mock, invented: a drop at the local queue every second".to_owned()
            }
            Self::None(None) => {
                "signals: none, as --source none says: the base controller works alone".to_owned()
            }
            Self::None(Some(why)) => {
                format!("signals: none, the base controller works alone: {why}")
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn load() -> anyhow::Result<Source> {
    Ok(Source::Ebpf(Arc::new(EbpfSource::load()?)))
}

#[cfg(not(target_os = "linux"))]
fn load() -> anyhow::Result<Source> {
    anyhow::bail!("probes are for the Linux kernel: run this on Linux")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_one_line() {
        for choice in [SourceChoice::Auto, SourceChoice::Mock, SourceChoice::None] {
            let source = Source::choose(choice).unwrap();
            assert_eq!(source.notice().lines().count(), 1, "{source:?}");
        }
    }
}
