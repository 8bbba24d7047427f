//! Whether a cycle, or all together, left something behind.

use std::fmt;

use crate::census::Census;
use crate::cycle::Outcome;

/// Heap growth allowed once: hash tables that are resized, and buffers still in use at the end.
const HEAP_BYTES: i64 = 65_536;

/// Heap growth allowed for each cycle.
const HEAP_BYTES_A_CYCLE: i64 = 4_096;

/// Growth of resident memory allowed, in kB: pages that hold something in use beside what was freed.
const RESIDENT_KB: u64 = 8_192;

/// One connection in so many may fail: on a full link all packets of a handshake are lost now and
/// then. One in 340,000 was.
const CONNECTIONS_A_FAILURE: u64 = 100_000;

/// What was left behind.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    cycles: usize,
    connections: u64,
    failed: u64,
    /// Leaks of single cycles.
    left: Vec<String>,
    /// Growth over all cycles; `None` before there were enough to compare.
    pub(crate) growth: Option<Vec<String>>,
}

/// What has grown since the warm-up ended, `cycles` cycles ago.
#[expect(
    clippy::unnecessary_wraps,
    reason = "an empty list says that nothing has grown, none that it is not known"
)]
pub(crate) fn check(base: &Census, now: &Census, cycles: usize) -> Option<Vec<String>> {
    let mut grown = Vec::new();
    for (name, before, after, allowed) in [
        ("descriptors", base.descriptors, now.descriptors, 0),
        ("threads", base.threads, now.threads, 0),
        ("BPF objects", base.bpf_objects, now.bpf_objects, 0),
        (
            "kB of resident memory",
            base.resident_kb,
            now.resident_kb,
            RESIDENT_KB,
        ),
    ] {
        if after > before + allowed {
            grown.push(format!(
                "{name}: {before} after the warm-up, {after} at the end"
            ));
        }
    }
    let cycles = i64::try_from(cycles).unwrap_or(i64::MAX);
    let heap = now.heap_bytes - base.heap_bytes;
    if heap > HEAP_BYTES + cycles.saturating_mul(HEAP_BYTES_A_CYCLE) {
        grown.push(format!(
            "heap: {} bytes after the warm-up, {} at the end, {} more a cycle",
            base.heap_bytes,
            now.heap_bytes,
            heap / cycles.max(1)
        ));
    }
    Some(grown)
}

impl Verdict {
    /// Counts a cycle.
    pub(crate) fn add(&mut self, number: usize, outcome: &Outcome) {
        let [connections, _, _, failed] = outcome.tally.counts();
        self.cycles += 1;
        self.connections += connections;
        self.failed += failed;
        let entries = outcome.entries;
        for (what, count) in [
            ("controllers", outcome.report.controllers),
            ("entries in SOCKETS", entries.sockets),
            ("entries in PEERS", entries.peers),
            ("entries in LOCALS", entries.locals),
            ("sockets counted in WATCHED", entries.watched),
            ("flow slots that cannot be taken", outcome.lost_slots),
            (
                "BPF maps and programs in the kernel",
                outcome.kernel_objects,
            ),
        ] {
            if count > 0 {
                self.left.push(format!("cycle {number}: {count} {what}"));
            }
        }
    }

    fn fails_often(&self) -> bool {
        self.failed > self.connections / CONNECTIONS_A_FAILURE
    }

    pub(crate) fn is_clean(&self) -> bool {
        !self.fails_often()
            && self.left.is_empty()
            && self.growth.as_ref().is_some_and(Vec::is_empty)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} cycles, {} connections, {} failed",
            self.cycles, self.connections, self.failed
        )?;
        if self.is_clean() {
            return f.write_str("nothing was left behind");
        }
        if self.fails_often() {
            writeln!(
                f,
                "more than one connection in {CONNECTIONS_A_FAILURE} failed"
            )?;
        }
        f.write_str("left behind:")?;
        for line in self.left.iter().chain(self.growth.iter().flatten()) {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}
