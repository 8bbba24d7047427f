//! Why a host could not be validated.

use std::io;

use ebpf_congestion_signals::LoadError;
use thiserror::Error;

/// Each message says what to do about it.
#[derive(Debug, Error)]
pub(crate) enum ValidateError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("cannot start the program's runtime: are there too many open files?")]
    Runtime(#[source] io::Error),
    #[error("cannot read {file}: procfs must be mounted at /proc")]
    Proc {
        file: String,
        #[source]
        source: io::Error,
    },
    #[error("{file} does not read as expected: {line:?}")]
    Unreadable { file: String, line: String },
    #[error("the processor time of process {process} cannot be read: has it ended?")]
    Clock {
        process: u32,
        #[source]
        source: io::Error,
    },
    #[error("the kernel's accounting of the programs cannot be read")]
    Costs(#[source] io::Error),
    #[error(
        "there is no iperf3 here: install it (Debian, Ubuntu: apt-get install iperf3; Fedora: dnf \
         install iperf3), or load the network yourself and use --load none"
    )]
    NoIperf3,
    #[error("iperf3 cannot be started")]
    Iperf3Start(#[source] io::Error),
    #[error("iperf3's {role} ended too early: {said}")]
    Iperf3Ended { role: &'static str, said: String },
    #[error("iperf3's {role} did not get going within {seconds} s: is the host very busy?")]
    Iperf3Slow { role: &'static str, seconds: u64 },
    #[error("the report cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// An error with its causes in one line.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
