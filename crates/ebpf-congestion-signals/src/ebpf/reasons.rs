//! Names and classes of the running kernel's drop reasons.

use std::collections::HashMap;
use std::sync::Arc;

use ebpf_congestion_signals_common::{REASON_IS_KNOWN, REASON_OF_QDISC};

use crate::btf::{Btf, BtfError};
use crate::drop_class;

/// Enumerations of reasons, what their names begin with, and what they begin with here. Kernels
/// from 7.1 on keep those of queue disciplines apart.
const ENUMS: [(&str, &str, &str); 2] = [
    ("skb_drop_reason", "SKB_DROP_REASON_", ""),
    ("qdisc_drop_reason", "QDISC_DROP_", "QDISC_"),
];

/// What each number means on this kernel; empty where it does not report reasons (before 5.17).
#[derive(Debug, Default)]
pub(super) struct Reasons {
    names: HashMap<u32, Arc<str>>,
}

impl Reasons {
    pub(super) fn read(btf: &Btf) -> Result<Self, BtfError> {
        let mut names = HashMap::new();
        for (name, prefix, ours) in ENUMS {
            let variants = match btf.enum_variants(name) {
                Ok(variants) => variants,
                Err(absence) if absence.is_absence() => continue,
                Err(damage) => return Err(damage),
            };
            for (variant, number) in variants {
                // Markers of a range's end share their number with no reason.
                let Ok(number) = u32::try_from(number) else {
                    continue;
                };
                let reason = match variant.strip_prefix(prefix) {
                    Some("MAX" | "SUBSYS_MASK") => continue,
                    Some(reason) => format!("{ours}{reason}"),
                    None => variant.to_owned(),
                };
                names.entry(number).or_insert_with(|| Arc::from(reason));
            }
        }
        Ok(Self { names })
    }

    /// Every reason's number and class, with [`REASON_IS_KNOWN`], and [`REASON_OF_QDISC`] where that
    /// holds.
    pub(super) fn classes(&self) -> impl Iterator<Item = (u32, u32)> {
        self.names.iter().map(|(number, name)| {
            let class = drop_class::class_of(name) as u32;
            let flag = if drop_class::is_of_qdisc(name) {
                REASON_OF_QDISC
            } else {
                0
            };
            (*number, class | flag | REASON_IS_KNOWN)
        })
    }

    /// Whether the kernel reports reasons at all.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name of a reason; its number where BTF has none (a module's own reasons).
    pub(super) fn name(&self, number: u32) -> Arc<str> {
        match self.names.get(&number) {
            Some(name) => Arc::clone(name),
            None if self.is_empty() => Arc::from("UNKNOWN"),
            None => Arc::from(format!(
                "SUBSYS_{}_REASON_{}",
                number >> 16,
                number & 0xffff
            )),
        }
    }
}
