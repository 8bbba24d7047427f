use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    panic,
    process::Command,
    sync::Arc,
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};

use crate::{
    device::Device,
    error::{Error, NEEDS_ROOT},
    netlink::Netlink,
};

/// A network namespace made and owned by this process.
///
/// It has no name in the file system; it lives as long as something refers to it: this value, a
/// [`Command`] or child made by [`Namespace::command`], or a socket opened inside. When the
/// process is killed it goes with the process.
#[derive(Debug)]
pub struct Namespace {
    fd: Arc<OwnedFd>,
    netlink: Netlink,
}

impl Namespace {
    /// Makes a namespace with nothing in it but a loopback device that is up.
    ///
    /// # Errors
    ///
    /// [`Error::System`] without the privilege to make namespaces.
    pub fn new() -> Result<Self, Error> {
        let (fd, netlink) = on_own_thread("netlab-unshare", || {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|e| Error::system("make a network namespace", e, NEEDS_ROOT))?;
            // Not /proc/self: that is the main thread, which stays where it was.
            let file = "/proc/thread-self/ns/net";
            let fd = File::open(file).map_err(|e| {
                Error::system(format!("open {file}"), e, "mount procfs under /proc")
            })?;
            let netlink = Netlink::open()
                .map_err(|e| Error::system("open a netlink socket", e, "allow AF_NETLINK"))?;
            Ok((fd, netlink))
        })??;
        let namespace = Self {
            fd: Arc::new(fd.into()),
            netlink,
        };
        Device::find(&namespace, "lo")?.bring_up()?;
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

    /// Moves the calling thread into this namespace, permanently.
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
    /// Only the network namespace differs: mounts are the caller's, so /sys/class/net shows the
    /// caller's devices. The command holds the namespace open until dropped.
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

    pub(crate) fn netlink(&self) -> &Netlink {
        &self.netlink
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
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
