//! Unit tests under checkers of memory accesses: valgrind's memcheck, and Miri.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

/// The crate that has `unsafe` code.
const PACKAGE: &str = "ebpf-congestion-signals";

/// Which tests to run.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Parts of names of unit tests; by default, of those that reach `unsafe` code
    tests: Vec<String>,
}

/// What memcheck runs by default.
const UNDER_MEMCHECK: [&str; 3] = ["ebpf::", "socket::", "recording::"];

/// `procfs` reads the number of clock ticks a second from the auxiliary vector, which differs under
/// valgrind.
const NOT_UNDER_MEMCHECK: &str = "the_running_kernel_has_the_hosts_counters";

/// Runs unit tests under memcheck. Fails for an invalid access, for a use of uninitialised memory
/// (also in arguments of system calls), and for leaked memory.
pub(crate) fn memcheck(workspace: &Path, options: &Options) -> Result<()> {
    let program = unit_tests(workspace)?;
    let status = Command::new("valgrind")
        .args(["--quiet", "--error-exitcode=9"])
        .args(["--leak-check=full", "--show-leak-kinds=definite"])
        .arg("--errors-for-leak-kinds=definite")
        .arg(program)
        .args(["--test-threads", "1", "--skip", NOT_UNDER_MEMCHECK])
        .args(chosen(&options.tests, &UNDER_MEMCHECK))
        .status()
        .context("cannot start valgrind: install it (Debian: apt-get install valgrind)")?;
    ensure!(status.success(), "memcheck found errors, or a test failed");
    Ok(())
}

/// What Miri runs by default: tests that reach `unsafe` code without a system call that Miri lacks.
const UNDER_MIRI: [&str; 4] = [
    "ebpf::memory_tests",
    "ebpf::mapped",
    "btf::excerpt",
    "sample::",
];

/// Miri has no sockets.
const NOT_UNDER_MIRI: &str = "every_slot_is_inside";

/// Runs unit tests in Miri, if a toolchain has it.
pub(crate) fn miri(workspace: &Path, options: &Options) -> Result<()> {
    if !has_miri() {
        println!(
            "skipped: no nightly toolchain here has Miri (rustup toolchain install nightly \
             --component miri --component rust-src)"
        );
        return Ok(());
    }
    let status = Command::new("cargo")
        .args(["+nightly", "miri", "test", "--locked", "--lib"])
        .args(["--package", PACKAGE, "--features", "testing"])
        .arg("--manifest-path")
        .arg(workspace.join("Cargo.toml"))
        .args(["--", "--skip", NOT_UNDER_MIRI])
        .args(chosen(&options.tests, &UNDER_MIRI))
        // Tests read the host's clock.
        .env("MIRIFLAGS", "-Zmiri-disable-isolation")
        .status()
        .context("cannot start cargo")?;
    ensure!(
        status.success(),
        "Miri found undefined behaviour, or a test failed"
    );
    Ok(())
}

/// Whether the nightly toolchain has Miri and the standard library's sources.
fn has_miri() -> bool {
    let nightly = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .arg("+nightly")
            .args(arguments)
            .output()
            .ok()?;
        output.status.success().then_some(output.stdout)
    };
    let sources = || {
        let root = String::from_utf8(nightly("rustc", &["--print", "sysroot"])?).ok()?;
        Some(Path::new(root.trim()).join("lib/rustlib/src/rust/library/Cargo.toml"))
    };
    nightly("cargo", &["miri", "--version"]).is_some()
        && sources().is_some_and(|path| path.is_file())
}

fn chosen(asked_for: &[String], default: &[&str]) -> Vec<OsString> {
    if asked_for.is_empty() {
        default.iter().map(OsString::from).collect()
    } else {
        asked_for.iter().map(OsString::from).collect()
    }
}

/// Builds the unit tests as `cargo test --workspace` does, and finds the program.
fn unit_tests(workspace: &Path) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--workspace", "--locked", "--no-run"])
        .arg("--message-format=json")
        .arg("--manifest-path")
        .arg(workspace.join("Cargo.toml"))
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    ensure!(output.status.success(), "the tests cannot be built");
    let messages = output.stdout.split(|byte| *byte == b'\n');
    for message in messages.filter_map(|line| serde_json::from_slice::<Value>(line).ok()) {
        let target = &message["target"];
        let is_library = target["kind"][0] == "lib" && target["name"] == PACKAGE.replace('-', "_");
        if is_library
            && message["profile"]["test"] == true
            && let Some(program) = message["executable"].as_str()
        {
            return Ok(program.into());
        }
    }
    bail!("cargo names no program of unit tests of {PACKAGE}")
}
