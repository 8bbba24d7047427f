//! The soak test, a program of its own: it is built on the crate that embeds the probes.

use std::path::Path;

use anyhow::Result;
use clap::Args;

use crate::program::become_program;

/// What to tell the soak test; it understands it by itself.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Large buffers are given back to the kernel when they are freed (`mallopt(3)`): by default, glibc
/// raises the threshold as they come and go, and keeps hundreds of megabytes that nobody uses, so
/// that resident memory says nothing.
const ALLOCATOR: [(&str, &str); 2] = [
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("MALLOC_ARENA_MAX", "2"),
];

/// Builds it and becomes it.
pub(crate) fn run(workspace: &Path, options: &Options) -> Result<()> {
    become_program(workspace, "soak", &options.arguments, &ALLOCATOR)
}
