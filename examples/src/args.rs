//! The options, as the programs share them.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::baseline::Baseline;

/// Options of all programs: congestion control, signals, output.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The congestion controller, which the governor wraps if it is on.
    #[arg(long, value_enum, default_value_t = Base::Cubic)]
    pub base: Base,
    /// Whether to govern. With `off`, flows are still watched, so that the runs can be compared.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub governor: Switch,
    /// Where signals come from.
    #[arg(long, value_enum, default_value_t = SourceChoice::Auto)]
    pub source: SourceChoice,
    /// Print one JSON object as the last line.
    #[arg(long)]
    pub json: bool,
}

/// What a sender sends, and which logs it writes.
#[derive(Args, Clone, Debug)]
pub struct Load {
    /// How long to send.
    #[arg(long, default_value = "10", allow_negative_numbers = true, value_parser = parse_seconds)]
    pub seconds: Duration,
    /// Connections, each from a socket of its own unless --one-socket says otherwise.
    #[arg(long, default_value_t = 1, allow_negative_numbers = true,
        value_parser = clap::value_parser!(u16).range(1..=512))]
    pub flows: u16,
    /// Make all connections from one socket.
    #[arg(long)]
    pub one_socket: bool,
    /// Continue from a new socket after this time, as after a change of the network.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = parse_seconds,
        conflicts_with = "one_socket")]
    pub rebind_after: Option<Duration>,
    /// Before the first connection, send the first datagram of this many others from other ports
    /// and nothing more: what a flood with spoofed addresses looks like to a server.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub half_open: u16,
    /// Before each connection, connect and close this many times from the same socket.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub reconnects: u16,
    /// Other remedies for a standing queue, to compare with.
    #[command(flatten)]
    pub baseline: Baseline,
    /// Start each connection this much later than the one before.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = parse_seconds)]
    pub stagger: Option<Duration>,
    /// Download for this time before each upload, over the same connection.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = parse_seconds)]
    pub download_first: Option<Duration>,
    /// Bursts and pauses, instead of sending all the time.
    #[command(flatten)]
    pub bursts: Option<Bursts>,
    /// Detach the probes after this time, and continue without signals.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = parse_seconds)]
    pub detach_after: Option<Duration>,
    /// Write the state of each connection to this file every 10 ms, one JSON object a line (the
    /// module `trace` of this package describes the fields).
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Record the signals of each connection's flow to this file every 10 ms, for a `ReplaySource`
    /// to replay.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Write the first connection's qlog, with the governor's decisions, to this file.
    #[arg(long, value_name = "FILE")]
    pub qlog: Option<PathBuf>,
}

/// A sender that pauses.
#[derive(Args, Clone, Copy, Debug)]
pub struct Bursts {
    /// Send bursts of this many bytes with pauses between them, and report how long each took to be
    /// acknowledged.
    #[arg(long = "burst", value_name = "BYTES", requires = "pause", required = false,
        allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub bytes: u32,
    /// How long to pause after a burst.
    #[arg(long, value_name = "SECONDS", requires = "bytes", required = false,
        allow_negative_numbers = true, value_parser = parse_seconds)]
    pub pause: Duration,
}

impl Load {
    /// This many connections that send as much as the path takes.
    pub fn new(seconds: Duration, flows: u16) -> Self {
        Self {
            seconds,
            flows,
            one_socket: false,
            rebind_after: None,
            half_open: 0,
            reconnects: 0,
            baseline: Baseline::default(),
            stagger: None,
            download_first: None,
            bursts: None,
            detach_after: None,
            trace: None,
            record: None,
            qlog: None,
        }
    }

    /// Ends the program with advice, as for any wrong option, if options exclude one
    /// another.
    pub fn check<Program: CommandFactory>(&self) {
        if let Some(advice) = self.advice() {
            let wrong = ErrorKind::ArgumentConflict;
            Program::command().error(wrong, advice).exit();
        }
    }

    fn advice(&self) -> Option<&'static str> {
        let stagger = self.stagger.unwrap_or_default();
        let last = stagger * u32::from(self.flows - 1) + self.download_first.unwrap_or_default();
        (last >= self.seconds).then_some(
            "the last flow would begin after the end: give a longer --seconds or a shorter \
             --stagger or --download-first",
        )
    }
}

/// A controller of quinn's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Base {
    Cubic,
    NewReno,
    Bbr,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Switch {
    On,
    Off,
}

/// Where signals come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SourceChoice {
    /// Probes where that is permitted, else the socket, else none; prints which and why
    Auto,
    /// Probes in the kernel; fail if they cannot be loaded
    Ebpf,
    /// The state of the program's own sockets, without privilege; fail if this system does not
    /// report it
    Socket,
    /// Invented signals: a drop at the local queue every second, to see what a governor does
    Mock,
    /// No signals: the base controller alone
    None,
}

/// The longest run that `--seconds` takes: a day.
const MOST_SECONDS: f64 = 86_400.0;

/// A number of seconds, decimals allowed.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "give a number of seconds, such as 8 or 0.5".to_owned())?;
    if seconds > 0.0 && seconds <= MOST_SECONDS {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!(
            "give more than 0 and at most {MOST_SECONDS} seconds"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_decimals() {
        assert_eq!(parse_seconds("0.25"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn the_last_flow_must_begin_before_the_end() {
        let mut load = Load::new(Duration::from_secs(3), 4);
        load.stagger = Some(Duration::from_millis(900));
        assert_eq!(load.advice(), None);
        load.stagger = Some(Duration::from_secs(1));
        assert!(load.advice().is_some());
    }

    #[test]
    fn nonsense_is_no_time() {
        for nonsense in ["", "x", "-1", "0", "NaN", "inf", "86401"] {
            assert!(parse_seconds(nonsense).is_err(), "{nonsense}");
        }
    }
}
