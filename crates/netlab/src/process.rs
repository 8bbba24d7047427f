use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::{
    memfd::{MFdFlags, memfd_create},
    prctl,
    signal::Signal,
};

use crate::{
    error::Error,
    namespace::{Namespace, start_error},
};

/// How often the state of a child is polled.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// A program in a namespace. It is killed when this is dropped, and by the kernel if this process
/// is killed.
#[derive(Debug)]
pub struct Process {
    command: String,
    /// What it wrote. Files and not pipes, so that it never has to wait for us.
    stdout: File,
    stderr: File,
    /// Dropped to have the child killed.
    keep: Option<mpsc::Sender<()>>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// The thread ends with the child.
    Kept(JoinHandle<io::Result<ExitStatus>>),
    Ended(ExitStatus),
    /// How it ended is not known.
    Lost,
}

impl Process {
    /// Starts a program inside `namespace`. `arguments` are separated by spaces; none may hold
    /// one.
    ///
    /// # Errors
    ///
    /// [`Error::CommandStart`] when there is no such program or it may not be run.
    pub fn start(namespace: &Namespace, program: &str, arguments: &str) -> Result<Self, Error> {
        let system = |e| Error::system("prepare to run a program", e, "free some memory");
        let output = || -> Result<File, Error> {
            let file = memfd_create(c"netlab-output", MFdFlags::MFD_CLOEXEC);
            Ok(file.map_err(|e| system(e.into()))?.into())
        };
        let (stdout, stderr) = (output()?, output()?);
        let mut child = namespace.command(program);
        child
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().map_err(system)?)
            .stderr(stderr.try_clone().map_err(system)?);
        let command = format!("{program} {arguments}");
        let (keep, released) = mpsc::channel();
        let keeper = spawn_kept(child, released)
            .map_err(system)?
            .map_err(|e| start_error(command.clone(), e))?;
        Ok(Self {
            command,
            stdout,
            stderr,
            keep: Some(keep),
            state: Mutex::new(State::Kept(keeper)),
        })
    }

    /// The program and its arguments.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Whether it has ended, well or not.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Kept(keeper) => keeper.is_finished(),
            State::Ended(_) | State::Lost => true,
        }
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when that cannot be known.
    pub fn status(&self) -> Result<Option<ExitStatus>, Error> {
        if !self.has_ended() {
            return Ok(None);
        }
        let lost = |e| {
            let action = format!("wait for `{}`", self.command);
            Error::system(action, e, "leave SIGCHLD alone in this process")
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Lost) {
            State::Kept(keeper) => {
                let ended = keeper.join();
                let status = ended.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
                let status = status.map_err(lost)?;
                *state = State::Ended(status);
                Ok(Some(status))
            }
            State::Ended(status) => {
                *state = State::Ended(status);
                Ok(Some(status))
            }
            State::Lost => Err(lost(io::ErrorKind::Other.into())),
        }
    }

    /// What it wrote to standard output so far.
    ///
    /// # Errors
    ///
    /// [`Error::Unreadable`] when it is no text.
    pub fn output(&self) -> Result<String, Error> {
        self.read(&self.stdout)
    }

    /// What it wrote to standard error so far or, if that is nothing, to standard output.
    ///
    /// # Errors
    ///
    /// [`Error::Unreadable`] when it is no text.
    pub fn complaint(&self) -> Result<String, Error> {
        let said = self.read(&self.stderr)?;
        if said.trim().is_empty() {
            return self.output();
        }
        Ok(said)
    }

    fn read(&self, file: &File) -> Result<String, Error> {
        // Opened anew, for an offset of our own: the child writes at that of `file`.
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        std::fs::read_to_string(again).map_err(|e| Error::unreadable(&self.command, e))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.keep.take());
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let State::Kept(keeper) = std::mem::replace(state, State::Lost) {
            // The exit status of a child that was dropped does not matter.
            let _ = keeper.join();
        }
    }
}

/// Starts a child and a thread that waits for it, and kills it when `released` closes first. The
/// outer error is the thread's, the inner the child's.
fn spawn_kept(
    mut command: Command,
    released: mpsc::Receiver<()>,
) -> io::Result<io::Result<JoinHandle<io::Result<ExitStatus>>>> {
    // The kernel counts the end of the thread that made the child as the parent's death: so this
    // thread must stay as long as the child.
    let die_with_parent = || prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from);
    // SAFETY: between fork and exec the closure makes one system call, prctl, and neither
    // allocates nor takes a lock.
    unsafe { command.pre_exec(die_with_parent) };
    let (spawned, started) = mpsc::channel();
    let keeper = thread::Builder::new()
        .name("netlab-process".to_owned())
        .spawn(move || {
            let result = command.spawn();
            // Closes what of the output it still holds.
            drop(command);
            match result {
                Ok(child) => {
                    let _ = spawned.send(Ok(()));
                    keep_child(child, &released)
                }
                Err(e) => {
                    let kind = e.kind();
                    let _ = spawned.send(Err(e));
                    Err(kind.into())
                }
            }
        })?;
    let started = started.recv();
    Ok(started
        .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
        .map(|()| keeper))
}

fn keep_child(mut child: Child, released: &mpsc::Receiver<()>) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if released.recv_timeout(POLL) == Err(RecvTimeoutError::Disconnected) {
            child.kill()?;
            return child.wait();
        }
    }
}
