use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;

use crate::{
    error::Error,
    namespace::{Namespace, start_error},
    path::{Family, Path},
    process::{POLL, Process},
};

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

/// Seconds between the competitor's own reports.
const INTERVAL: f64 = 0.5;

/// What the competitor got, all its connections together.
#[derive(Clone, Debug, PartialEq)]
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
    /// What was sent over time: intervals that follow each other.
    pub intervals: Vec<TcpInterval>,
}

/// What a competitor sent in a part of its time.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct TcpInterval {
    /// When it ended, in seconds since the competitor began.
    pub end: f64,
    /// Payload that was written to the sockets, in bits per second: what the send buffers took
    /// included.
    pub rate: f64,
    /// Smoothed round trip at its end, the mean of the connections; microseconds.
    pub rtt: f64,
}

/// A running competitor: an iperf3 receiver and sender at the ends of a [`Path`]. Both are
/// killed when it is dropped, and by the kernel if this process is killed.
#[derive(Debug)]
pub struct Iperf3 {
    // In this order: the sender is killed first.
    sender: Process,
    _receiver: Process,
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
        let receiver = Process::start(
            path.receiver(),
            "iperf3",
            &format!("-s -1 -B {receiver_address} -p {port} --idle-timeout {idle} -i 0"),
        )?;
        wait_until_listening(&receiver, path.receiver(), config.family, *port)?;
        let sender = Process::start(
            path.sender(),
            "iperf3",
            &format!(
                "-c {receiver_address} -p {port} -t {seconds} -P {connections} -C {congestion} \
                 -i {INTERVAL} -J"
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
    pub fn finish(self) -> Result<TcpReport, Error> {
        while !self.sender.has_ended() {
            if Instant::now() > self.deadline {
                return Err(Error::TimedOut {
                    what: format!("`{}`", self.sender.command()),
                    seconds: self.limit.as_secs(),
                });
            }
            thread::sleep(POLL);
        }
        let output = self.sender.output()?;
        // With -J errors are there, and the exit status may still be 0.
        let failed = |status, said| Error::CommandFailed {
            command: self.sender.command().to_owned(),
            status,
            stderr: said,
            advice: ADVICE,
        };
        let status = self.sender.status()?.unwrap_or_default();
        if let Some(said) = parse_error(&output) {
            return Err(failed(status, said));
        }
        if !status.success() {
            return Err(failed(status, self.sender.complaint()?));
        }
        parse(&output).map_err(|detail| Error::unreadable(self.sender.command(), detail))
    }
}

fn wait_until_listening(
    receiver: &Process,
    namespace: &Namespace,
    family: Family,
    port: u16,
) -> Result<(), Error> {
    let deadline = Instant::now() + GRACE;
    while !namespace.has_tcp_listener(family, port)? {
        if receiver.has_ended() {
            return Err(Error::CommandFailed {
                command: receiver.command().to_owned(),
                status: receiver.status()?.unwrap_or_default(),
                stderr: receiver.complaint()?,
                advice: ADVICE,
            });
        }
        if Instant::now() > deadline {
            return Err(Error::TimedOut {
                what: format!("`{}` to listen", receiver.command()),
                seconds: GRACE.as_secs(),
            });
        }
        thread::sleep(POLL);
    }
    Ok(())
}

fn parse(json: &str) -> Result<TcpReport, String> {
    #[derive(Deserialize)]
    struct Report {
        intervals: Vec<Interval>,
        end: End,
    }
    #[derive(Deserialize)]
    struct Interval {
        streams: Vec<Stream>,
        sum: IntervalSum,
    }
    #[derive(Deserialize)]
    struct Stream {
        rtt: f64,
    }
    #[derive(Deserialize)]
    struct IntervalSum {
        end: f64,
        bits_per_second: f64,
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
    let Report { intervals, end } = serde_json::from_str(json).map_err(|e| e.to_string())?;
    Ok(TcpReport {
        received_bytes: end.sum_received.bytes,
        seconds: end.sum_received.seconds,
        goodput: end.sum_received.bits_per_second,
        retransmits: end.sum_sent.retransmits,
        intervals: intervals
            .into_iter()
            .map(|Interval { streams, sum }| TcpInterval {
                end: sum.end,
                rate: sum.bits_per_second,
                rtt: mean(streams.iter().map(|stream| stream.rtt)),
            })
            .collect(),
    })
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = u32::try_from(values.len().max(1)).unwrap_or(u32::MAX);
    values.sum::<f64>() / f64::from(count)
}

/// With -J, iperf3 reports errors inside its JSON.
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
        let json = r#"{"start":{},"intervals":[{"streams":[{"rtt":21000},{"rtt":23000}],
            "sum":{"start":0,"end":0.25,"seconds":0.25,"bytes":25,"bits_per_second":900.0}}],"end":{"streams":[],
            "sum_sent":{"bytes":200,"seconds":1.0,"bits_per_second":1600.0,"retransmits":3},
            "sum_received":{"bytes":100,"seconds":1.0,"bits_per_second":800.5}}}"#;
        let expected = TcpReport {
            received_bytes: 100,
            seconds: 1.0,
            goodput: 800.5,
            retransmits: 3,
            intervals: vec![TcpInterval {
                end: 0.25,
                rate: 900.0,
                rtt: 22_000.0,
            }],
        };
        assert_eq!(parse(json), Ok(expected));
    }

    #[test]
    fn a_failure_has_iperf3s_own_message() {
        let json = r#"{"start":{},"end":{},"error":"unable to connect"}"#;
        assert_eq!(parse_error(json).as_deref(), Some("unable to connect"));
        assert!(parse(json).is_err());
        assert_eq!(parse_error("iperf3: bad option"), None);
    }
}
