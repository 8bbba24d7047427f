//! Switches off each mechanism of the control law, and shows what changes in the simulator.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::readme;

/// The lines of the document that enclose the table.
const MARKS: [&str; 2] = [
    "<!-- written by cargo xtask ablation --docs -->",
    "<!-- up to here -->",
];

const DOCUMENT: &str = "docs/ablation.md";

/// Scenarios in which the law does nothing, or that only repeat others.
const SKIPPED: [&str; 5] = [
    "receivers",
    "repeats",
    "random_loss",
    "remote_queue",
    "short_transfers",
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Put the table into docs/ablation.md.
    #[arg(long)]
    docs: bool,
    /// Run all of the simulator's scenarios without this mechanism, and say which bounds no longer
    /// hold; a minute or two each.
    #[arg(long, value_name = "MECHANISM", conflicts_with = "docs")]
    scenarios: Vec<String>,
}

/// A figure of a scenario: its value, its bound, and whether that holds.
#[derive(Debug, PartialEq)]
struct Figure {
    value: f64,
    bound: String,
    holds: bool,
}

type Figures = BTreeMap<(String, String), Figure>;

pub(crate) fn run(workspace: &Path, options: &Options) -> Result<()> {
    if options.scenarios.is_empty() {
        return table(workspace, options.docs);
    }
    let standard = figures(workspace, None)?;
    for name in &options.scenarios {
        let broken = broken(&standard, &figures(workspace, Some(name))?);
        println!("{name}: {} bounds no longer hold", broken.len());
        for line in broken {
            println!("  {line}");
        }
    }
    Ok(())
}

/// A few figures with each mechanism switched off in turn. Fails when one changes none of them.
fn table(workspace: &Path, into_docs: bool) -> Result<()> {
    let mut command = cargo(workspace);
    command.args(["run", "--quiet", "--release", "--locked", "-p", "netlab"]);
    command.args(["--example", "sensitivity", "--", "ablation"]);
    let output = command.output().context("starting cargo")?;
    ensure!(output.status.success(), "cargo: {}", output.status);
    let table = String::from_utf8(output.stdout)?;
    print!("{table}");
    if into_docs {
        let path = workspace.join(DOCUMENT);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {DOCUMENT}"))?;
        let text = readme::replace(&text, MARKS, table.trim_end())?;
        fs::write(&path, text).with_context(|| format!("writing {DOCUMENT}"))?;
    }
    let idle = table.lines().filter(|row| row.ends_with("| nothing |"));
    let idle: Vec<&str> = idle.filter_map(|row| row.split('|').nth(1)).collect();
    ensure!(
        idle.is_empty(),
        "nothing changes without:{}",
        idle.join(",")
    );
    Ok(())
}

/// All figures of the scenarios, without a mechanism or with all.
fn figures(workspace: &Path, without: Option<&String>) -> Result<Figures> {
    let mut command = cargo(workspace);
    command.args(["test", "--quiet", "--release", "--locked", "-p", "netlab"]);
    command.args(["--test", "scenarios", "--"]);
    command.args(["--nocapture", "--test-threads", "1"]);
    command.args(SKIPPED.iter().flat_map(|skipped| ["--skip", skipped]));
    command.env("SCENARIOS_REPORT", "1");
    command.envs(without.map(|name| ("SCENARIOS_WITHOUT", name)));
    // A scenario may stop without a mechanism; that counts, too.
    parse(&String::from_utf8(
        command.output().context("starting cargo")?.stdout,
    )?)
}

fn parse(rows: &str) -> Result<Figures> {
    let mut figures = Figures::new();
    for row in rows.lines().filter(|row| row.starts_with("ROW\t")) {
        let fields: Vec<&str> = row.split('\t').collect();
        let [_, name, what, value, bound, holds] = fields[..] else {
            bail!("no row of a scenario: {row}");
        };
        let figure = Figure {
            value: value.parse().with_context(|| format!("a figure: {row}"))?,
            bound: bound.trim().into(),
            holds: holds == "true",
        };
        figures.insert((name.into(), what.into()), figure);
    }
    ensure!(!figures.is_empty(), "the scenarios printed no figures");
    Ok(figures)
}

/// What held and does not hold, those that changed most first.
fn broken(standard: &Figures, figures: &Figures) -> Vec<String> {
    let held = standard.iter().filter(|(_, figure)| figure.holds);
    let mut broken: Vec<(f64, String)> = Vec::new();
    for (key, before) in held {
        let (change, now) = match figures.get(key) {
            Some(now) if now.holds => continue,
            Some(now) => (
                (now.value - before.value).abs() / before.value.abs().max(0.1),
                now.value.to_string(),
            ),
            None => (f64::MAX, "stopped".into()),
        };
        let (name, what) = key;
        let (value, bound) = (before.value, &before.bound);
        broken.push((
            change,
            format!("{name}, {what}: {value} -> {now} ({bound})"),
        ));
    }
    broken.sort_by(|one, other| other.0.total_cmp(&one.0));
    broken.into_iter().map(|(_, text)| text).collect()
}

fn cargo(workspace: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(workspace).stderr(Stdio::inherit());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_no_longer_holds_is_reported() {
        let standard = "ROW\ta\tp50\t1.0\t<= 2.000\ttrue\nROW\tb\tshare\t0.3\t>= 0.400\tfalse\n";
        let without = "ROW\ta\tp50\t3.0\t<= 2.000\tfalse\nROW\tb\tshare\t0.1\t>= 0.400\tfalse\n";
        let (standard, without) = (parse(standard).unwrap(), parse(without).unwrap());
        assert_eq!(broken(&standard, &without), ["a, p50: 1 -> 3 (<= 2.000)"]);
        assert!(broken(&standard, &standard).is_empty());
        assert!(parse("ROW\ta\tp50\n").is_err());
    }
}
