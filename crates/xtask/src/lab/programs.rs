//! The examples: the ends of every connection in the lab.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The programs, built.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) client: String,
    pub(super) server: String,
}

impl Programs {
    /// Builds them as this program was built: in release by `cargo xtask lab`.
    pub(super) fn build(workspace: &Path) -> Result<Self> {
        let own = env::current_exe().context("finding this program's file")?;
        let profile = own.parent().context("this program lies in no directory")?;
        let target = profile.parent().context("target/PROFILE/xtask")?;
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir(workspace)
            .args(["build", "--quiet", "--locked", "--package=examples"])
            .args(["--example=client", "--example=server", "--target-dir"])
            .arg(target)
            .stdin(Stdio::null());
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let status = cargo.status().context("starting cargo")?;
        ensure!(status.success(), "building the examples: {status}");
        Self::within(&profile.join("examples"))
    }

    /// What a directory has.
    pub(super) fn within(directory: &Path) -> Result<Self> {
        let program = |name: &str| {
            let program: PathBuf = directory.join(name);
            ensure!(program.exists(), "there is no {}", program.display());
            let text = program.into_os_string().into_string();
            text.map_err(|path| anyhow::anyhow!("{} is no text", path.display()))
        };
        Ok(Self {
            client: program("client")?,
            server: program("server")?,
        })
    }
}
