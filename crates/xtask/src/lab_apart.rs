//! The lab, where this program was built without it: for speed, and so that the probes can be
//! built when the crate that embeds them cannot.

use std::path::Path;

use anyhow::Result;
use clap::Args;

use crate::program::become_program;

/// Arguments of the lab, which parses them itself.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Becomes this program again, with the lab.
pub(crate) fn run(workspace: &Path, options: &Options) -> Result<()> {
    let mut arguments = vec!["lab".to_owned()];
    arguments.extend_from_slice(&options.arguments);
    become_program(workspace, "xtask", &arguments, &[])
}
