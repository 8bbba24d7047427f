//! The programs that run on each kernel, built static so that they need nothing there.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const TARGET: &str = "x86_64-unknown-linux-gnu";

const CRATE: &str = "ebpf-congestion-signals";

/// What runs on each kernel.
pub(super) struct Programs {
    /// Prints what the probes can tell.
    pub(super) capabilities: PathBuf,
    /// The tests of the probes.
    pub(super) live: PathBuf,
    /// The tests of the source without privilege.
    pub(super) socket: PathBuf,
}

impl Programs {
    pub(super) fn build(workspace: &Path, directory: &Path) -> Result<Self> {
        let target_directory = directory.join("build");
        let build = |what: &[&str], name: &str| {
            let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo
                .current_dir(workspace)
                .args(what)
                .args(["--locked", "--package", CRATE, "--target", TARGET])
                .args(optimised())
                .arg("--message-format=json-render-diagnostics")
                .env("CARGO_TARGET_DIR", &target_directory)
                // Flags set so would win over the variable below.
                .env_remove("CARGO_ENCODED_RUSTFLAGS")
                .env("RUSTFLAGS", "-C target-feature=+crt-static")
                .stderr(Stdio::inherit());
            let output = cargo.output().context("starting cargo")?;
            ensure!(
                output.status.success(),
                "building {name}: {}",
                output.status
            );
            let messages = String::from_utf8(output.stdout).context("reading what cargo wrote")?;
            executable(&messages, name)
                .with_context(|| format!("cargo built no program called {name}"))
        };
        Ok(Self {
            capabilities: build(&["build", "--example=capabilities"], "capabilities")?,
            live: build(&["test", "--test=live", "--no-run"], "live")?,
            socket: build(&["test", "--test=socket", "--no-run"], "socket")?,
        })
    }
}

/// Emulated, reading a kernel's types takes long enough when optimised.
fn optimised() -> impl Iterator<Item = String> {
    [CRATE, "aya", "aya-obj"]
        .into_iter()
        .map(|package| format!("--config=profile.dev.package.{package}.opt-level=2"))
}

/// The program of a target among cargo's messages.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let mut messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages.find_map(|message| {
        let executable = message["executable"].as_str()?;
        (message["target"]["name"] == name).then(|| executable.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_its_name() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"live"},"executable":null}
not of cargo
{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/t/other"}
{"reason":"compiler-artifact","target":{"name":"live"},"executable":"/t/live-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "live"), Some("/t/live-1".into()));
        assert_eq!(executable(messages, "another"), None);
    }
}
