//! README and the other documents: short enough, no dead links, and no command that nothing runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines that README may have.
const README_LINES: usize = 250;

/// Something that runs a command of README, or why nothing does.
enum Run {
    /// This file has this text.
    By(&'static str, &'static str),
    Not(&'static str),
}

/// Every command of README.
const COMMANDS: [(&str, Run); 11] = [
    (
        "cargo run --release --example loopback",
        Run::By(
            ".ci/run",
            "cargo run --release --locked --example loopback --",
        ),
    ),
    (
        "cargo run --release --example server -- --listen 0.0.0.0:4433",
        Run::By(BETWEEN_MACHINES.0, BETWEEN_MACHINES.1),
    ),
    (
        "cargo run --release --example client -- --connect 192.0.2.1:4433 --seconds 10 --flows 4",
        Run::By(BETWEEN_MACHINES.0, BETWEEN_MACHINES.1),
    ),
    (
        "sudo setcap cap_bpf,cap_perfmon+ep PROGRAM",
        Run::Not("it would change the rights of a file of this machine"),
    ),
    (
        "cargo xtask kernels",
        Run::By(".ci/run", "cargo xtask kernels 6.1"),
    ),
    (
        "cargo run --release -p ebpf-congestion-signals --features validate -- --load iperf3 \
         --seconds 120",
        Run::By(
            "crates/ebpf-congestion-signals/tests/validate.rs",
            "--load iperf3 --seconds 2",
        ),
    ),
    (
        "cargo xtask lab local-queue three-sockets htb-pfifo beside-tcp beside-stock moves-on --compare \
         --rounds 1",
        Run::Not("it takes minutes, and its figures need a machine that is idle"),
    ),
    (
        "client --qlog FILE",
        Run::By("examples/tests/programs/written.rs", "--qlog {}"),
    ),
    (
        "client --trace FILE",
        Run::By("examples/tests/programs/server.rs", "--trace {trace}"),
    ),
    (
        "quinn = \"0.11\"",
        Run::By("Cargo.toml", "quinn = { version = \"0.11."),
    ),
    (
        "quinn-governor = \"0.1\"",
        Run::By("Cargo.toml", "quinn-governor = { version = \"0.1.0\""),
    ),
];

const BETWEEN_MACHINES: (&str, &str) = (
    "examples/tests/programs/minimal.rs",
    "fn the_readmes_commands_for_two_machines_run()",
);

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Markdown file of the project.
fn documents() -> Vec<PathBuf> {
    files(".md")
}

/// Every file of the project whose name ends so.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![workspace()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory).expect("the checkout can be read");
        for path in entries.map(|entry| entry.expect("its entries too").path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    directories.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found
}

/// What the links of a document lead to: `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let (target, _) = rest.split_once(')')?;
        (!target.contains(char::is_whitespace)).then_some(target)
    })
}

/// The anchor that a heading has.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn headings(text: &str) -> BTreeSet<String> {
    let mut in_code = false;
    let outside = text.lines().filter(|line| {
        in_code ^= line.starts_with("```");
        !in_code
    });
    outside
        .filter(|line| line.starts_with('#'))
        .map(anchor)
        .collect()
}

/// What a document tells its reader to run, or to add: lines of blocks of shell and TOML, and
/// commands of the project in text.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut block = None;
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            block = block.is_none().then_some(language);
            continue;
        }
        match block {
            Some("sh") => commands.push(line.to_owned()),
            Some("console") => commands.extend(line.strip_prefix("$ ").map(str::to_owned)),
            Some("toml") if !line.starts_with('[') => commands.push(line.to_owned()),
            Some(_) => {}
            None => {
                let spans = line.split('`').skip(1).step_by(2);
                let ours = spans.filter(|span| {
                    ["cargo ", "sudo ", "client ", "server ", "validate --"]
                        .iter()
                        .any(|program| span.starts_with(program))
                });
                commands.extend(ours.map(str::to_owned));
            }
        }
    }
    commands
}

#[test]
fn the_readme_is_short() {
    let lines = read(&workspace().join("README.md")).lines().count();
    assert!(lines <= README_LINES, "README has {lines} lines");
}

#[test]
fn no_link_is_dead() {
    for document in documents() {
        let text = read(&document);
        let directory = document.parent().expect("a file is in a directory");
        for target in links(&text).filter(|target| !target.contains("://")) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() {
                document.clone()
            } else {
                directory.join(path)
            };
            let at = document.display();
            assert!(path.exists(), "{at}: there is no {target}");
            if !anchor.is_empty() {
                let has = headings(&read(&path)).contains(anchor);
                assert!(has, "{at}: there is no heading {target}");
            }
        }
    }
}

#[test]
fn every_source_file_that_a_document_names_exists() {
    let sources = files(".rs");
    for document in documents() {
        let text = read(&document);
        let is_of_a_path = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
        for word in text.split(|c| !is_of_a_path(c)) {
            let word = word.trim_start_matches(['.', '/']);
            // Not the name of a site, such as docs.rs.
            if word.ends_with(".rs") && !word.ends_with("docs.rs") {
                let exists = sources.iter().any(|source| source.ends_with(word));
                assert!(exists, "{}: there is no {word}", document.display());
            }
        }
    }
}

#[test]
fn every_command_of_the_readme_is_run() {
    let readme = read(&workspace().join("README.md"));
    let shown = commands(&readme);
    for command in &shown {
        let known = COMMANDS.iter().any(|(known, _)| known == command);
        assert!(known, "what runs `{command}`? Add it to COMMANDS");
    }
    for (command, run) in &COMMANDS {
        let is_shown = shown.iter().any(|shown| shown == command);
        assert!(is_shown, "README does not show `{command}`");
        match run {
            Run::By(file, text) => {
                let runs = read(&workspace().join(file)).contains(text);
                assert!(runs, "{file} does not run `{command}`: it lacks {text}");
            }
            Run::Not(why) => assert!(!why.is_empty()),
        }
    }
}

#[test]
fn links_and_commands_are_found() {
    let text = "# A b-c\nsee [x](y.md#a-b-c) and `cargo xtask`\n```sh\nls\n```\n";
    assert_eq!(links(text).collect::<Vec<_>>(), ["y.md#a-b-c"]);
    assert!(headings(text).contains("a-b-c"));
    assert_eq!(commands(text), ["cargo xtask", "ls"]);
}
