//! Counts the instructions of the hot paths under valgrind, and holds them against committed
//! figures.
//!
//! Of a call, the instructions of the program itself are counted. Those of shared libraries are not
//! (`memcpy` and its like choose an implementation by the CPU), so that the figures depend on the
//! compiler and the sources alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The committed figures.
const FIGURES: &str = "benches/instructions.txt";

/// The case whose count is the counting itself.
const NOTHING: &str = "nothing";

/// How much a figure may be over the committed one, in hundredths; and always by one instruction.
const TOLERANCE: u64 = 3;

/// Instructions a call, by case.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Measures, and compares with the committed figures or, with `bless`, replaces them.
pub(crate) fn run(workspace: &Path, bless: bool) -> Result<()> {
    let file = workspace.join(FIGURES);
    let compiler = compiler()?;
    let counts = measure(workspace)?;
    if bless {
        fs::write(&file, written(&compiler, &counts)).context("writing the figures")?;
        println!("{FIGURES} has {} figures", counts.len());
        return Ok(());
    }
    let text = fs::read_to_string(&file).with_context(|| format!("reading {FIGURES}"))?;
    let (made_with, committed) = read(&text)?;
    ensure!(
        made_with == compiler,
        "the figures in {FIGURES} are those of {made_with}, and this is {compiler}: check what \
         differs, then replace them with cargo xtask instructions --bless"
    );
    let (table, dearer) = compare(&committed, &counts);
    print!("{table}");
    ensure!(
        dearer == 0,
        "{dearer} of the figures are more than {TOLERANCE}% over those in {FIGURES}, or new: if a \
         change is worth that, replace them with cargo xtask instructions --bless"
    );
    Ok(())
}

/// The compiler as the figures name it: another one makes other instructions.
fn compiler() -> Result<String> {
    let output = Command::new("rustc").arg("--version").output();
    let output = output.context("starting rustc")?;
    ensure!(output.status.success(), "rustc --version failed");
    let version = String::from_utf8(output.stdout).context("reading rustc's version")?;
    Ok(format!("{} {}", version.trim(), std::env::consts::ARCH))
}

/// Builds the program, runs it under valgrind and counts.
pub(crate) fn measure(workspace: &Path) -> Result<Counts> {
    let program = build(workspace)?;
    let directory = workspace.join("target/instructions");
    if directory.exists() {
        fs::remove_dir_all(&directory).context("removing the last run's counts")?;
    }
    fs::create_dir_all(&directory).context("making a directory for the counts")?;
    let output = Command::new("valgrind")
        .args([
            "--quiet",
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=counted_calls",
            "--dump-after=counted_calls",
        ])
        .arg(format!(
            "--callgrind-out-file={}",
            directory.join("counts").display()
        ))
        .arg(&program)
        .env_clear()
        .stderr(Stdio::inherit())
        .output()
        .context("starting valgrind: is it installed?")?;
    ensure!(output.status.success(), "valgrind: {}", output.status);
    let printed = String::from_utf8(output.stdout).context("reading what it printed")?;
    let mut calls = 1;
    let mut counts = Counts::new();
    let mut cases = 0;
    for line in printed.lines() {
        if let Some(number) = line.strip_prefix("calls ") {
            calls = number.parse().context("reading the number of calls")?;
        } else if let Some(name) = line.strip_prefix("case ") {
            cases += 1;
            let dump = directory.join(format!("counts.{cases}"));
            let dump = fs::read_to_string(&dump)
                .with_context(|| format!("reading the count of {name}"))?;
            let instructions = of_object(&dump, &program)
                .with_context(|| format!("understanding the count of {name}"))?;
            counts.insert(name.to_owned(), instructions / calls);
        }
    }
    let nothing = counts.remove(NOTHING).context("nothing was counted")?;
    for count in counts.values_mut() {
        *count = count.saturating_sub(nothing);
    }
    ensure!(!counts.is_empty(), "the program has no cases");
    Ok(counts)
}

/// The program, built as `cargo bench` does, for any CPU of this architecture.
fn build(workspace: &Path) -> Result<PathBuf> {
    let output = Command::new("cargo")
        .current_dir(workspace)
        .args(["bench", "--quiet", "--locked", "--package=benches"])
        .args(["--bench=instructions", "--no-run", "--message-format=json"])
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    ensure!(output.status.success(), "cargo bench: {}", output.status);
    let messages = String::from_utf8(output.stdout).context("reading cargo's messages")?;
    for message in messages.lines() {
        let message: serde_json::Value =
            serde_json::from_str(message).context("reading cargo's messages")?;
        if message["target"]["name"] == "instructions"
            && let Some(program) = message["executable"].as_str()
        {
            return Ok(program.into());
        }
    }
    bail!("cargo built no program")
}

/// The instructions that a dump of callgrind has counted in this object.
fn of_object(dump: &str, object: &Path) -> Result<u64> {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut counts = false;
    let mut called = false;
    let mut sum = 0;
    for line in dump.lines() {
        let place = line
            .strip_prefix("ob=")
            .map(|place| (true, place))
            .or_else(|| line.strip_prefix("cob=").map(|place| (false, place)));
        if let Some((own, place)) = place {
            // A name is written once, and its number from then on.
            let (number, name) = place.split_once(' ').unwrap_or((place, ""));
            if !name.is_empty() {
                names.insert(number, name);
            }
            if own {
                let name = names.get(number).context("an object without a name")?;
                counts = Path::new(name) == object;
            }
        } else if line.starts_with("calls=") {
            // The next line has what was called, which is counted where it is.
            called = true;
        } else if is_count(line) && !std::mem::take(&mut called) && counts {
            let (_, count) = line.split_once(' ').context("a line without a count")?;
            sum += count.trim().parse::<u64>().context("a count")?;
        }
    }
    Ok(sum)
}

/// Whether a line of a dump has a line number or an offset to it, and a count.
fn is_count(line: &str) -> bool {
    line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
}

fn written(compiler: &str, counts: &Counts) -> String {
    let mut text = format!(
        "# Instructions a call; written by `cargo xtask instructions --bless`.\n# {compiler}\n"
    );
    for (name, count) in counts {
        let _ = writeln!(text, "{name} {count}");
    }
    text
}

/// The compiler and the counts of a file of figures.
pub(crate) fn read(text: &str) -> Result<(&str, Counts)> {
    let mut compiler = "";
    let mut counts = Counts::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            compiler = comment;
            continue;
        }
        let (name, count) = line
            .rsplit_once(' ')
            .with_context(|| format!("no figure: {line}"))?;
        let count = count
            .parse()
            .with_context(|| format!("no figure: {line}"))?;
        counts.insert(name.to_owned(), count);
    }
    Ok((compiler, counts))
}

/// A table of all, and how many are more than committed, or not in both.
fn compare(committed: &Counts, counts: &Counts) -> (String, usize) {
    let mut table = String::new();
    let mut dearer = 0;
    let names: std::collections::BTreeSet<_> = committed.keys().chain(counts.keys()).collect();
    for name in names {
        let (before, now) = (committed.get(name), counts.get(name));
        let mark = match before.zip(now) {
            Some((before, now)) if now.abs_diff(*before) <= (before * TOLERANCE / 100).max(1) => "",
            Some((before, now)) if now < before => "  less",
            _ => "  MORE",
        };
        let shown = |count: Option<&u64>| count.map_or("-".to_owned(), u64::to_string);
        dearer += usize::from(mark == "  MORE");
        let _ = writeln!(
            table,
            "{name:<52} {:>6} {:>6}{mark}",
            shown(before),
            shown(now)
        );
    }
    (table, dearer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "events: Ir\nsummary: 1111\n\nob=(1) /bin/x\nfl=(1) a.rs\nfn=(1) x::counted\n\
        1 10\n+2 20\ncob=(2) /lib/libc.so.6\ncfn=(2) memcpy\ncalls=7 0\n* 1000\n\
        ob=(2)\nfn=(2)\n0 1000\nob=(1)\nfn=(3) y\n9 3\n";

    #[test]
    fn only_what_the_program_itself_executes_is_counted_once() {
        assert_eq!(of_object(DUMP, Path::new("/bin/x")).ok(), Some(33));
        assert_eq!(
            of_object(DUMP, Path::new("/lib/libc.so.6")).ok(),
            Some(1000)
        );
    }

    #[test]
    fn figures_are_read_as_they_are_written() {
        let counts = Counts::from([("read/mapped".to_owned(), 40), ("a".to_owned(), 7)]);
        let text = written("rustc 1.95.0", &counts);
        assert_eq!(read(&text).ok(), Some(("rustc 1.95.0", counts)));
    }

    #[test]
    fn a_figure_may_be_a_little_more_or_any_less_and_none_may_be_missing() {
        let one = |count| Counts::from([("a".to_owned(), count)]);
        let dearer = |now: &Counts| compare(&one(100), now).1;
        assert_eq!(dearer(&one(103)), 0);
        assert_eq!(dearer(&one(50)), 0);
        assert_eq!(dearer(&one(104)), 1);
        assert_eq!(dearer(&Counts::new()), 1);
        assert_eq!(compare(&one(8), &one(9)).1, 0, "less than a hundredth");
    }
}
