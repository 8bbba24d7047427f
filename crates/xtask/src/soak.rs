//! The soak test: a program of its own, because it depends on the crate that embeds the probes.

use std::path::Path;

use anyhow::Result;
use clap::Args;

use crate::program::become_program;

/// Arguments of the soak test, which parses them itself.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Makes glibc return large buffers to the kernel when they are freed (`mallopt(3)`). By default it
/// raises the threshold with each large buffer freed and keeps hundreds of megabytes, so that
/// resident memory would show no leak.
const ALLOCATOR: [(&str, &str); 2] = [
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("MALLOC_ARENA_MAX", "2"),
];

/// Builds it and becomes it.
pub(crate) fn run(workspace: &Path, options: &Options) -> Result<()> {
    become_program(workspace, "soak", &options.arguments, &ALLOCATOR)
}
