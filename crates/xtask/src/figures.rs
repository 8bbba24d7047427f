//! Runs the benches and writes what they measured into `docs/cost.md`, with a picture.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::instructions::{self, Counts};
use crate::readme;

/// What the probes cost, as `probe_costs` printed it.
const PROBES: &str = "crates/ebpf-congestion-signals/COSTS.md";

/// The probes that governing attaches and that run for each packet or batch.
const PER_PACKET: [&str; 3] = ["net_dev_queue", "qdisc_enqueue", "qdisc_dequeue"];

const DOCUMENT: &str = "docs/cost.md";
const PICTURE: &str = "docs/cost.svg";

/// Bytes of a packet on the wire, in the model.
const PACKET: f64 = 1280.0;

/// Packets of a batch, in the model: what quinn hands to the kernel at once.
const BATCH: f64 = 10.0;

const MARKS: [&str; 2] = [
    "<!-- written by cargo xtask figures -->",
    "<!-- up to here -->",
];

/// The benches whose figures are shown, all of criterion's.
const BENCHES: [&str; 2] = ["read_paths", "controller"];

/// What is drawn.
const DRAWN: [&str; 12] = [
    "read/mapped",
    "read/mapped_anew",
    "read/mapped_contended",
    "read/flow",
    "read/siocoutq",
    "read/so_meminfo",
    "read/bpf_lookup",
    "read/aya_per_cpu",
    "governor/window/cubic",
    "governor/window/cubic/governed_free",
    "governor/window/cubic/governed_capped",
    "governor/on_sent/cubic/governed_free",
];

/// Nanoseconds of a call, by bench.
type Times = BTreeMap<String, f64>;

/// Measures and writes. `written` says to write what the last runs measured, and to run nothing.
pub(crate) fn run(workspace: &Path, written: bool) -> Result<()> {
    if !written {
        for bench in BENCHES {
            measure(workspace, bench)?;
        }
        instructions::run(workspace, false)?;
    }
    let times = read(&workspace.join("target/criterion"))?;
    let text = fs::read_to_string(workspace.join("benches/instructions.txt"));
    let text = text.context("reading the counts of instructions")?;
    let (_, counts) = instructions::read(&text)?;
    let document = workspace.join(DOCUMENT);
    let text = fs::read_to_string(&document).with_context(|| format!("reading {DOCUMENT}"))?;
    let probes = fs::read_to_string(workspace.join(PROBES));
    let probes = probes.with_context(|| format!("reading {PROBES}"))?;
    let section = format!("{}\n\n{}", section(&times, &counts), model(&probes)?);
    let text = readme::replace(&text, MARKS, &section)?;
    fs::write(&document, text).with_context(|| format!("writing {DOCUMENT}"))?;
    let picture = draw(&times);
    fs::write(workspace.join(PICTURE), picture).with_context(|| format!("writing {PICTURE}"))?;
    println!("{DOCUMENT} and {PICTURE} have {} times", times.len());
    Ok(())
}

fn measure(workspace: &Path, bench: &str) -> Result<()> {
    let status = Command::new("cargo")
        .current_dir(workspace)
        .args(["bench", "--quiet", "--locked", "--package=benches"])
        .arg(format!("--bench={bench}"))
        .args(["--", "--warm-up-time=0.2", "--measurement-time=0.5"])
        .args(["--sample-size=20", "--noplot"])
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "{bench}: {status}");
    Ok(())
}

/// The medians that criterion has left, whatever its directories are called.
fn read(directory: &Path) -> Result<Times> {
    let mut times = Times::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries =
            fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if !path.is_dir() {
                continue;
            }
            if path.file_name().is_some_and(|name| name == "new") {
                let name = json(&path.join("benchmark.json"))?;
                let estimates = json(&path.join("estimates.json"))?;
                let name = name["full_id"].as_str().context("a bench without a name")?;
                let median = estimates["median"]["point_estimate"].as_f64();
                times.insert(name.to_owned(), median.context("a bench without a median")?);
            } else {
                directories.push(path);
            }
        }
    }
    ensure!(!times.is_empty(), "no bench has left figures");
    Ok(times)
}

fn json(path: &Path) -> Result<serde_json::Value> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("understanding {}", path.display()))
}

/// The tables.
fn section(times: &Times, counts: &Counts) -> String {
    let cell = |name: &str| {
        let time = times.get(name).map_or("-".to_owned(), |time| shown(*time));
        let count = counts.get(name).map_or("-".to_owned(), u64::to_string);
        format!("{time} / {count}")
    };
    let mut text = format!(
        "![Nanoseconds a call]({})\n\nNanoseconds (median) / instructions a call.\n\n\
        | read | ns / instructions |\n| --- | ---: |\n",
        PICTURE.trim_start_matches("docs/")
    );
    for name in times.keys().filter(|name| name.starts_with("read/")) {
        let _ = writeln!(text, "| `{name}` | {} |", cell(name));
    }
    text.push_str("\n| callback | stock | governed, free | governed, capped |\n");
    text.push_str("| --- | ---: | ---: | ---: |\n");
    let stock = |name: &&String| {
        let is_callback = name.starts_with("governor/") && !name.contains("governed");
        is_callback && times.contains_key(&format!("{name}/governed_free"))
    };
    for name in times.keys().filter(stock) {
        let [free, capped] =
            ["free", "capped"].map(|state| cell(&format!("{name}/governed_{state}")));
        let short = name.trim_start_matches("governor/");
        let _ = writeln!(text, "| `{short}` | {} | {free} | {capped} |", cell(name));
    }
    text.push_str("\n| controllers of one source | `on_sent` and `window` of one, ns | building one more, ns |\n");
    text.push_str("| ---: | ---: | ---: |\n");
    for live in ["1", "100", "10000"] {
        let [one, build] = ["live", "build"].map(|what| {
            let time = times.get(&format!("governor/{what}/{live}"));
            time.map_or("-".to_owned(), |time| shown(*time))
        });
        let _ = writeln!(text, "| {live} | {one} | {build} |");
    }
    text.trim_end().to_owned()
}

/// What the probes would take of a host at some rates, from what each costs a run.
fn model(probes: &str) -> Result<String> {
    let cost = |column: usize| -> Result<f64> {
        let mut sum = 0.0;
        for probe in PER_PACKET {
            let row = probes
                .lines()
                .find(|line| line.starts_with(&format!("| `{probe}` |")))
                .with_context(|| format!("{PROBES} has no {probe}"))?;
            let nanos = row.split('|').nth(column).unwrap_or_default().trim();
            sum += nanos
                .parse::<f64>()
                .with_context(|| format!("the cost of {probe}: {nanos}"))?;
        }
        Ok(sum)
    };
    let (watched, others) = (cost(3)?, cost(4)?);
    let mut text = format!(
        "The three probes of each packet or batch cost {watched:.0} ns for a watched socket's and \
        {others:.0} ns for any other's. At {PACKET} bytes a packet, and {BATCH} packets a batch, \
        processors busy with that:\n\n\
        | egress rate | packets a second | watched, one by one | watched, in batches | others', one by one | others', in batches |\n\
        | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    );
    for gigabits in [1.0, 10.0, 100.0] {
        let packets = gigabits * 1e9 / 8.0 / PACKET;
        let busy = |nanos: f64, batch: f64| packets / batch * nanos / 1e9;
        let _ = writeln!(
            text,
            "| {gigabits} Gbit/s | {packets:.0} | {:.3} | {:.3} | {:.3} | {:.3} |",
            busy(watched, 1.0),
            busy(watched, BATCH),
            busy(others, 1.0),
            busy(others, BATCH)
        );
    }
    let share = 100e9 / 8.0 / PACKET * watched / 1e9 / 64.0;
    let _ = write!(
        text,
        "\nOf 64 processors at 100 Gbit/s, all of it from watched sockets and one by one: {:.1}%; in \
        batches {:.2}%. Each further process with its own probes adds the same again.",
        100.0 * share,
        100.0 * share / BATCH
    );
    Ok(text)
}

fn shown(nanos: f64) -> String {
    if nanos < 10.0 {
        format!("{nanos:.1}")
    } else {
        format!("{nanos:.0}")
    }
}

/// Bars on a logarithmic scale, from one nanosecond on.
fn draw(times: &Times) -> String {
    const BAR: usize = 24;
    const LABELS: usize = 290;
    const DECADE: f64 = 120.0;
    let bars: Vec<_> = DRAWN
        .iter()
        .filter_map(|name| Some((name, *times.get(*name)?)))
        .collect();
    let height = (bars.len() + 1) * BAR + 12;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"{height}\" \
        font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"900\" height=\"{height}\" fill=\"white\"/>\n\
        <text x=\"{LABELS}\" y=\"18\" fill=\"#555\">nanoseconds a call, logarithmic</text>\n"
    );
    for (place, (name, time)) in bars.iter().enumerate() {
        let top = (place + 1) * BAR + 4;
        let width = time.max(1.0).log10() * DECADE + 2.0;
        let colour = if name.starts_with("governor") {
            "#0072b2"
        } else {
            "#d55e00"
        };
        let text = top + 13;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{name}</text>\n\
            <rect x=\"{LABELS}\" y=\"{top}\" width=\"{width:.0}\" height=\"16\" fill=\"{colour}\"/>\n\
            <text x=\"{:.0}\" y=\"{text}\">{}</text>",
            LABELS - 8,
            LABELS as f64 + width + 6.0,
            shown(*time)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_takes_its_costs_from_the_table_of_probes() {
        let row = |probe| format!("| `{probe}` | each packet | 50 | 10 | |\n");
        let text = model(&PER_PACKET.map(row).concat()).unwrap();
        assert!(text.contains("cost 150 ns"), "{text}");
        // 100 Gbit/s are 9,765,625 packets of 1,280 bytes.
        assert!(
            text.contains("| 100 Gbit/s | 9765625 | 1.465 | 0.146 | 0.293 | 0.029 |"),
            "{text}"
        );
        assert!(model("").is_err());
    }

    #[test]
    fn a_figure_that_was_not_measured_is_a_dash_and_no_number() {
        let times = Times::from([
            ("read/mapped".to_owned(), 7.26),
            ("governor/window/cubic".to_owned(), 2.0),
            ("governor/window/cubic/governed_free".to_owned(), 31.6),
        ]);
        let counts = Counts::from([("read/mapped".to_owned(), 40)]);
        let text = section(&times, &counts);
        assert!(text.contains("| `read/mapped` | 7.3 / 40 |"), "{text}");
        assert!(
            text.contains("| `window/cubic` | 2.0 / - | 32 / - | - / - |"),
            "{text}"
        );
        assert!(draw(&times).contains("governor/window/cubic/governed_free"));
    }
}
