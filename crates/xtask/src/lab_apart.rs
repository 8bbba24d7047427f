//! The lab, where this program was built without it: for speed, and so that the probes can be
//! built when the crate that embeds them cannot.

use std::path::Path;

use anyhow::Result;
use clap::Args;

/// What to tell the lab; it understands it by itself.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Becomes cargo, which builds this program again, with the lab and optimised, and becomes that:
/// one process to wait for or to stop.
#[cfg(target_os = "linux")]
pub(crate) fn run(workspace: &Path, options: &Options) -> Result<()> {
    use std::os::unix::process::CommandExt;

    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let failed = std::process::Command::new(cargo)
        .args([
            "run",
            "--release",
            "--quiet",
            "--locked",
            "--package=xtask",
            "--manifest-path",
        ])
        .arg(workspace.join("Cargo.toml"))
        .args(["--", "lab"])
        .args(&options.arguments)
        .exec();
    Err(anyhow::Error::from(failed).context("cannot start cargo"))
}

/// There are no namespaces elsewhere.
#[cfg(not(target_os = "linux"))]
pub(crate) fn run(_: &Path, _: &Options) -> Result<()> {
    anyhow::bail!("the lab needs Linux: it is made of network namespaces and probes")
}
