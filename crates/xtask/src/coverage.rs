//! Which lines of the published crates their tests run.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::readme;

/// The crates, and all of their features that change what is built.
const PACKAGES: [&str; 3] = [
    "ebpf-congestion-signals-common",
    "ebpf-congestion-signals",
    "quinn-governor",
];
const FEATURES: &str = "ebpf-congestion-signals/recording,ebpf-congestion-signals/testing,\
                        ebpf-congestion-signals/validate,quinn-governor/qlog,\
                        quinn-governor/testing";

/// What is written into the document.
const DOCUMENT: &str = "docs/coverage.md";
const MARKS: [&str; 2] = [
    "<!-- written by cargo xtask coverage --document -->",
    "<!-- up to here -->",
];

/// A file with a smaller share of its lines covered is named.
const NAMED_BELOW: f64 = 90.0;

/// How to report.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Write the table into docs/coverage.md
    #[arg(long)]
    document: bool,
}

/// Runs the tests and reports.
pub(crate) fn run(workspace: &Path, options: &Options) -> Result<()> {
    let directory = workspace.join("target/coverage");
    let tools = Tools::find()?;
    let objects = build(workspace, &directory)?;
    let data = directory.join("all.profdata");
    test(workspace, &directory)?;
    tools.merge(&directory, &data)?;
    let report = tools.report(workspace, &data, &objects)?;
    let table = table(&report);
    print!("{table}");
    if options.document {
        let document = workspace.join(DOCUMENT);
        let text = fs::read_to_string(&document).with_context(|| format!("reading {DOCUMENT}"))?;
        let text = readme::replace(&text, MARKS, table.trim_end())?;
        fs::write(&document, text).with_context(|| format!("writing {DOCUMENT}"))?;
    }
    Ok(())
}

/// Cargo, for tests whose programs count which lines they run.
fn cargo(workspace: &Path, directory: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(workspace)
        .env("CARGO_TARGET_DIR", directory)
        .env("CARGO_INCREMENTAL", "0")
        .env("RUSTFLAGS", "-C instrument-coverage")
        // Build scripts and programs that run before the tests write there too.
        .env("LLVM_PROFILE_FILE", directory.join("run-%8m.profraw"))
        .args(["test", "--locked", "--lib", "--bins", "--tests"])
        .args(["--features", FEATURES]);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    command
}

/// The programs that have been built, which say where lines are.
fn build(workspace: &Path, directory: &Path) -> Result<BTreeSet<PathBuf>> {
    let output = cargo(workspace, directory)
        .args(["--no-run", "--message-format=json"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    ensure!(output.status.success(), "the tests cannot be built");
    let messages = output.stdout.split(|byte| *byte == b'\n');
    let messages = messages.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    Ok(messages
        .filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .collect())
}

fn test(workspace: &Path, directory: &Path) -> Result<()> {
    for old in profiles(directory)? {
        fs::remove_file(old)?;
    }
    // What fails is reported; what it covered counts.
    let status = cargo(workspace, directory)
        .arg("--no-fail-fast")
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        eprintln!("some tests failed: see above");
    }
    Ok(())
}

fn profiles(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "profraw") {
            found.push(path);
        }
    }
    Ok(found)
}

/// LLVM's, of the compiler's version.
struct Tools {
    profdata: PathBuf,
    cov: PathBuf,
}

impl Tools {
    fn find() -> Result<Self> {
        let output = Command::new("rustc").arg("-vV").output();
        let output = output.context("cannot start rustc")?.stdout;
        let said = String::from_utf8(output)?;
        let field = |name| said.lines().find_map(|line| line.strip_prefix(name));
        let version = field("LLVM version: ").context("rustc names no LLVM")?;
        let host = field("host: ").context("rustc names no host")?;
        let major = version.split('.').next().unwrap_or(version);
        let root = Command::new("rustc").args(["--print", "sysroot"]).output();
        let root = String::from_utf8(root.context("cannot start rustc")?.stdout)?;
        let places = [
            Path::new(root.trim())
                .join("lib/rustlib")
                .join(host)
                .join("bin"),
            PathBuf::from(format!("/usr/lib/llvm-{major}/bin")),
        ];
        let place = places.iter().find(|place| place.join("llvm-cov").exists());
        let place = place.with_context(|| {
            format!(
                "there is no llvm-cov of LLVM {major}: rustup component add llvm-tools, or on Debian \
                 apt-get install llvm-{major}"
            )
        })?;
        Ok(Self {
            profdata: place.join("llvm-profdata"),
            cov: place.join("llvm-cov"),
        })
    }

    fn merge(&self, directory: &Path, data: &Path) -> Result<()> {
        let status = Command::new(&self.profdata)
            .args(["merge", "--sparse", "--failure-mode=all", "-o"])
            .arg(data)
            .args(profiles(directory)?)
            .status()
            .context("cannot start llvm-profdata")?;
        ensure!(status.success(), "llvm-profdata: {status}");
        Ok(())
    }

    fn report(
        &self,
        workspace: &Path,
        data: &Path,
        objects: &BTreeSet<PathBuf>,
    ) -> Result<Vec<File>> {
        let mut command = Command::new(&self.cov);
        command
            .args(["export", "--format=lcov", "--instr-profile"])
            .arg(data);
        for object in objects {
            command.arg("--object").arg(object);
        }
        command.arg("--sources");
        for package in PACKAGES {
            command.arg(workspace.join("crates").join(package).join("src"));
        }
        let output = command
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start llvm-cov")?;
        ensure!(output.status.success(), "llvm-cov: {}", output.status);
        let root = workspace.join("crates");
        parse(&String::from_utf8(output.stdout)?, &root)
    }
}

/// A source file.
#[derive(Debug, PartialEq, Eq)]
struct File {
    /// From `crates/` on.
    path: String,
    lines: usize,
    uncovered: Vec<u32>,
}

impl File {
    #[expect(clippy::cast_precision_loss, reason = "no file has so many lines")]
    fn share(&self) -> f64 {
        let covered = self.lines - self.uncovered.len();
        100.0 * covered as f64 / self.lines.max(1) as f64
    }

    /// Tests cover themselves.
    fn is_of_tests(&self) -> bool {
        let name = &self.path;
        name.contains("/tests/") || name.ends_with("tests.rs") || name.contains("/testing/")
    }
}

/// Reads the format of lcov: `SF:` begins a file, `DA:line,count` is a line.
fn parse(lcov: &str, root: &Path) -> Result<Vec<File>> {
    let mut files: Vec<File> = Vec::new();
    for line in lcov.lines() {
        if let Some(path) = line.strip_prefix("SF:") {
            let path = Path::new(path);
            let path = path.strip_prefix(root).unwrap_or(path);
            files.push(File {
                path: path.display().to_string(),
                lines: 0,
                uncovered: Vec::new(),
            });
        } else if let Some(data) = line.strip_prefix("DA:") {
            let file = files.last_mut().context("a line without a file")?;
            let (number, count) = data.split_once(',').context("a line without a count")?;
            file.lines += 1;
            if count == "0" {
                file.uncovered.push(number.parse()?);
            }
        }
    }
    files.retain(|file| !file.is_of_tests());
    Ok(files)
}

fn table(files: &[File]) -> String {
    let mut text = String::from("| crate | lines | covered |\n| --- | --- | --- |\n");
    for package in PACKAGES {
        let prefix = format!("{package}/");
        let of_package = files.iter().filter(|file| file.path.starts_with(&prefix));
        let (mut lines, mut uncovered) = (0, Vec::new());
        for file in of_package {
            lines += file.lines;
            uncovered.extend_from_slice(&file.uncovered);
        }
        let sum = File {
            path: package.to_owned(),
            lines,
            uncovered,
        };
        let _ = writeln!(text, "| {package} | {lines} | {:.1}% |", sum.share());
    }
    text.push_str("\n| file | lines | covered |\n| --- | --- | --- |\n");
    let mut named: Vec<&File> = files
        .iter()
        .filter(|file| file.share() < NAMED_BELOW)
        .collect();
    named.sort_by(|one, other| one.share().total_cmp(&other.share()));
    for file in named {
        let (path, lines, share) = (&file.path, file.lines, file.share());
        let _ = writeln!(text, "| `{path}` | {lines} | {share:.0}% |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_by_file_without_those_of_tests() {
        let lcov = "SF:/w/crates/quinn-governor/src/a.rs\nDA:1,5\nDA:2,0\nend_of_record\n\
                    SF:/w/crates/quinn-governor/src/law/tests/b.rs\nDA:1,0\nend_of_record\n";
        let files = parse(lcov, Path::new("/w/crates")).unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!((files[0].lines, &files[0].uncovered[..]), (2, &[2][..]));
        let table = table(&files);
        assert!(table.contains("| quinn-governor | 2 | 50.0% |"), "{table}");
        assert!(table.contains("`quinn-governor/src/a.rs`"), "{table}");
        assert!(parse("DA:1,0\n", Path::new("/")).is_err());
    }
}
