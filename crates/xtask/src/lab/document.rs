//! The comparison as a document shows it, from what the lab wrote down.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::figures::Side;

const BEGIN: &str = "<!-- written by cargo xtask lab --compare --document -->";
const BEGIN_KERNELS: &str = "<!-- written by cargo xtask lab --vm --document -->";
const END: &str = "<!-- up to here -->";

/// What is shown of a scenario: the figure's name in the results, its name here, decimals, and
/// whether it is shown above the idle path's round trip.
const ROWS: [(&str, &str, usize, bool); 5] = [
    ("lost_packets", "lost", 0, false),
    ("rtt_p50_ms", "p50 over idle, ms", 1, true),
    ("goodput_mbps", "goodput, Mbit/s", 1, false),
    ("share_percent", "share of goodput, %", 0, false),
    ("recovered_lost", "lost afterwards", 0, false),
];

/// Replaces the comparison in a document by that of these results.
pub(super) fn write(results: &Path, document: &Path) -> Result<()> {
    put(&table(&read(results)?)?, BEGIN, document)
}

/// Replaces the table of kernels in a document by that of these results.
pub(super) fn write_kernels(results: &[PathBuf], document: &Path) -> Result<()> {
    let results = results.iter().map(|file| read(file));
    let results: Vec<Value> = results.collect::<Result<_>>()?;
    put(&kernels(&results)?, BEGIN_KERNELS, document)
}

fn read(results: &Path) -> Result<Value> {
    let text = fs::read_to_string(results);
    let text = text.with_context(|| format!("cannot read {}", results.display()))?;
    serde_json::from_str(&text).context("no results of the lab")
}

/// Puts a table between two lines of a document.
fn put(table: &str, begin: &str, document: &Path) -> Result<()> {
    let text = fs::read_to_string(document);
    let text = text.with_context(|| format!("cannot read {}", document.display()))?;
    let (before, rest) = text
        .split_once(begin)
        .with_context(|| format!("{} has no line {begin}", document.display()))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("{} has no line {END}", document.display()))?;
    fs::write(document, format!("{before}{begin}\n{table}{END}{after}"))
        .with_context(|| format!("cannot write {}", document.display()))
}

/// What is shown of a scenario on several kernels: the figures, the first that there is of each.
const COLUMNS: [(&str, &[&str], usize, bool); 5] = [
    (
        "goodput, Mbit/s",
        &[
            "recovered_goodput_mbps",
            "steady_goodput_mbps",
            "goodput_mbps",
        ],
        2,
        false,
    ),
    ("lost", &["recovered_lost", "lost_packets"], 0, false),
    (
        "drops and marks",
        &["drops_and_marks", "queue_drops"],
        0,
        false,
    ),
    (
        "p50 over idle, ms",
        &["recovered_rtt_ms", "rtt_p50_ms"],
        1,
        true,
    ),
    ("share, %", &["share_percent"], 0, false),
];

/// Stock and governed flows, by scenario and kernel.
fn kernels(results: &[Value]) -> Result<String> {
    let first = results.first().context("no kernel has results")?;
    let scenarios = first["scenarios"].as_array();
    let scenarios = scenarios.context("no results of the lab")?;
    let head = COLUMNS.map(|(label, ..)| label).join(" | ");
    let mut table = format!(
        "| | Linux | {head} |\n|{}\n",
        " --- |".repeat(COLUMNS.len() + 2)
    );
    for (index, scenario) in scenarios.iter().enumerate() {
        let mut name = scenario["name"].as_str().unwrap_or_default();
        for results in results {
            let scenario = &results["scenarios"][index];
            let idle = scenario["idle_ms"].as_f64().unwrap_or_default();
            let cells = COLUMNS.map(|(_, figures, decimals, over_idle)| {
                let found = figures.iter().map(|figure| &scenario["figures"][*figure]);
                let Some(found) = found.into_iter().find(|found| !found.is_null()) else {
                    return "-".to_owned();
                };
                let cell = |side| cell(found, side, idle, decimals, over_idle);
                format!("{} / {}", cell(Side::Stock), cell(Side::Governed))
            });
            let kernel = results["kernel"].as_str().unwrap_or_default();
            let series: Vec<_> = kernel.split('.').take(2).collect();
            table += &format!(
                "| {name} | {} | {} |\n",
                series.join("."),
                cells.join(" | ")
            );
            name = "";
        }
    }
    let kernels = results
        .iter()
        .filter_map(|results| results["kernel"].as_str());
    let kernels: Vec<_> = kernels.collect();
    table += &format!("\nStock / governed. Linux {}.\n", kernels.join(", "));
    Ok(table)
}

fn table(results: &Value) -> Result<String> {
    let scenarios = results["scenarios"].as_array();
    let scenarios = scenarios.context("no results of the lab")?;
    ensure!(!scenarios.is_empty(), "the lab ran no scenario");
    let names = Side::ALL.map(Side::name).join(" | ");
    let rule = " --- |".repeat(Side::ALL.len());
    let mut table = format!("| | | {names} |\n| --- | --- |{rule}\n");
    for scenario in scenarios {
        let mut name = scenario["name"].as_str().unwrap_or_default();
        let idle = scenario["idle_ms"].as_f64().unwrap_or_default();
        for (figure, label, decimals, over_idle) in ROWS {
            let compared = &scenario["figures"][figure];
            if compared.is_null() {
                continue;
            }
            let cells = Side::ALL.map(|side| cell(compared, side, idle, decimals, over_idle));
            table += &format!("| {name} | {label} | {} |\n", cells.join(" | "));
            name = "";
        }
    }
    let text = |key: &str| results[key].as_str().unwrap_or_default().to_owned();
    table += &format!(
        "\nMedians; Linux {}, {} processors, load average {:.1} at the start.\n",
        text("kernel"),
        results["processors"],
        results["load_average"].as_f64().unwrap_or_default()
    );
    Ok(table)
}

fn cell(compared: &Value, side: Side, idle: f64, decimals: usize, over_idle: bool) -> String {
    let key = serde_json::to_value(side).unwrap_or_default();
    let key = key.as_str().unwrap_or_default();
    let summary = match side {
        Side::Stock | Side::Governed => &compared[key],
        _ => &compared["others"][key],
    };
    let Some(median) = summary["median"].as_f64() else {
        return "-".to_owned();
    };
    let value = if over_idle { median - idle } else { median };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kernels_stand_below_each_other() {
        let of = |kernel: &str, p50: f64| {
            json!({
                "kernel": kernel,
                "scenarios": [{
                    "name": "fq", "idle_ms": 20.0,
                    "figures": {
                        "rtt_p50_ms": {"stock": {"median": 150.0}, "governed": {"median": p50}},
                        "recovered_lost": {"stock": {"median": 3.0}, "governed": {"median": 1.0}},
                        "lost_packets": {"stock": {"median": 7.0}, "governed": {"median": 8.0}},
                    },
                }],
            })
        };
        let table = kernels(&[of("6.1.0-50-cloud-amd64", 23.0), of("6.12.9", 22.5)]).unwrap();
        for part in [
            "| fq | 6.1 | - | 3 / 1 | - | 130.0 / 3.0 | - |",
            "|  | 6.12 | - | 3 / 1 | - | 130.0 / 2.5 | - |",
            "Linux 6.1.0-50-cloud-amd64, 6.12.9.",
        ] {
            assert!(table.contains(part), "{part}: {table}");
        }
        assert!(kernels(&[]).is_err());
    }

    #[test]
    fn the_comparison_replaces_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let [results, document] = ["lab.json", "lab.md"].map(|name| directory.path().join(name));
        let lab = json!({
            "kernel": "6.18", "processors": 2, "load_average": 0.31,
            "scenarios": [{
                "name": "local-queue", "idle_ms": 20.5,
                "figures": {
                    "lost_packets": {
                        "stock": {"median": 363.0}, "governed": {"median": 0.0},
                        "others": {"by_socket": {"median": 1.0}, "tcp_bbr": {"median": 7.0}},
                    },
                    "rtt_p50_ms": {"stock": {"median": 38.0}, "governed": {"median": 21.7}},
                },
            }],
        });
        fs::write(&results, lab.to_string()).unwrap();
        fs::write(&document, format!("a\n{BEGIN}\nold\n{END}\nb\n")).unwrap();
        write(&results, &document).unwrap();
        let written = fs::read_to_string(&document).unwrap();
        for part in [
            "a\n<!--",
            "| local-queue | lost | 363 | 0 | 1 | - | - | - | - | 7 |",
            "|  | p50 over idle, ms | 17.5 | 1.2 | - |",
            "Linux 6.18, 2 processors, load average 0.3",
            "-->\nb\n",
        ] {
            assert!(written.contains(part), "{part}: {written}");
        }
        assert!(!written.contains("old"));
        fs::write(&document, "nothing").unwrap();
        assert!(write(&results, &document).is_err());
    }
}
