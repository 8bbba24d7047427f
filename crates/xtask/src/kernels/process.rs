//! Starting other programs: with words on how to get them, and with an end.

use std::env;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Programs that are needed to boot a kernel, and Debian's packages that have them.
const TOOLS: [(&str, &str); 9] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("apt-get", "apt"),
    ("apt-cache", "apt"),
    ("dpkg-deb", "dpkg"),
    ("xz", "xz-utils"),
    ("ldd", "libc-bin"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
];

/// Fails with everything that is missing, and how to get it.
pub(super) fn require_tools() -> Result<()> {
    let missing: Vec<_> = TOOLS
        .iter()
        .filter(|(tool, _)| find(tool).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let tools: Vec<_> = missing.iter().map(|(tool, _)| *tool).collect();
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    bail!(
        "booting kernels needs {}: on Debian, `apt-get install --no-install-recommends {}`",
        tools.join(", "),
        packages.join(" ")
    )
}

/// Where a program is: in the search path, or where only root's search path leads.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let root = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(root)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// Runs a program to its end; what it prints to standard output is the answer.
pub(super) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let tool = command.get_program().display().to_string();
    let output = command
        .output()
        .map_err(|error| not_started(&tool, error))?;
    ensure!(
        output.status.success(),
        "{tool}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output.stdout)
}

/// As [`output`], for text.
pub(super) fn text(command: &mut Command) -> Result<String> {
    let tool = command.get_program().display().to_string();
    String::from_utf8(output(command)?).with_context(|| format!("reading what {tool} printed"))
}

fn not_started(tool: &str, error: std::io::Error) -> anyhow::Error {
    let hint = TOOLS
        .iter()
        .find(|(name, _)| error.kind() == ErrorKind::NotFound && *name == tool)
        .map_or_else(String::new, |(_, package)| {
            format!(" (on Debian, `apt-get install {package}`)")
        });
    anyhow::Error::new(error).context(format!("starting {tool}{hint}"))
}

/// Runs a program that may hang: `None` when it had to be killed.
pub(super) fn run_for(command: &mut Command, limit: Duration) -> Result<Option<ExitStatus>> {
    run_watched(command, limit, || Ok(()))
}

/// As [`run_for`], and calls `meanwhile` every now and then.
pub(super) fn run_watched(
    command: &mut Command,
    limit: Duration,
    mut meanwhile: impl FnMut() -> Result<()>,
) -> Result<Option<ExitStatus>> {
    let tool = command.get_program().display().to_string();
    let child = command.spawn().map_err(|error| not_started(&tool, error))?;
    let mut child = Killed(child);
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.0.try_wait()? {
            return Ok(Some(status));
        }
        meanwhile()?;
        thread::sleep(Duration::from_millis(50));
    }
    Ok(None)
}

/// A process that ends with this value at the latest.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads a file, and names it if that fails.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_killed() {
        let start = Instant::now();
        let ended = run_for(Command::new("sleep").arg("60"), Duration::from_millis(100));
        assert_eq!(ended.unwrap(), None);
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_failing_programs_output_is_reported() {
        let error = output(Command::new("sh").args(["-c", "echo because >&2; exit 3"]));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("because"), "{error}");
    }
}
