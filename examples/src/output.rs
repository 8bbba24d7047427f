//! What the programs write to standard output.

use std::fmt;
use std::io::{self, ErrorKind, Write};

/// As `println!`; but when standard output is closed (`| head -3`), the program ends.
#[macro_export]
macro_rules! say {
    ($($what:tt)*) => {
        $crate::output::line(::core::format_args!($($what)*))
    };
}

/// Writes a line.
pub fn line(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    let written = out.write_fmt(text).and_then(|()| out.write_all(b"\n"));
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        // A full disk is no reason to break a transfer off.
        _ => {}
    }
}
