//! Programs of this package as child processes.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Where cargo put an example, from where it put this test.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its file");
    let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let program = profile.join("examples").join(name);
    assert!(
        program.exists(),
        "{} is not built: `cargo build -p examples --examples`, or run all tests of the package",
        program.display()
    );
    program
}

/// A command of an example.
pub(crate) fn command(name: &str, arguments: &str) -> Command {
    with(Command::new(program(name)), arguments)
}

/// Adds arguments, which are separated by spaces.
pub(crate) fn with(mut command: Command, arguments: &str) -> Command {
    command.args(arguments.split_whitespace().map(OsStr::new));
    command
}

/// Runs to the end.
pub(crate) fn run(command: Command) -> Ended {
    Running::start(command).end()
}

/// A program that runs; killed if it is dropped.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    read: String,
    stderr: Option<JoinHandle<String>>,
}

/// What a program left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut stderr = child.stderr.take().expect("it is piped");
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).expect("it is text");
            text
        });
        Self {
            stdout: BufReader::new(child.stdout.take().expect("it is piped")),
            child,
            read: String::new(),
            stderr: Some(stderr),
        }
    }

    /// Reads until a line holds `text`; that line.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let from = self.read.len();
            let length = self.stdout.read_line(&mut self.read).expect("it is text");
            let line = &self.read[from..];
            assert!(length > 0, "{text:?} was never printed: {}", self.read);
            if line.contains(text) {
                return line.trim_end().to_owned();
            }
        }
    }

    /// What Ctrl-C sends.
    pub(crate) fn interrupt(&self) {
        let id = i32::try_from(self.child.id()).expect("an id fits");
        kill(Pid::from_raw(id), Signal::SIGINT).expect("it runs");
    }

    pub(crate) fn end(mut self) -> Ended {
        self.stdout
            .read_to_string(&mut self.read)
            .expect("it is text");
        let stderr = self.stderr.take().expect("it is taken once").join();
        Ended {
            status: self.child.wait().expect("it is our child"),
            stdout: std::mem::take(&mut self.read),
            stderr: stderr.expect("the reader does not panic"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The object in the last line, of a program that succeeded.
    pub(crate) fn json(&self) -> Value {
        assert!(self.status.success(), "{self:?}");
        let last = self.stdout.lines().last().expect("it printed something");
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"))
    }

    /// What it said of a failure.
    pub(crate) fn complaint(&self) -> &str {
        assert!(!self.status.success(), "{self:?}");
        &self.stderr
    }
}
