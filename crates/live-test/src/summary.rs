//! The reasons, after the result.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Skip;

#[derive(Default)]
struct Summary {
    running: &'static str,
    /// Numbers of tests that were skipped, by reason.
    skipped: BTreeMap<String, u32>,
    /// Tests that left something out, and what.
    partial: Vec<(&'static str, String)>,
}

static SUMMARY: Mutex<Summary> = Mutex::new(Summary {
    running: "",
    skipped: BTreeMap::new(),
    partial: Vec::new(),
});

fn summary() -> MutexGuard<'static, Summary> {
    SUMMARY.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn begin(test: &'static str) {
    summary().running = test;
}

pub(crate) fn skipped(skip: &Skip) {
    *summary().skipped.entry(skip.to_string()).or_default() += 1;
}

/// Says in the summary that the running test leaves something out here, and why.
pub fn note(what: impl Into<String>) {
    let mut summary = summary();
    let running = summary.running;
    summary.partial.push((running, what.into()));
}

pub(crate) fn print() {
    let summary = summary();
    for (why, tests) in &summary.skipped {
        let s = if *tests == 1 { "" } else { "s" };
        println!("skipped {tests} test{s}: {why}");
    }
    for (test, what) in &summary.partial {
        println!("in part {test}: {what}");
    }
    if !summary.skipped.is_empty() || !summary.partial.is_empty() {
        println!();
    }
}
