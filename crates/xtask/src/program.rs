//! Another program of this workspace, in the place of this one.

use std::path::Path;

use anyhow::Result;

/// Becomes cargo, which builds the package's program optimised, and becomes that: one process to wait
/// for or to stop.
#[cfg(unix)]
pub(crate) fn become_program(
    workspace: &Path,
    package: &str,
    arguments: &[String],
    environment: &[(&str, &str)],
) -> Result<()> {
    use std::os::unix::process::CommandExt;

    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let failed = std::process::Command::new(cargo)
        .args(["run", "--release", "--quiet", "--locked", "--package"])
        .arg(package)
        .arg("--manifest-path")
        .arg(workspace.join("Cargo.toml"))
        .arg("--")
        .args(arguments)
        .envs(environment.iter().copied())
        .exec();
    Err(anyhow::Error::from(failed).context("cannot start cargo"))
}

/// There are no namespaces elsewhere.
#[cfg(not(unix))]
pub(crate) fn become_program(
    _: &Path,
    package: &str,
    _: &[String],
    _: &[(&str, &str)],
) -> Result<()> {
    anyhow::bail!("{package} needs Linux: it is made of network namespaces and probes")
}
