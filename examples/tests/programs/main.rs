//! The programs as their users run them: as processes, with options, signals and pipes.
#![cfg(target_os = "linux")]

mod arguments;
mod loopback;
mod path;
mod process;
mod report;
mod server;
mod written;
