//! Runs what a newcomer runs first, and shows what it prints in README.md.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::readme;

/// The lines of README.md that enclose the output.
const MARKS: [&str; 2] = [
    "<!-- written by cargo xtask first-command --readme -->",
    "<!-- up to here -->",
];

/// What is drawn.
const PICTURE: &str = "docs/first-command.svg";

/// How the line above the first plot begins.
const PLOTS: &str = "  round trip  stock";

/// The command as README.md shows it.
const SHOWN: &str = "cargo run --release --example loopback";

/// Prints what the first command prints. With `into_readme`, puts that and the picture in place.
pub(crate) fn run(workspace: &Path, into_readme: bool) -> Result<()> {
    let mut command = Command::new("cargo");
    command
        .current_dir(workspace)
        .args(SHOWN.split(' ').skip(1))
        .args(["--quiet", "--locked"])
        .stderr(Stdio::inherit());
    if into_readme {
        command.args(["--", "--svg", PICTURE]);
    }
    let output = command.output().context("starting cargo")?;
    ensure!(output.status.success(), "{SHOWN}: {}", output.status);
    let printed = String::from_utf8(output.stdout).context("reading what it printed")?;
    print!("{printed}");
    if into_readme {
        let path = workspace.join("README.md");
        let text = fs::read_to_string(&path).context("reading README.md")?;
        let text = readme::replace(&text, MARKS, &block(&printed))?;
        fs::write(&path, text).context("writing README.md")?;
    }
    Ok(())
}

/// The command with its output, as a block of Markdown, up to the plots: the picture shows the
/// same.
fn block(printed: &str) -> String {
    let lines = printed.lines();
    let shown = lines.take_while(|line| !line.starts_with(PLOTS) && !line.starts_with("drawn: "));
    let shown: Vec<&str> = shown.collect();
    format!(
        "```console\n$ {SHOWN}\n{}\n```",
        shown.join("\n").trim_end()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_the_command_and_all_that_is_printed_before_the_plots() {
        let expected = format!("```console\n$ {SHOWN}\nsignals: ebpf\n\n  a table\n```");
        for rest in [
            "drawn: docs/x.svg",
            "  round trip  stock     governed\n 43.0 ms |#",
        ] {
            let printed = format!("signals: ebpf\n\n  a table\n\n{rest}\n");
            assert_eq!(block(&printed), expected);
        }
    }
}
