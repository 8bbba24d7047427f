//! The tools that build the probes: where they are, whether they fit together, what is missing.
//!
//! The object is a function of the sources and of these tools, so their versions are part of what
//! `cargo xtask bpf --check` checks; the object carries them in its section `.comment`.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target of the probes: little-endian BPF, which x86_64 and arm64 kernels run alike.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// LLVM's major version. rustc writes bitcode that the linker reads, so both must be of one LLVM.
const LLVM: &str = "22";

const BPF_LINKER: &str = "0.13.0";

/// Overrides the compiler, whose directory must then hold its cargo too.
const RUSTC_VARIABLE: &str = "BPF_RUSTC";

/// Where Debian's packages put the compiler.
const RUSTC_DEFAULT: &str = "/usr/bin/rustc";

/// A complete set of tools.
pub(crate) struct Toolchain {
    pub(crate) rustc: PathBuf,
    pub(crate) cargo: PathBuf,
    pub(crate) linker: PathBuf,
    pub(crate) objcopy: PathBuf,
    rustc_release: String,
    linker_version: String,
}

/// What a [`Toolchain`] lacks, and how to mend it.
#[derive(Debug, Default)]
pub(crate) struct Incomplete {
    problems: Vec<String>,
    packages: bool,
    linker: bool,
}

impl Toolchain {
    /// Looks for every tool; the error lists all that are missing.
    pub(crate) fn find() -> Result<Self, Incomplete> {
        let mut incomplete = Incomplete::default();
        let rustc = env::var_os(RUSTC_VARIABLE).map_or_else(|| RUSTC_DEFAULT.into(), PathBuf::from);
        let cargo = rustc.with_file_name("cargo");

        let rustc_release = match output(&rustc, &["-vV"]) {
            Ok(text) => incomplete.compiler(&rustc, &text),
            Err(reason) => {
                incomplete.package(format!("no Rust compiler for BPF: {reason}"));
                None
            }
        };
        if let Err(reason) = output(&cargo, &["-V"]) {
            incomplete.package(format!("no cargo beside {}: {reason}", rustc.display()));
        }
        let objcopy = find_objcopy();
        if objcopy.is_none() {
            incomplete.package(format!("no llvm-objcopy of LLVM {LLVM}"));
        }
        let linker = find_linker();
        let linker_version = match &linker {
            None => {
                incomplete.linker(format!("no bpf-linker {BPF_LINKER}"));
                None
            }
            Some(path) => incomplete.linker_version(path),
        };

        match (rustc_release, objcopy, linker, linker_version) {
            (Some(rustc_release), Some(objcopy), Some(linker), Some(linker_version))
                if incomplete.problems.is_empty() =>
            {
                Ok(Self {
                    rustc,
                    cargo,
                    linker,
                    objcopy,
                    rustc_release,
                    linker_version,
                })
            }
            _ => Err(incomplete),
        }
    }

    /// A tool that comes with the compiler.
    pub(crate) fn beside_rustc(&self, tool: &str) -> PathBuf {
        self.rustc.with_file_name(tool)
    }

    /// The versions that decide what the object's bytes are.
    pub(crate) fn versions(&self) -> String {
        format!(
            "rustc {}, LLVM {LLVM}, bpf-linker {}",
            self.rustc_release, self.linker_version
        )
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.versions())?;
        let tools = [&self.rustc, &self.cargo, &self.linker, &self.objcopy];
        let paths: Vec<_> = tools.map(|tool| tool.display().to_string()).into();
        write!(f, "{}", paths.join("\n"))
    }
}

impl Incomplete {
    fn package(&mut self, problem: String) {
        self.packages = true;
        self.problems.push(problem);
    }

    fn linker(&mut self, problem: String) {
        self.linker = true;
        self.problems.push(problem);
    }

    /// Takes what `rustc -vV` printed; returns the release if the compiler can build the probes.
    fn compiler(&mut self, rustc: &Path, version: &str) -> Option<String> {
        let shown = rustc.display();
        let release = field(version, "release");
        let llvm = field(version, "LLVM version");
        let (Some(release), Some(llvm)) = (release, llvm) else {
            self.package(format!("{shown} -vV names no release or no LLVM version"));
            return None;
        };
        if llvm.split('.').next() != Some(LLVM) {
            self.package(format!(
                "{shown} is rustc {release} with LLVM {llvm}: LLVM {LLVM} is needed, as in bpf-linker \
                 (another compiler can be named in {RUSTC_VARIABLE})"
            ));
            return None;
        }
        if !has_core(rustc) {
            self.package(format!("{shown} has no `core` for {TARGET}"));
        }
        // Lines of `core` that the probes inline are quoted in the object, for the verifier's log.
        if !has_sources(rustc) {
            self.package(format!("{shown} has no sources of its standard library"));
        }
        Some(release.to_owned())
    }

    fn linker_version(&mut self, linker: &Path) -> Option<String> {
        let shown = linker.display();
        let text = match output(linker, &["--version"]) {
            Ok(text) => text,
            Err(reason) => {
                // Of another LLVM, or without LLVM's libraries, it does not even start.
                self.packages = true;
                self.linker(format!("bpf-linker does not run: {reason}"));
                return None;
            }
        };
        let version = text.split_whitespace().nth(1).unwrap_or_default();
        if version != BPF_LINKER {
            self.linker(format!("{shown} is {version}, not {BPF_LINKER}"));
            return None;
        }
        Some(version.to_owned())
    }

    /// Shell commands that install what is missing; empty if it can't be had so.
    pub(crate) fn install_commands(&self) -> String {
        let mut commands = String::new();
        if self.packages {
            commands += "apt-get install -y --no-install-recommends rustc-web cargo-web \
                         rust-web-src libstd-rust-web-dev-bpf llvm-22 llvm-22-dev \
                         libpolly-22-dev libzstd-dev zlib1g-dev g++\n";
        }
        if self.linker {
            commands += &format!(
                "LLVM_PREFIX=/usr/lib/llvm-{LLVM} cargo install bpf-linker@{BPF_LINKER} --locked \
                 --force --no-default-features --features llvm-{LLVM}\n"
            );
        }
        commands
    }
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the toolchain of the probes is not complete:")?;
        for problem in &self.problems {
            writeln!(f, "  - {problem}")?;
        }
        writeln!(f, "on Debian, as root:")?;
        for command in self.install_commands().lines() {
            writeln!(f, "    {command}")?;
        }
        write!(
            f,
            "Only who changes the probes needs it: everything else builds from the committed object."
        )
    }
}

impl std::error::Error for Incomplete {}

fn has_core(rustc: &Path) -> bool {
    let Ok(directory) = output(rustc, &["--target", TARGET, "--print", "target-libdir"]) else {
        return false;
    };
    let Ok(entries) = Path::new(directory.trim()).read_dir() else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

fn has_sources(rustc: &Path) -> bool {
    output(rustc, &["--print", "sysroot"]).is_ok_and(|sysroot| {
        Path::new(sysroot.trim())
            .join("lib/rustlib/src/rust/library/core/src/lib.rs")
            .exists()
    })
}

fn find_linker() -> Option<PathBuf> {
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let beside_cargo = cargo_home.map(|home| home.join("bin"));
    in_path("bpf-linker").or_else(|| existing(beside_cargo?.join("bpf-linker")))
}

fn find_objcopy() -> Option<PathBuf> {
    in_path(&format!("llvm-objcopy-{LLVM}"))
        .or_else(|| existing(format!("/usr/lib/llvm-{LLVM}/bin/llvm-objcopy").into()))
}

fn in_path(tool: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).find_map(|directory| existing(directory.join(tool)))
}

fn existing(path: PathBuf) -> Option<PathBuf> {
    path.is_file().then_some(path)
}

/// What `tool` prints, or why it cannot be run.
fn output(tool: impl AsRef<OsStr>, args: &[&str]) -> Result<String, String> {
    let tool = tool.as_ref();
    let mut command = Command::new(tool);
    without_outer_build(&mut command);
    let output = command
        .args(args)
        .output()
        .map_err(|error| format!("{}: {error}", tool.display()))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let first = stderr.lines().next().unwrap_or_default();
        return Err(format!("{}: {}: {first}", tool.display(), output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Removes what a cargo or rustup around this program has set for its own build, and what would
/// make the object depend on the caller's environment. How packages are fetched stays.
pub(crate) fn without_outer_build(command: &mut Command) {
    const KEPT: [&str; 8] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "RUSTUP_HOME",
    ];
    const REMOVED: [&str; 6] = [
        "CARGO",
        "RUST",
        "AYA_",
        "LD_LIBRARY_PATH",
        "SOURCE_DATE_EPOCH",
        "DEBUG",
    ];
    for (variable, _) in env::vars_os() {
        let name = variable.to_string_lossy();
        let starts = |prefix: &&str| name.starts_with(*prefix);
        if REMOVED.iter().any(starts) && !KEPT.iter().any(starts) {
            command.env_remove(&variable);
        }
    }
}

fn field<'a>(version: &'a str, name: &str) -> Option<&'a str> {
    version
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: &str = "rustc 1.96.0 (0 2026-05-25)\nrelease: 1.96.0\nLLVM version: 22.1.8\n";

    #[test]
    fn the_compilers_versions_are_read_from_its_own_words() {
        assert_eq!(field(VERSION, "release"), Some("1.96.0"));
        assert_eq!(field(VERSION, "LLVM version"), Some("22.1.8"));
        assert_eq!(field(VERSION, "host"), None);
    }

    #[test]
    fn a_compiler_of_another_llvm_is_refused_by_both_versions() {
        let mut incomplete = Incomplete::default();
        let version = VERSION.replace("22.1.8", "21.1.0");
        let release = incomplete.compiler(Path::new("/nowhere/rustc"), &version);
        assert_eq!(release, None);
        let text = incomplete.to_string();
        assert!(text.contains("LLVM 21.1.0: LLVM 22 is needed"), "{text}");
        assert!(text.contains("apt-get install"), "{text}");
        assert!(!text.contains("cargo install"), "{text}");
    }

    #[test]
    fn a_missing_linker_asks_for_the_linker_alone() {
        let mut incomplete = Incomplete::default();
        incomplete.linker("no bpf-linker".to_owned());
        let commands = incomplete.install_commands();
        assert!(commands.contains("cargo install bpf-linker@0.13.0 --locked"));
        assert!(!commands.contains("apt-get"));
    }
}
