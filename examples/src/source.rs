//! Which source of signals to use.

use std::sync::Arc;

use anyhow::Context;
#[cfg(target_os = "linux")]
use ebpf_congestion_signals::{EbpfSource, SocketSource};
use ebpf_congestion_signals::{MockSource, SignalSource};

use crate::args::SourceChoice;

/// The source that signals come from, if any.
#[derive(Clone, Debug)]
pub enum Source {
    /// Probes in the kernel.
    #[cfg(target_os = "linux")]
    Ebpf(Arc<EbpfSource>),
    /// What a program may know of its own socket: and why no probes, where they were wished for.
    #[cfg(target_os = "linux")]
    Socket(Arc<SocketSource>, Option<String>),
    /// Invented signals.
    Mock(Arc<MockSource>),
    /// None: and why, where one was wished for.
    None(Option<String>),
}

impl Source {
    /// The source of this choice. Fails only where a source was demanded that does not work here.
    pub fn choose(choice: SourceChoice) -> anyhow::Result<Self> {
        match choice {
            SourceChoice::Auto => Ok(Self::best()),
            SourceChoice::Ebpf => load()
                .context("--source ebpf does not work here (auto takes the best source that does)"),
            SourceChoice::Socket => socket(None).context(
                "--source socket does not work here (auto takes the best source that does)",
            ),
            SourceChoice::Mock => Ok(Self::Mock(Arc::new(MockSource::new()))),
            SourceChoice::None => Ok(Self::None(None)),
        }
    }

    /// The best that works here.
    fn best() -> Self {
        // Causes follow on the same line.
        let refused = match load() {
            Ok(probes) => return probes,
            Err(refused) => format!("{refused:#}"),
        };
        socket(Some(refused.clone()))
            .unwrap_or_else(|error| Self::None(Some(format!("{refused}; {error:#}"))))
    }

    /// The source as its readers know it.
    pub fn signals(&self) -> Option<Arc<dyn SignalSource>> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Ebpf(source) => Some(Arc::clone(source) as Arc<dyn SignalSource>),
            #[cfg(target_os = "linux")]
            Self::Socket(source, _) => Some(Arc::clone(source) as Arc<dyn SignalSource>),
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
                let capabilities = source.capabilities();
                let missing = capabilities
                    .iter()
                    .filter(|capability| capability.missing.is_some());
                let missing: Vec<&str> = missing.map(|capability| &*capability.name).collect();
                if missing.is_empty() {
                    return "signals: ebpf, probes in the kernel".to_owned();
                }
                format!(
                    "signals: ebpf, probes in the kernel (not in this one: {})",
                    missing.join(", ")
                )
            }
            #[cfg(target_os = "linux")]
            Self::Socket(_, why) => {
                let why = why.as_ref().map(|why| format!("; no probes: {why}"));
                format!(
                    "signals: socket, the state of the program's own sockets (probes in the \
                     kernel would add drops inside a queue, other sockets' backlog, and the reason \
                     of each drop){}",
                    why.unwrap_or_default()
                )
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

#[cfg(target_os = "linux")]
fn socket(no_probes: Option<String>) -> anyhow::Result<Source> {
    Ok(Source::Socket(Arc::new(SocketSource::probe()?), no_probes))
}

#[cfg(not(target_os = "linux"))]
fn socket(_no_probes: Option<String>) -> anyhow::Result<Source> {
    anyhow::bail!("what is read of a socket is Linux's: run this on Linux")
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
        for choice in [
            SourceChoice::Auto,
            #[cfg(target_os = "linux")]
            SourceChoice::Socket,
            SourceChoice::Mock,
            SourceChoice::None,
        ] {
            let source = Source::choose(choice).unwrap();
            assert_eq!(source.notice().lines().count(), 1, "{source:?}");
        }
    }
}
