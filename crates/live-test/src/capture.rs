//! What a test and its children print, kept back until it is known whether the test fails.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::{dup2_stderr, dup2_stdout};

/// Standard output and error lead to a file until this ends.
pub(crate) struct Capture {
    file: File,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Capture {
    pub(crate) fn start() -> Self {
        flush();
        let kept = |fd: &dyn AsFd| {
            fd.as_fd()
                .try_clone_to_owned()
                .expect("a descriptor is free")
        };
        let capture = Self {
            file: file(),
            stdout: kept(&io::stdout()),
            stderr: kept(&io::stderr()),
        };
        redirect(&capture.file, &capture.file);
        capture
    }

    /// Restores both; what was printed meanwhile.
    pub(crate) fn end(mut self) -> String {
        flush();
        redirect(&self.stdout, &self.stderr);
        let mut printed = Vec::new();
        let read = self
            .file
            .rewind()
            .and_then(|()| self.file.read_to_end(&mut printed));
        read.expect("an own file can be read");
        String::from_utf8_lossy(&printed).into_owned()
    }
}

fn redirect(stdout: impl AsFd, stderr: impl AsFd) {
    dup2_stdout(stdout).expect("standard output can be redirected");
    dup2_stderr(stderr).expect("standard error can be redirected");
}

/// Into wherever standard output leads now.
fn flush() {
    // If standard output is closed, nothing is lost.
    let _ = io::stdout().flush();
}

/// A file that no other program sees, and that is gone when it is closed.
fn file() -> File {
    let file =
        nix::sys::memfd::memfd_create(c"test-output", nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
    file.expect("there is memory for it").into()
}
