//! Which probes attached, and why not the others.

use ebpf_congestion_signals::Capability;
use serde::Serialize;

use crate::output::Output;

/// One probe, as the report has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ProbeReport {
    pub(crate) name: String,
    pub(crate) gives: String,
    pub(crate) attached: bool,
    /// Why it is not attached.
    pub(crate) why: Option<String>,
}

impl From<Capability> for ProbeReport {
    fn from(capability: Capability) -> Self {
        Self {
            name: capability.name,
            gives: capability.gives,
            attached: capability.missing.is_none(),
            why: capability.missing,
        }
    }
}

/// For people.
pub(crate) fn show(probes: &[ProbeReport], output: Output) {
    output.say("Probes");
    for ProbeReport {
        name, gives, why, ..
    } in probes
    {
        output.say(&match why {
            None => format!("  attached  {name:<18} {gives}"),
            Some(why) => format!("  missing   {name:<18} {gives}: {why}"),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_probe_says_why() {
        let missing = Some("too old".to_owned());
        let report = ProbeReport::from(Capability::new("kfree_skb", "drops", missing.clone()));
        assert!(!report.attached);
        assert_eq!(report.why, missing);
        assert!(ProbeReport::from(Capability::new("kfree_skb", "drops", None)).attached);
    }
}
