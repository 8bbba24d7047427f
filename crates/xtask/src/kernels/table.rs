//! The table of signals by kernel, in Markdown.

use std::fmt::Write;

use super::outcome::{LACKS, Outcome, Verdict};
use super::series::Series;
use super::signals::{SIGNALS, Signal};
use crate::readme;

/// A kernel's column.
pub(super) struct Column {
    pub(super) series: Series,
    pub(super) outcome: Outcome,
}

/// What is said of a signal on a kernel.
#[derive(Debug, PartialEq, Eq)]
enum Cell {
    /// Every test of it passed.
    Right,
    /// The kernel cannot tell it, or cannot do what it is about; why.
    Absent(String),
    /// Tests of it failed.
    Wrong { failed: usize, tests: usize },
    /// It should be there, but nothing showed that it is right.
    Untested,
    /// The kernel was not run.
    NotRun,
}

impl Cell {
    fn is_right(&self) -> bool {
        matches!(self, Self::Right | Self::Absent(_))
    }
}

/// Whether nothing went wrong on a kernel.
pub(super) fn is_right(outcome: &Outcome) -> bool {
    outcome.faults.is_empty()
        && outcome.failed().next().is_none()
        && SIGNALS
            .iter()
            .all(|signal| cell(signal, outcome).is_right())
}

fn cell(signal: &Signal, outcome: &Outcome) -> Cell {
    if outcome.release.is_empty() {
        return Cell::NotRun;
    }
    let missing = signal.needs.iter().find_map(|name| outcome.missing(name));
    if let (Some(why), false) = (missing, outcome.capabilities.is_empty()) {
        return Cell::Absent(first_line(why));
    }
    judge(outcome, |test| signal.is_tested_by(test))
}

/// Tests of no signal.
fn others(outcome: &Outcome) -> Cell {
    if outcome.release.is_empty() {
        return Cell::NotRun;
    }
    // What a kernel has not, or has no more, a test of it is rightly skipped for.
    let is_skipped = |test: &str| matches!(outcome.tests.get(test), Some(Verdict::Skipped(_)));
    judge(outcome, |test| {
        !is_skipped(test) && !SIGNALS.iter().any(|signal| signal.is_tested_by(test))
    })
}

fn judge(outcome: &Outcome, is_of_it: impl Fn(&str) -> bool) -> Cell {
    let verdicts: Vec<_> = outcome
        .tests
        .iter()
        .filter(|(name, _)| is_of_it(name))
        .map(|(_, verdict)| verdict)
        .collect();
    let failed = verdicts
        .iter()
        .filter(|verdict| matches!(verdict, Verdict::Failed(_)))
        .count();
    if failed > 0 {
        let tests = verdicts.len();
        return Cell::Wrong { failed, tests };
    }
    let lack = verdicts.iter().find_map(|verdict| match verdict {
        Verdict::Skipped(why) => why.find(LACKS).map(|start| first_line(&why[start..])),
        Verdict::Passed | Verdict::Failed(_) => None,
    });
    let all_passed = verdicts
        .iter()
        .all(|verdict| matches!(verdict, Verdict::Passed));
    match lack {
        _ if all_passed && !verdicts.is_empty() => Cell::Right,
        Some(lack) => Cell::Absent(lack),
        None => Cell::Untested,
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// The table, and below it the reasons that it refers to.
pub(super) fn markdown(columns: &[Column]) -> String {
    let mut reasons: Vec<String> = Vec::new();
    let mut table = String::from("| signal |");
    for column in columns {
        let _ = write!(table, " {} |", heading(column));
    }
    table.push_str("\n| --- |");
    table.push_str(&" --- |".repeat(columns.len()));
    table.push('\n');
    let mut row = |name: &str, cells: Vec<Cell>| {
        let _ = write!(table, "| {name} |");
        for cell in cells {
            let _ = write!(table, " {} |", text(cell, &mut reasons));
        }
        table.push('\n');
    };
    for signal in &SIGNALS {
        let cells = columns.iter().map(|column| cell(signal, &column.outcome));
        row(signal.name, cells.collect());
    }
    let cells = columns.iter().map(|column| others(&column.outcome));
    row("everything else", cells.collect());
    for (index, reason) in reasons.iter().enumerate() {
        let _ = write!(table, "\n{}. {reason}", index + 1);
    }
    if !reasons.is_empty() {
        table.push('\n');
    }
    table
}

/// The document that shows the table, from the workspace's root.
pub(super) const DOCUMENT: &str = "docs/signals.md";

/// The lines between which the table is written.
const MARKS: [&str; 2] = [
    "<!-- written by cargo xtask kernels --docs -->\n",
    "<!-- up to here -->\n",
];

/// The document with this table in place of the one that it has.
pub(super) fn put_into(document: &str, table: &str) -> anyhow::Result<String> {
    readme::replace(document, MARKS, table)
}

/// The version, and that it is the running kernel's.
fn heading(column: &Column) -> String {
    let release = &column.outcome.release;
    // What a distribution or a builder adds says nothing about signals.
    let version = release.split(['-', '+']).next().unwrap_or_default();
    match &column.series {
        series if version.is_empty() => series.to_string(),
        Series::Live => format!("{version} (live)"),
        // Debian's older kernels keep their first release's number.
        series => {
            let version = version.trim_end_matches(".0");
            match series.to_string().split_once('+') {
                Some((_, variant)) => format!("{version} {variant}"),
                None => version.to_owned(),
            }
        }
    }
}

fn text(cell: Cell, reasons: &mut Vec<String>) -> String {
    match cell {
        Cell::Right => "right".to_owned(),
        Cell::Untested => "**untested**".to_owned(),
        Cell::NotRun => "not run".to_owned(),
        Cell::Wrong { failed, tests } => format!("**wrong** ({failed} of {tests} tests)"),
        Cell::Absent(why) => {
            let known = reasons.iter().position(|reason| *reason == why);
            let index = known.unwrap_or_else(|| {
                reasons.push(why);
                reasons.len() - 1
            });
            format!("absent ({})", index + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Capability;
    use super::*;

    /// A kernel that can tell everything but what `missing` gives.
    fn outcome(missing: &str) -> Outcome {
        let mut outcome = Outcome {
            release: "5.10.0-32-cloud-amd64".to_owned(),
            ..Outcome::default()
        };
        for signal in &SIGNALS {
            let first = |names: &'static str| names.split('|').next().unwrap_or(names);
            let absent = signal.needs.iter().any(|name| first(name) == missing);
            for name in signal.needs.iter().copied().map(first) {
                outcome.capabilities.push(Capability {
                    name: name.to_owned(),
                    gives: String::new(),
                    missing: (name == missing).then(|| "too old".to_owned()),
                });
            }
            for test in signal.tests {
                let verdict = if absent {
                    Verdict::Skipped("too old".to_owned())
                } else {
                    Verdict::Passed
                };
                outcome.tests.insert((*test).to_owned(), verdict);
            }
        }
        let other = ("other::test".to_owned(), Verdict::Passed);
        outcome.tests.extend([other]);
        outcome
    }

    fn column(outcome: Outcome) -> Column {
        let series = "5.10".parse().unwrap();
        Column { series, outcome }
    }

    #[test]
    fn the_document_has_every_signal_of_the_table() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let document = std::fs::read_to_string(path.join(DOCUMENT)).unwrap();
        for signal in &SIGNALS {
            let row = format!("\n| {} | ", signal.name);
            assert!(document.contains(&row), "not shown: {}", signal.name);
        }
        let again = put_into(&document, "| other |\n").unwrap();
        assert!(again.contains("| other |") && !again.contains(SIGNALS[0].name));
        assert!(put_into("no marks", "").is_err());
    }

    #[test]
    fn a_signal_is_right_or_absent_with_its_reason() {
        let columns = [column(outcome("")), column(outcome("sock_send_length"))];
        assert!(is_right(&columns[0].outcome) && is_right(&columns[1].outcome));
        let table = markdown(&columns);
        assert!(table.starts_with("| signal | 5.10 | 5.10 |\n| --- | --- | --- |\n"));
        assert!(
            table.contains("host and socket | right | absent (1) |\n"),
            "{table}"
        );
        assert!(table.ends_with("\n1. too old\n"), "{table}");
    }

    #[test]
    fn a_test_that_fails_makes_its_signal_wrong() {
        let mut outcome = outcome("");
        let failed = Verdict::Failed(String::new());
        outcome.tests.insert("bytes_sent::tcp".to_owned(), failed);
        assert!(!is_right(&outcome));
        let table = markdown(&[column(outcome)]);
        assert!(
            table.contains("packets | **wrong** (1 of 1 tests) |"),
            "{table}"
        );
    }

    #[test]
    fn what_the_kernel_was_built_without_is_absent() {
        let mut outcome = outcome("");
        for test in ["queue_disciplines::what_fq_", "other::test"] {
            let lacks = "what_...: this kernel has no such queue discipline: fq".to_owned();
            outcome
                .tests
                .insert(test.to_owned(), Verdict::Skipped(lacks));
        }
        assert!(is_right(&outcome));
        let table = markdown(&[column(outcome)]);
        assert!(table.contains("holds back | absent (1) |"), "{table}");
        let reason = "\n1. this kernel has no such queue discipline: fq\n";
        assert!(table.ends_with(reason), "{table}");
    }

    #[test]
    fn a_test_that_is_skipped_though_nothing_is_missing_proves_nothing() {
        let mut outcome = outcome("");
        let skipped = Verdict::Skipped(String::new());
        outcome.tests.insert("backlog::".to_owned(), skipped);
        assert!(!is_right(&outcome));
        outcome.tests.clear();
        assert!(!is_right(&outcome));
    }
}
