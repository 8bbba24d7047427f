//! What the programs printed on one kernel, read.

use std::collections::BTreeMap;

use serde_json::Value;

/// Lines that divide what a kernel's run prints: its release follows this one,
pub(super) const RELEASE: &str = "=== release";
/// capabilities this,
pub(super) const CAPABILITIES: &str = "=== capabilities";
/// the tests' output this,
pub(super) const TESTS: &str = "=== tests";
/// that of the tests of the source without privilege this,
pub(super) const SOCKET_TESTS: &str = "=== socket tests";
/// and this, with its status, ends a program's output.
pub(super) const ENDED: &str = "=== ended";

/// How a test begins to say what the kernel was built without.
pub(super) const LACKS: &str = "this kernel has no such ";

/// One kernel's run.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// As `uname -r` prints it; empty when it did not get so far.
    pub(super) release: String,
    pub(super) capabilities: Vec<Capability>,
    /// By the tests' names.
    pub(super) tests: BTreeMap<String, Verdict>,
    /// What went wrong beside tests.
    pub(super) faults: Vec<String>,
}

/// What the probes can tell there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Capability {
    pub(super) name: String,
    pub(super) gives: String,
    pub(super) missing: Option<String>,
}

/// How a test ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    /// The kernel cannot do what it tests; why.
    Skipped(String),
    /// What it printed.
    Failed(String),
}

impl Outcome {
    /// A kernel that could not be run at all.
    pub(super) fn broken(why: String) -> Self {
        Self {
            faults: vec![why],
            ..Self::default()
        }
    }

    pub(super) fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    pub(super) fn parse(printed: &str) -> Self {
        let mut outcome = Self::default();
        let mut lines = printed.lines().map(|line| line.trim_end_matches('\r'));
        let mut programs = 0;
        while let Some(line) = lines.next() {
            if let Some(release) = line.strip_prefix(RELEASE) {
                outcome.release = release.trim().to_owned();
                continue;
            }
            let is_tests = line == TESTS || line == SOCKET_TESTS;
            if !is_tests && line != CAPABILITIES {
                continue;
            }
            let mut output = Vec::new();
            let mut status = None;
            for line in lines.by_ref() {
                status = line.strip_prefix(ENDED);
                if status.is_some() {
                    break;
                }
                output.push(line);
            }
            if is_tests {
                let prefix = if line == SOCKET_TESTS { "socket::" } else { "" };
                outcome.read_tests(prefix, &output);
            } else {
                outcome.read_capabilities(&output);
            }
            match status.map(str::trim) {
                Some("0") => {}
                // Each test that fails has a line of its own.
                Some(_) if is_tests && outcome.failed().next().is_some() => {}
                Some(status) => {
                    let last = output.last().copied().unwrap_or_default();
                    outcome.fault(format!("{line} ended with {status}: {last}"));
                }
                None => outcome.fault(format!("{line} did not end")),
            }
            programs += 1;
        }
        if programs < 3 {
            outcome.fault("not all programs were run".to_owned());
        }
        outcome
    }

    /// Of a kernel that is locked down: loading must say so, in one line.
    pub(super) fn of_lockdown(printed: &str) -> Self {
        let mut outcome = Self::default();
        let lines = printed.lines().map(|line| line.trim_end_matches('\r'));
        let mut of_program = Vec::new();
        for line in lines {
            if let Some(release) = line.strip_prefix(RELEASE) {
                outcome.release = release.trim().to_owned();
            } else if line != CAPABILITIES {
                of_program.push(line);
            }
        }
        match of_program.as_slice() {
            [lines, ended] if ended.starts_with(ENDED) && lines.contains("lockdown=integrity") => {
                let name = "lockdown::loading_says_that_the_kernel_is_locked_down".to_owned();
                outcome.tests.insert(name, Verdict::Passed);
            }
            lines => outcome.fault(format!("lockdown is not named: {}", lines.join("\n"))),
        }
        outcome
    }

    /// Tests that failed, and what they printed.
    pub(super) fn failed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tests
            .iter()
            .filter_map(|(name, verdict)| match verdict {
                Verdict::Failed(output) => Some((name.as_str(), output.as_str())),
                Verdict::Passed | Verdict::Skipped(_) => None,
            })
    }

    /// Makes it a fault that a test was skipped for something the kernel lacks: where modules are
    /// loaded on purpose, none may.
    pub(super) fn must_lack_nothing(&mut self) {
        let lacking = self
            .tests
            .iter()
            .filter_map(|(name, verdict)| match verdict {
                Verdict::Skipped(why) if why.contains(LACKS) => Some(format!("{name}: {why}")),
                _ => None,
            });
        let lacking: Vec<_> = lacking.collect();
        self.faults.extend(lacking);
    }

    /// Why a capability is missing; `None` when it is there.
    pub(super) fn missing(&self, name: &str) -> Option<&str> {
        let missing = |name| {
            let capability = self.capabilities.iter().find(|found| found.name == name);
            match capability {
                Some(capability) => capability.missing.as_deref(),
                None => Some("the probes name no such capability"),
            }
        };
        let mut names = name.split('|').map(missing);
        let first = names.next().flatten();
        if names.any(|missing| missing.is_none()) {
            None
        } else {
            first
        }
    }

    /// Says what there is to say beside the table.
    pub(super) fn tell(&self) {
        for capability in &self.capabilities {
            let Capability { name, gives, .. } = capability;
            match &capability.missing {
                None => eprintln!("    {name}: {gives}"),
                Some(why) => eprintln!("    {name}: MISSING ({gives}): {}", shortened(why)),
            }
        }
        let count = |wanted: fn(&Verdict) -> bool| {
            self.tests
                .values()
                .filter(|verdict| wanted(verdict))
                .count()
        };
        eprintln!(
            "    tests: {} passed, {} failed, {} skipped",
            count(|verdict| matches!(verdict, Verdict::Passed)),
            count(|verdict| matches!(verdict, Verdict::Failed(_))),
            count(|verdict| matches!(verdict, Verdict::Skipped(_))),
        );
        for (name, output) in self.failed() {
            eprintln!("    FAILED {name}\n{}", shortened(output.trim()));
        }
        for fault in &self.faults {
            eprintln!("    FAULT {}", shortened(fault));
        }
    }

    fn read_capabilities(&mut self, output: &[&str]) {
        for line in output {
            let Ok(value) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let text = |field: &str| value[field].as_str().map(str::to_owned);
            self.capabilities.push(Capability {
                name: text("name").unwrap_or_default(),
                gives: text("gives").unwrap_or_default(),
                missing: text("missing"),
            });
        }
    }

    /// Reads what the harness of live tests prints. `prefix` begins the names of its tests.
    fn read_tests(&mut self, prefix: &str, output: &[&str]) {
        let mut of: Option<String> = None;
        for line in output {
            let heading = line
                .strip_prefix("---- ")
                .and_then(|line| line.strip_suffix(" ----"));
            if let Some(name) = heading {
                of = Some(format!("{prefix}{name}"));
            } else if *line == "failures:" {
                of = None;
            } else if let Some(Verdict::Failed(text)) =
                of.as_ref().and_then(|name| self.tests.get_mut(name))
            {
                text.push_str(line);
                text.push('\n');
            } else if let Some((name, how)) = line
                .strip_prefix("test ")
                .and_then(|line| line.split_once(" ..."))
            {
                let why =
                    |how: &str| Some(how.strip_prefix("ignored (")?.strip_suffix(')')?.to_owned());
                let verdict = match (how.trim(), why(how.trim())) {
                    ("ok", _) => Verdict::Passed,
                    ("FAILED", _) => Verdict::Failed(String::new()),
                    (_, Some(why)) => Verdict::Skipped(why),
                    _ => Verdict::Failed("it did not end".to_owned()),
                };
                self.tests
                    .insert(format!("{prefix}{}", name.trim()), verdict);
            }
        }
    }
}

/// The first and the last lines of a long text, a verifier's log for example.
fn shortened(text: &str) -> String {
    const MOST: usize = 30;
    let lines: Vec<_> = text.lines().collect();
    if lines.len() <= MOST {
        return text.to_owned();
    }
    let (first, last) = (&lines[..MOST / 3], &lines[lines.len() - 2 * MOST / 3..]);
    format!("{}\n[..]\n{}", first.join("\n"), last.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = r#"=== release 6.1.0-50-cloud-amd64
=== capabilities
{"name":"kfree_skb","gives":"drops","missing":null}
{"name":"sock_send_length","gives":"sends","missing":"too old"}
=== ended 0
=== tests

running 3 tests
test host::works  ... ok
test host::cannot ... ignored (too old (by far))
test host::fails  ... FAILED

failures:

---- host::fails ----
left: 1
test host::works ... FAILED


failures:
    host::fails

test result: FAILED. 1 passed; 1 failed; 1 ignored
=== ended 101
=== socket tests

running 1 test
test host::works  ... ok
=== ended 0
"#;

    #[test]
    fn a_run_is_read_as_it_was_printed() {
        let outcome = Outcome::parse(&PRINTED.replace('\n', "\r\n"));
        assert_eq!(outcome.release, "6.1.0-50-cloud-amd64");
        assert_eq!(outcome.missing("kfree_skb"), None);
        assert_eq!(outcome.missing("sock_send_length"), Some("too old"));
        assert!(outcome.missing("no_such").is_some());
        assert_eq!(outcome.tests["host::works"], Verdict::Passed);
        assert_eq!(outcome.tests["socket::host::works"], Verdict::Passed);
        let why = "too old (by far)".to_owned();
        assert_eq!(outcome.tests["host::cannot"], Verdict::Skipped(why));
        let failed: Vec<_> = outcome.failed().collect();
        assert_eq!(failed.len(), 1);
        assert!(failed[0].1.contains("left: 1"), "{failed:?}");
        assert_eq!(outcome.faults, [""; 0]);
    }

    #[test]
    fn a_lockdown_must_be_named_in_one_line() {
        let printed = |lines| format!("{RELEASE} 6.12.95\n{CAPABILITIES}\n{lines}\n{ENDED} 1\n");
        let named = Outcome::of_lockdown(&printed("boot with lockdown=integrity"));
        assert_eq!((named.release.as_str(), named.faults.len()), ("6.12.95", 0));
        let log = Outcome::of_lockdown(&printed("0: R1=ctx()\n1: lockdown=integrity"));
        assert_eq!(log.faults.len(), 1);
    }

    #[test]
    fn a_run_that_breaks_off_is_no_success() {
        let cut = "test host::fails  ...";
        let end = PRINTED.find(cut).unwrap() + cut.len();
        let outcome = Outcome::parse(&PRINTED[..end]);
        assert_eq!(outcome.failed().count(), 1);
        let faults = ["=== tests did not end", "not all programs were run"];
        assert_eq!(outcome.faults, faults);
        assert_eq!(Outcome::parse("").faults.len(), 1);
    }

    #[test]
    fn a_program_that_fails_without_a_failed_test_is_a_fault() {
        let printed = PRINTED.replacen("=== ended 0", "no probes\n=== ended 1", 1);
        let outcome = Outcome::parse(&printed);
        assert_eq!(outcome.faults, ["=== capabilities ended with 1: no probes"]);
    }
}
