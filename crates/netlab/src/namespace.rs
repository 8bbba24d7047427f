use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    panic,
    process::Command,
    sync::Arc,
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Error, NEEDS_ROOT};

/// A network namespace made and owned by this process.
///
/// It has no name in the file system; it lives as long as something refers to it: this value, a
/// [`Command`] or child made by [`Namespace::command`], or a socket opened inside. When the
/// process is killed it goes with the process.
#[derive(Debug)]
pub struct Namespace {
    fd: Arc<OwnedFd>,
}

impl Namespace {
    /// Makes a namespace with nothing in it but a loopback device that is up.
    ///
    /// # Errors
    ///
    /// [`Error::System`] without the privilege to make namespaces, and the command errors when
    /// `ip` is missing or fails.
    pub fn new() -> Result<Self, Error> {
        let fd = on_own_thread("netlab-unshare", || {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|e| Error::system("make a network namespace", e, NEEDS_ROOT))?;
            // Not /proc/self: that is the main thread, which stays where it was.
            File::open("/proc/thread-self/ns/net").map_err(|e| {
                Error::system(
                    "open /proc/thread-self/ns/net",
                    e,
                    "mount procfs under /proc",
                )
            })
        })??;
        let namespace = Self {
            fd: Arc::new(fd.into()),
        };
        namespace.execute("ip", "link set dev lo up")?;
        Ok(namespace)
    }

    /// Runs `f` on a thread of its own inside this namespace and waits for it.
    ///
    /// Sockets opened by `f` stay in the namespace and may be used from anywhere. The calling
    /// thread does not move. `f` should finish what it starts: a thread that it spawns also
    /// begins inside.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when no thread could be started or it could not enter.
    ///
    /// # Panics
    ///
    /// When `f` does, with the same payload.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, Error> {
        on_own_thread("netlab-run", || {
            self.enter()?;
            Ok(f())
        })?
    }

    /// Moves the calling thread into this namespace, for good.
    ///
    /// For threads that work there all their life, such as the workers of an async runtime (from
    /// its hook for a thread's start). Everything else wants [`Namespace::run`].
    ///
    /// # Errors
    ///
    /// [`Error::System`] without the privilege to enter.
    pub fn enter(&self) -> Result<(), Error> {
        setns(&*self.fd, CloneFlags::CLONE_NEWNET)
            .map_err(|e| Error::system("enter a network namespace", e, NEEDS_ROOT))
    }

    /// A command that will run inside this namespace.
    ///
    /// Only the network is another one: file systems are the caller's, so what stands under
    /// /sys/class/net is the caller's too. The command holds the namespace open until dropped.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let fd = Arc::clone(&self.fd);
        let mut command = Command::new(program);
        let enter = move || setns(&*fd, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
        // SAFETY: between fork and exec the closure makes one system call, setns, and neither
        // allocates nor takes a lock; the descriptor is owned by the closure and so still open.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs a program inside to its end and returns what it wrote to standard output.
    /// `arguments` are separated by spaces; none may hold one.
    pub(crate) fn execute(&self, program: &str, arguments: &str) -> Result<String, Error> {
        let mut command = self.command(program);
        command.args(arguments.split_whitespace());
        let shown = || format!("{program} {arguments}");
        let output = command.output().map_err(|e| start_error(shown(), e))?;
        if !output.status.success() {
            return Err(Error::CommandFailed {
                command: shown(),
                status: output.status,
                stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                advice: NEEDS_ROOT,
            });
        }
        String::from_utf8(output.stdout).map_err(|e| Error::unreadable(shown(), e))
    }

    /// A path by which any process of this user finds the namespace while this value lives.
    pub(crate) fn proc_path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd())
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The error for a program that did not start, with advice by its kind.
pub(crate) fn start_error(command: String, source: io::Error) -> Error {
    let advice = match (source.kind(), command.split(' ').next()) {
        (io::ErrorKind::NotFound, Some("ip" | "tc" | "ss")) => {
            "install iproute2 (Debian: apt-get install iproute2)"
        }
        (io::ErrorKind::NotFound, Some("iperf3")) => {
            "install iperf3 (Debian: apt-get install iperf3)"
        }
        (io::ErrorKind::NotFound, _) => "install the program",
        _ => NEEDS_ROOT,
    };
    Error::CommandStart {
        command,
        source,
        advice,
    }
}

fn on_own_thread<T: Send>(name: &str, f: impl FnOnce() -> T + Send) -> Result<T, Error> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn_scoped(scope, f)
            .map_err(|e| Error::system("start a thread", e, "raise the limit on threads"))?;
        thread
            .join()
            .or_else(|payload| panic::resume_unwind(payload))
    })
}
