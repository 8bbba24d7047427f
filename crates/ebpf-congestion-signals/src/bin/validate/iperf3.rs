//! iperf3 over loopback, with a port of its own.

use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::error::ValidateError;
use crate::interrupt::Interrupt;
use crate::proc_net;

/// Streams, and what each sends.
pub(crate) const STREAMS: u32 = 4;
/// Megabits a second that each stream sends at most.
pub(crate) const MBPS_PER_STREAM: u32 = 500;

/// How long either side may take to get going.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often to check whether it has.
const POLL: Duration = Duration::from_millis(20);

/// How much longer than needed it is started for: it is stopped when no longer needed, and ends by
/// itself if this program is killed.
const MARGIN: Duration = Duration::from_secs(120);

/// A server and a client that sends to it. Both are ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Iperf3 {
    // In this order: the client first.
    client: Running,
    server: Running,
}

impl Iperf3 {
    /// Starts both, and waits until data flows; `None` when an end was asked for meanwhile.
    pub(crate) async fn start(
        seconds: Duration,
        datagram_bytes: Option<u16>,
        interrupt: &mut Interrupt,
    ) -> Result<Option<Self>, ValidateError> {
        let port = free_port().map_err(ValidateError::Iperf3Start)?;
        let [client_cpu, server_cpu] = two_cpus().map(affinity);
        let server =
            format!("--server --one-off --bind 127.0.0.1 --port {port} --interval 0 {server_cpu}");
        let mut server = Running::spawn("server", &server)?;
        let listens = |_: &Running| -> io::Result<bool> {
            let sockets = proc_net::sockets("tcp")?;
            let mut listeners = sockets.iter().filter(|row| row.state == proc_net::LISTEN);
            Ok(listeners.any(|row| row.local_port == port))
        };
        if !server.wait_until(listens, interrupt).await? {
            return Ok(None);
        }
        let time = (seconds + MARGIN).as_secs();
        let length = datagram_bytes.map_or(String::new(), |bytes| format!("--length {bytes}"));
        let client = format!(
            "--client 127.0.0.1 --port {port} --udp --parallel {STREAMS} \
             --bitrate {MBPS_PER_STREAM}M --time {time} --interval 0 {length} {client_cpu}"
        );
        let mut client = Running::spawn("client", &client)?;
        // Far more than the control connection ever carries.
        let flows = |client: &Running| Ok(client.transferred()?.1 > 1 << 20);
        if !client.wait_until(flows, interrupt).await? {
            return Ok(None);
        }
        Ok(Some(Self { client, server }))
    }

    /// Process ids of both.
    pub(crate) fn ids(&self) -> [u32; 2] {
        [self.client.child.id(), self.server.child.id()]
    }

    /// Bytes that were sent so far and bytes that were received; an error if one side has ended.
    pub(crate) fn transferred(&mut self) -> Result<(u64, u64), ValidateError> {
        self.client.must_run()?;
        self.server.must_run()?;
        let of = |running: &Running| {
            let transferred = running.transferred();
            transferred.map_err(|source| ValidateError::Proc {
                file: running.io_file(),
                source,
            })
        };
        Ok((of(&self.client)?.1, of(&self.server)?.0))
    }
}

/// A free port.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// A CPU for either side, where this process may use two: what a packet costs depends on whether
/// it changes the CPU, and the scheduler's changes of mind would drown what probes cost.
fn two_cpus() -> [Option<usize>; 2] {
    let Ok(allowed) = sched_getaffinity(Pid::from_raw(0)) else {
        return [None; 2];
    };
    let mut cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true));
    match (cpus.next(), cpus.next()) {
        (Some(client), Some(server)) => [Some(client), Some(server)],
        _ => [None; 2],
    }
}

/// The option that keeps iperf3 on a CPU.
fn affinity(cpu: Option<usize>) -> String {
    cpu.map_or(String::new(), |cpu| format!("--affinity {cpu}"))
}

#[derive(Debug)]
struct Running {
    role: &'static str,
    child: Child,
}

impl Running {
    fn spawn(role: &'static str, arguments: &str) -> Result<Self, ValidateError> {
        let child = Command::new("iperf3")
            .args(arguments.split_whitespace())
            // What a terminal sends to end this program is not for it: it ends it in order.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // So little that it fits the pipe.
            .stderr(Stdio::piped())
            .spawn();
        match child {
            Ok(child) => Ok(Self { role, child }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ValidateError::NoIperf3),
            Err(error) => Err(ValidateError::Iperf3Start(error)),
        }
    }

    /// False when an end was asked for first.
    async fn wait_until(
        &mut self,
        mut holds: impl FnMut(&Self) -> io::Result<bool>,
        interrupt: &mut Interrupt,
    ) -> Result<bool, ValidateError> {
        let start = Instant::now();
        loop {
            self.must_run()?;
            if holds(self).map_err(ValidateError::Iperf3Start)? {
                return Ok(true);
            }
            if start.elapsed() > PATIENCE {
                return Err(ValidateError::Iperf3Slow {
                    role: self.role,
                    seconds: PATIENCE.as_secs(),
                });
            }
            if interrupt.cuts_short(POLL).await {
                return Ok(false);
            }
        }
    }

    fn must_run(&mut self) -> Result<(), ValidateError> {
        let ended = self.child.try_wait().map_err(ValidateError::Iperf3Start)?;
        let Some(status) = ended else { return Ok(()) };
        let mut said = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            // Without it there is still the exit status.
            let _ = stderr.read_to_string(&mut said);
        }
        let said = match said.trim() {
            "" => status.to_string(),
            said => format!("{said} ({status})"),
        };
        Err(ValidateError::Iperf3Ended {
            role: self.role,
            said,
        })
    }

    fn io_file(&self) -> String {
        format!("/proc/{}/io", self.child.id())
    }

    /// Bytes that it has read and written so far, from and to whatever: nearly all are data.
    fn transferred(&self) -> io::Result<(u64, u64)> {
        let text = fs::read_to_string(self.io_file())?;
        parse_io(&text).ok_or_else(|| io::Error::other("rchar or wchar is missing"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parse_io(text: &str) -> Option<(u64, u64)> {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    Some((value("rchar:")?, value("wchar:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_and_written_are_found_by_name() {
        let text = "rchar: 138595\nwchar: 373620937\nsyscr: 23\nread_bytes: 7\n";
        assert_eq!(parse_io(text), Some((138_595, 373_620_937)));
        assert_eq!(parse_io("rchar: 1\n"), None);
    }
}
