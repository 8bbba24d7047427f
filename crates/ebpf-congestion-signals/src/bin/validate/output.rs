//! Where lines for people go.

use std::io::{self, Write};

/// Standard output; standard error where the former is for a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    for_machine: bool,
}

impl Output {
    pub(crate) fn new(for_machine: bool) -> Self {
        Self { for_machine }
    }

    /// A line for people. A closed standard output is no reason to stop.
    pub(crate) fn say(self, line: &str) {
        let _ = if self.for_machine {
            writeln!(io::stderr(), "{line}")
        } else {
            writeln!(io::stdout(), "{line}")
        };
    }

    /// The line for a machine, where one is asked for.
    pub(crate) fn object(self, json: &str) {
        if self.for_machine {
            let _ = writeln!(io::stdout(), "{json}");
        }
    }
}
