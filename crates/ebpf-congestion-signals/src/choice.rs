//! Which source to use.

use std::fmt;
use std::sync::Arc;

use crate::sample::SourceKind;
use crate::source::SignalSource;

/// The best source that works here, and why better ones do not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Choice {
    /// The source; `None` where none works.
    pub source: Option<Arc<dyn SignalSource>>,
    /// Better sources, best first, and why they do not work.
    pub refused: Vec<Refusal>,
}

/// A source that does not work here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// Which source.
    pub kind: SourceKind,
    /// Why, and what would change that: one line.
    pub why: String,
}

impl Choice {
    /// The name of the source's kind, or `none`.
    pub fn name(&self) -> &'static str {
        let kind = self.source.as_ref().map(|source| source.kind());
        kind.map_or("none", SourceKind::name)
    }
}

impl fmt::Display for Choice {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        for Refusal { kind, why } in &self.refused {
            write!(f, "; not {kind}: {why}")?;
        }
        Ok(())
    }
}

/// Picks the best source that works for this process: probes in the kernel where they are
/// permitted, else the state of the program's own sockets (Linux), else none. Never fails. Logs the
/// choice, and why better sources do not work, once through `tracing`.
///
/// Attaches only the probes that governing needs (`EbpfOptions::governing`). Loading them takes
/// up to half a second, and each process that loads them adds their cost to every packet of the
/// host: choose once, and share the source.
pub fn best_source() -> Choice {
    let mut refused = Vec::new();
    let source = probes(&mut refused).or_else(|| socket(&mut refused));
    let choice = Choice { source, refused };
    tracing::info!(source = choice.name(), "signals of congestion: {choice}");
    choice
}

#[cfg(all(feature = "ebpf", target_os = "linux"))]
fn probes(refused: &mut Vec<Refusal>) -> Option<Arc<dyn SignalSource>> {
    let options = crate::EbpfOptions::default().governing();
    match crate::EbpfSource::load_with(&options) {
        Ok(source) => Some(Arc::new(source)),
        Err(error) => {
            // In one line.
            let why = crate::error::with_causes(&error);
            let why: Vec<&str> = why.split_whitespace().collect();
            let why = why.join(" ");
            refused.push(Refusal {
                kind: SourceKind::Ebpf,
                why,
            });
            None
        }
    }
}

#[cfg(not(all(feature = "ebpf", target_os = "linux")))]
fn probes(refused: &mut Vec<Refusal>) -> Option<Arc<dyn SignalSource>> {
    let why = if cfg!(target_os = "linux") {
        "this program was built without the feature `ebpf`"
    } else {
        "probes are for the Linux kernel"
    };
    refused.push(Refusal {
        kind: SourceKind::Ebpf,
        why: why.to_owned(),
    });
    None
}

#[cfg(target_os = "linux")]
fn socket(refused: &mut Vec<Refusal>) -> Option<Arc<dyn SignalSource>> {
    match crate::SocketSource::probe() {
        Ok(source) => Some(Arc::new(source)),
        Err(error) => {
            refused.push(Refusal {
                kind: SourceKind::Socket,
                why: error.to_string(),
            });
            None
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn socket(refused: &mut Vec<Refusal>) -> Option<Arc<dyn SignalSource>> {
    refused.push(Refusal {
        kind: SourceKind::Socket,
        why: "the socket source reads what only Linux reports".to_owned(),
    });
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_printed_in_one_line_with_every_reason_against_a_better_one() {
        let choice = best_source();
        let line = choice.to_string();
        assert_eq!(line.lines().count(), 1);
        assert!(line.starts_with(choice.name()));
        for refusal in &choice.refused {
            assert!(line.contains(&refusal.why), "{line}");
        }
        #[cfg(target_os = "linux")]
        {
            let kind = choice.source.map(|source| source.kind());
            let best = matches!(kind, Some(SourceKind::Ebpf)) && choice.refused.is_empty();
            let second = matches!(kind, Some(SourceKind::Socket)) && choice.refused.len() == 1;
            assert!(best || second, "{kind:?}");
        }
    }
}
