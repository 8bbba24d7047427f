use std::{io, process::ExitStatus};

/// What went wrong in setting a path up or in reading it, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused a call.
    #[error("cannot {action}: {source}; {advice}")]
    System {
        /// What was tried.
        action: String,
        /// What the system answered.
        source: io::Error,
        /// What to change so that it works.
        advice: &'static str,
    },
    /// A program could not be started.
    #[error("cannot start `{command}`: {source}; {advice}")]
    CommandStart {
        /// The program and its arguments.
        command: String,
        /// What the system answered.
        source: io::Error,
        /// What to change so that it works.
        advice: &'static str,
    },
    /// A program ran and failed.
    #[error("`{command}` failed ({status}): {stderr}; {advice}")]
    CommandFailed {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to standard error.
        stderr: String,
        /// What to change so that it works.
        advice: &'static str,
    },
    /// A program or a file under /proc said something this crate does not understand.
    #[error("cannot understand {origin}: {detail}")]
    Unreadable {
        /// The program with its arguments, or the file.
        origin: String,
        /// What was missing or wrong in it.
        detail: String,
    },
    /// A program did not get ready, or did not end, within the time it had.
    #[error("{what} took longer than {seconds} s")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// The time it had, in seconds.
        seconds: u64,
    },
    /// The configuration contradicts itself.
    #[error("the configuration cannot work: {0}")]
    Config(&'static str),
}

/// For calls that only root may make.
pub(crate) const NEEDS_ROOT: &str =
    "run as root, with the capabilities CAP_SYS_ADMIN and CAP_NET_ADMIN, or in a user namespace";

impl Error {
    pub(crate) fn system(
        action: impl Into<String>,
        source: impl Into<io::Error>,
        advice: &'static str,
    ) -> Self {
        Self::System {
            action: action.into(),
            source: source.into(),
            advice,
        }
    }

    pub(crate) fn unreadable(origin: impl Into<String>, detail: impl ToString) -> Self {
        Self::Unreadable {
            origin: origin.into(),
            detail: detail.to_string(),
        }
    }
}
