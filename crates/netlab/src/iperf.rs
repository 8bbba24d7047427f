use std::{
    fs::File,
    io::{self, Read, Seek},
    net::SocketAddr,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sys::{
    memfd::{MFdFlags, memfd_create},
    prctl,
    signal::Signal,
};
use serde::Deserialize;

use crate::{
    error::Error,
    namespace::{Namespace, start_error},
    path::{Family, Path},
};

/// How often the state of a child is looked at.
const POLL: Duration = Duration::from_millis(20);

/// How long the receiver may take to listen, and how much longer than planned a run may last.
const GRACE: Duration = Duration::from_secs(10);

const ADVICE: &str =
    "see what iperf3 said, and /proc/sys/net/ipv4/tcp_available_congestion_control";

/// What the competitor does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iperf3Config {
    /// How long to send; whole seconds, at least one.
    pub duration: Duration,
    /// TCP's congestion control, by the kernel's name for it.
    pub congestion: String,
    /// Connections at once.
    pub connections: u8,
    /// The addresses to use.
    pub family: Family,
    /// The receiver's port.
    pub port: u16,
}

impl Default for Iperf3Config {
    /// One Cubic connection over IPv4 for 10 s.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(10),
            congestion: "cubic".to_owned(),
            connections: 1,
            family: Family::V4,
            port: 5201,
        }
    }
}

/// What the competitor got, all its connections together.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct TcpReport {
    /// Payload bytes that arrived.
    pub received_bytes: u64,
    /// How long the receiver received, in seconds.
    pub seconds: f64,
    /// Payload that arrived, in bits per second.
    pub goodput: f64,
    /// Segments sent again.
    pub retransmits: u64,
}

/// A running competitor: an iperf3 receiver and sender at the ends of a [`Path`]. Both are
/// killed when it is dropped, and by the kernel if this process is killed.
#[derive(Debug)]
pub struct Iperf3 {
    // In this order: the sender is killed first.
    sender: Running,
    _receiver: Running,
    deadline: Instant,
    limit: Duration,
}

impl Iperf3 {
    /// Why there can be no competitor here and what would change it; `None` when there can.
    #[must_use]
    pub fn missing() -> Option<String> {
        let tried = Command::new("iperf3").arg("--version").output();
        let error = tried.err()?;
        Some(start_error("iperf3 --version".to_owned(), error).to_string())
    }

    /// Starts a receiver, waits until it listens, and starts a sender.
    ///
    /// # Errors
    ///
    /// [`Error::CommandStart`] when iperf3 is not installed, [`Error::TimedOut`] when the
    /// receiver does not listen, [`Error::Config`] for a duration of less than a second.
    pub fn start(path: &Path, config: &Iperf3Config) -> Result<Self, Error> {
        let seconds = config.duration.as_secs();
        if seconds == 0 {
            return Err(Error::Config("iperf3 sends for at least one second"));
        }
        let Iperf3Config {
            congestion,
            connections,
            port,
            ..
        } = config;
        let receiver_address = path.addresses(config.family).receiver;
        let limit = config.duration + GRACE;
        let idle = limit.as_secs();
        let mut receiver = Running::spawn(
            path.receiver(),
            format!("-s -1 -B {receiver_address} -p {port} --idle-timeout {idle} -i 0"),
        )?;
        receiver.wait_until_listening(path.receiver(), SocketAddr::new(receiver_address, *port))?;
        let sender = Running::spawn(
            path.sender(),
            format!(
                "-c {receiver_address} -p {port} -t {seconds} -P {connections} -C {congestion} \
                 -i 0 -J"
            ),
        )?;
        Ok(Self {
            sender,
            _receiver: receiver,
            deadline: Instant::now() + limit,
            limit,
        })
    }

    /// Waits for the end of the run and returns what arrived.
    ///
    /// # Errors
    ///
    /// [`Error::CommandFailed`] with what iperf3 said, or [`Error::TimedOut`].
    pub fn finish(mut self) -> Result<TcpReport, Error> {
        while !self.sender.has_ended()? {
            if Instant::now() > self.deadline {
                return Err(Error::TimedOut {
                    what: format!("`{}`", self.sender.command),
                    seconds: self.limit.as_secs(),
                });
            }
            thread::sleep(POLL);
        }
        let output = self.sender.output()?;
        if let Some(said) = parse_error(&output) {
            // With -J it ends as if all was well.
            return Err(Error::CommandFailed {
                command: self.sender.command.clone(),
                status: ExitStatus::default(),
                stderr: said,
                advice: ADVICE,
            });
        }
        parse(&output).map_err(|detail| Error::unreadable(&self.sender.command, detail))
    }
}

/// A child that is killed when dropped.
#[derive(Debug)]
struct Running {
    command: String,
    /// What it wrote, both streams. A file and not a pipe, so that it never has to wait for us.
    output: File,
    /// Dropped to have the child killed.
    keep: Option<mpsc::Sender<()>>,
    /// Ends with the child.
    keeper: Option<JoinHandle<io::Result<ExitStatus>>>,
}

impl Running {
    fn spawn(namespace: &Namespace, arguments: String) -> Result<Self, Error> {
        let system = |e| Error::system("prepare to run iperf3", e, "free some memory");
        let file = memfd_create(c"netlab-iperf3", MFdFlags::MFD_CLOEXEC);
        let output = File::from(file.map_err(|e| system(e.into()))?);
        let (stdout, stderr) = (output.try_clone(), output.try_clone());
        let command = format!("iperf3 {arguments}");
        let mut child = namespace.command("iperf3");
        child
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .stdout(stdout.map_err(system)?)
            .stderr(stderr.map_err(system)?);
        // The kernel counts the end of the thread that made the child as the parent's death: so
        // this thread must stay as long as the child.
        let die_with_parent = || prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from);
        // SAFETY: between fork and exec the closure makes one system call, prctl, and neither
        // allocates nor takes a lock.
        unsafe { child.pre_exec(die_with_parent) };
        let (keep, released) = mpsc::channel();
        let (spawned, started) = mpsc::channel();
        let keeper = thread::Builder::new()
            .name("netlab-iperf3".to_owned())
            .spawn(move || {
                let result = child.spawn();
                // Closes what of the output it still holds.
                drop(child);
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
            })
            .map_err(system)?;
        started
            .recv()
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
            .map_err(|e| start_error(command.clone(), e))?;
        Ok(Self {
            command,
            output,
            keep: Some(keep),
            keeper: Some(keeper),
        })
    }

    /// Whether it ended well; an error if it failed.
    fn has_ended(&mut self) -> Result<bool, Error> {
        if self.keeper.as_ref().is_some_and(|k| !k.is_finished()) {
            return Ok(false);
        }
        let Some(keeper) = self.keeper.take() else {
            return Ok(true);
        };
        let ended = keeper.join();
        let status = ended.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        let status = status.map_err(|e| {
            let action = format!("wait for `{}`", self.command);
            Error::system(action, e, "leave SIGCHLD alone in this process")
        })?;
        if status.success() {
            return Ok(true);
        }
        let output = self.output()?;
        Err(Error::CommandFailed {
            command: self.command.clone(),
            status,
            stderr: parse_error(&output).unwrap_or(output),
            advice: ADVICE,
        })
    }

    fn output(&mut self) -> Result<String, Error> {
        let mut text = String::new();
        self.output
            .rewind()
            .and_then(|()| self.output.read_to_string(&mut text))
            .map_err(|e| Error::unreadable(&self.command, e))?;
        Ok(text)
    }

    fn wait_until_listening(
        &mut self,
        namespace: &Namespace,
        address: SocketAddr,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + GRACE;
        let filter = format!("-H -l -n -t src {address}");
        while namespace.execute("ss", &filter)?.trim().is_empty() {
            if self.has_ended()? || Instant::now() > deadline {
                return Err(Error::TimedOut {
                    what: format!("`{}` to listen", self.command),
                    seconds: GRACE.as_secs(),
                });
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.keep.take());
        if let Some(keeper) = self.keeper.take() {
            // How a child that nobody wants any more ended does not matter.
            let _ = keeper.join();
        }
    }
}

/// Waits for the end of `child`, and kills it when `released` closes first.
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

fn parse(json: &str) -> Result<TcpReport, String> {
    #[derive(Deserialize)]
    struct Report {
        end: End,
    }
    #[derive(Deserialize)]
    struct End {
        sum_sent: Sent,
        sum_received: Received,
    }
    #[derive(Deserialize)]
    struct Sent {
        retransmits: u64,
    }
    #[derive(Deserialize)]
    struct Received {
        bytes: u64,
        seconds: f64,
        bits_per_second: f64,
    }
    let Report { end } = serde_json::from_str(json).map_err(|e| e.to_string())?;
    Ok(TcpReport {
        received_bytes: end.sum_received.bytes,
        seconds: end.sum_received.seconds,
        goodput: end.sum_received.bits_per_second,
        retransmits: end.sum_sent.retransmits,
    })
}

/// With -J, iperf3 tells what went wrong inside its JSON.
fn parse_error(json: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Report {
        error: String,
    }
    let report: Report = serde_json::from_str(json).ok()?;
    Some(report.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goodput_is_what_arrived_not_what_was_sent() {
        let json = r#"{"start":{},"intervals":[],"end":{"streams":[],
            "sum_sent":{"bytes":200,"seconds":1.0,"bits_per_second":1600.0,"retransmits":3},
            "sum_received":{"bytes":100,"seconds":1.0,"bits_per_second":800.5}}}"#;
        let expected = TcpReport {
            received_bytes: 100,
            seconds: 1.0,
            goodput: 800.5,
            retransmits: 3,
        };
        assert_eq!(parse(json), Ok(expected));
    }

    #[test]
    fn a_failure_is_told_in_iperf3s_own_words() {
        let json = r#"{"start":{},"end":{},"error":"unable to connect"}"#;
        assert_eq!(parse_error(json).as_deref(), Some("unable to connect"));
        assert!(parse(json).is_err());
        assert_eq!(parse_error("iperf3: bad option"), None);
    }
}
