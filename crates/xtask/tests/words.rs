//! Words that this project once used in a sense of its own, and what to write instead.
//!
//! Held against documents, against what programs print, and against comments and names in the
//! source.

use std::fs;
use std::path::{Path, PathBuf};

/// Phrases of text, in small letters, and what to write instead.
const PHRASES: &[(&str, &str)] = &[
    ("stands in the queue", "backlog; standing queue (RFC 8289)"),
    ("stand in the queue", "backlog; standing queue (RFC 8289)"),
    ("queue stands", "standing queue (RFC 8289)"),
    ("is told", "is reported, learns"),
    ("are told", "are reported, learn"),
    ("be told", "be reported, learn"),
    ("was told", "was reported, learned"),
    ("been told", "been reported"),
    ("tells of", "reports"),
    ("told of", "reported"),
    ("tells no", "does not report"),
    ("at a look", "sample"),
    ("each look", "sample, update"),
    ("every look", "sample, update"),
    ("last look", "last sample, last update"),
    ("first look", "first sample, first update"),
    ("hole in", "ACK gap"),
    ("the hole", "ACK gap"),
    ("company", "competing traffic, other sockets"),
    ("stranger", "competing traffic, other sockets"),
    ("strangers", "competing traffic, other sockets"),
    ("fellow", "flows that share"),
    ("fellows", "flows that share"),
    ("a rule took", "a firewall dropped"),
    ("the shell of", "consumed GSO head"),
    ("runs left out", "recursion misses (the kernel's name)"),
    ("silent reason", "NOT_SPECIFIED"),
    ("stacked device", "upper device"),
    ("on top of another", "upper device"),
    ("believed", "trusted"),
    ("believes", "trusts"),
    ("blind", "stale"),
    ("nobody wanted", "involuntary"),
    ("whoever", "name who it is"),
    ("for good", "for ever, permanently"),
    ("can be had", "is available"),
    ("cannot be had", "is not available"),
];

/// Parts of names, in small letters, and what to call it instead.
const NAMES: &[(&str, &str)] = &[
    ("look", "sample, update"),
    ("looked", "sampled, updated"),
    ("leaving", "egress"),
    ("arriving", "ingress"),
    ("place", "bucket, position"),
    ("places", "buckets, positions"),
    ("facts", "offsets"),
    ("stands", "is_standing"),
    ("told", "reported"),
    ("tells", "reports"),
    ("hole", "gap"),
    ("company", "others"),
    ("fellows", "sharing"),
    ("strangers", "others"),
    ("shell", "consumed_head"),
    ("believed", "trusted"),
    ("blind", "stale"),
    ("leftout", "recursion_misses"),
    ("unseen", "not_observed"),
    ("doubted", "untrusted"),
    ("crowd", "competing"),
];

/// Sources whose documentation, names and texts are held against the list.
const SOURCES: &[&str] = &[
    "crates/ebpf-congestion-signals/src",
    "crates/ebpf-congestion-signals-common/src",
    "crates/quinn-governor/src",
    "crates/soak/src",
    "crates/netlab/src",
    "crates/live-test/src",
    "crates/xtask/src",
    "examples",
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn files(directory: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the checkout can be read") {
        let path = entry.expect("its entries too").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            let is_ours = !name.starts_with('.') && name != "target" && !path.is_symlink();
            if is_ours {
                files(&path, ending, found);
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

/// Small letters, words with one space between, so that phrases are found across lines.
fn plain(text: &str) -> String {
    let kept = text.chars().map(|c| {
        if c.is_alphanumeric() || c == '\'' {
            c.to_ascii_lowercase()
        } else {
            ' '
        }
    });
    let kept: String = kept.collect();
    let words: Vec<&str> = kept.split_whitespace().collect();
    format!(" {} ", words.join(" "))
}

/// Phrases of the list in a text.
fn phrases(text: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let text = plain(text);
    PHRASES
        .iter()
        .filter(move |(phrase, _)| text.contains(&format!(" {phrase} ")))
        .copied()
}

/// The comments in a source file, and its string literals of more than a word: paragraphs, each
/// with the number of its first line. Of tests inside a file, and of what stands behind them,
/// nothing.
fn texts(source: &str) -> Vec<(usize, String)> {
    let mut texts: Vec<(usize, String)> = Vec::new();
    let mut in_paragraph = false;
    for (index, line) in source.lines().enumerate() {
        if line == "#[cfg(test)]" {
            break;
        }
        let line = line.trim();
        let comment = line.strip_prefix("//");
        let comment = comment.map(|text| text.trim_start_matches(['/', '!']));
        match comment {
            Some(text) if in_paragraph => {
                let (_, paragraph) = texts.last_mut().expect("one was begun");
                paragraph.push('\n');
                paragraph.push_str(text);
            }
            Some(text) => texts.push((index + 1, text.to_owned())),
            None => {
                // Between quotation marks; a literal that goes on in the next line is seen in parts.
                let code = line.replace("\\\"", "");
                let literals = code.split('"').skip(1).step_by(2);
                let sentences = literals.filter(|literal| literal.contains(' '));
                texts.extend(sentences.map(|literal| (index + 1, literal.to_owned())));
                let goes_on = line.ends_with('\\') && !line.contains('"');
                if goes_on {
                    texts.push((index + 1, line.to_owned()));
                }
            }
        }
        in_paragraph = comment.is_some_and(|text| !text.trim().is_empty());
    }
    texts
}

/// Names that a file declares: items, and fields with a visibility.
fn names(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let kinds = [
        "const ", "unsafe ", "async ", "fn ", "struct ", "enum ", "trait ", "type ", "mod ",
        "static ",
    ];
    source.lines().enumerate().filter_map(move |(index, line)| {
        let line = line.trim();
        let visible = line.strip_prefix("pub").map(|rest| {
            let restricted = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
            restricted.map_or(rest, |(_, rest)| rest).trim_start()
        });
        let declared = visible.unwrap_or(line);
        let mut name = declared;
        while let Some(rest) = kinds.iter().find_map(|kind| name.strip_prefix(kind)) {
            name = rest;
        }
        let is_declaration = visible.is_some() || name.len() < declared.len();
        let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
        is_declaration.then(|| (index + 1, &name[..end.unwrap_or(name.len())]))
    })
}

/// The parts of a name in small letters: `left_out`, `LeftOut`: left, out, and each pair of them.
fn parts(name: &str) -> Vec<String> {
    let mut parts: Vec<String> = vec![String::new()];
    for letter in name.chars() {
        if letter == '_' || (letter.is_uppercase() && !parts.concat().is_empty()) {
            parts.push(String::new());
        }
        if letter != '_' {
            let last = parts.last_mut().expect("there is one");
            last.extend(letter.to_lowercase());
        }
    }
    let pairs = parts.windows(2).map(|pair| pair.concat());
    let pairs: Vec<String> = pairs.collect();
    parts.extend(pairs);
    parts
}

fn complain(complaints: &[String]) {
    assert!(
        complaints.is_empty(),
        "{} phrases to write in plain words:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

fn shown(path: &Path) -> String {
    let path = path.strip_prefix(workspace()).unwrap_or(path);
    path.display().to_string()
}

#[test]
fn documents_use_plain_words() {
    let mut found = Vec::new();
    files(&workspace(), ".md", &mut found);
    let mut complaints = Vec::new();
    for path in found {
        let text = fs::read_to_string(&path).expect("it is there");
        let path = shown(&path);
        for (phrase, instead) in phrases(&text) {
            complaints.push(format!("{path}: \"{phrase}\": write: {instead}"));
        }
    }
    complain(&complaints);
}

#[test]
fn sources_use_plain_words() {
    let mut complaints = Vec::new();
    for directory in SOURCES {
        let mut found = Vec::new();
        files(&workspace().join(directory), ".rs", &mut found);
        for path in found {
            let source = fs::read_to_string(&path).expect("it is there");
            let path = shown(&path);
            if path.contains("/tests/") || path.ends_with("/tests.rs") {
                continue;
            }
            for (line, text) in texts(&source) {
                for (phrase, instead) in phrases(&text) {
                    complaints.push(format!("{path}:{line}: \"{phrase}\": write: {instead}"));
                }
            }
            for (line, name) in names(&source) {
                let parts = parts(name);
                for (word, instead) in NAMES {
                    if parts.iter().any(|part| part == word) {
                        complaints.push(format!("{path}:{line}: {name}: call it: {instead}"));
                    }
                }
            }
        }
    }
    complain(&complaints);
}

#[test]
fn phrases_are_found_across_lines_and_names_by_their_parts() {
    let source = "/// The queue\n/// stands.\npub fn last_look() {}\nlet a = \"x is told y\";\n";
    let texts = texts(source);
    let found: Vec<_> = texts
        .iter()
        .flat_map(|(line, text)| phrases(text).map(|(phrase, _)| (*line, phrase)))
        .collect();
    assert_eq!(found, [(1, "queue stands"), (4, "is told")]);
    assert_eq!(names(source).collect::<Vec<_>>(), [(3, "last_look")]);
    let private = "    pub(super) fn told() {}\n    async fn look() {}\nif told(fn_look) {}\n";
    let found = names(private).collect::<Vec<_>>();
    assert_eq!(found, [(1, "told"), (2, "look")]);
    assert!(parts("LeftOut").contains(&"leftout".to_owned()));
    assert!(parts("last_look").contains(&"look".to_owned()));
}
