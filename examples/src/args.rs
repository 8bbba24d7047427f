//! The options, as the programs share them.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::baseline::Baseline;

/// How congestion is controlled and by whose signals, and how to print the result.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The congestion controller that the governor wraps, or that works alone without it.
    #[arg(long, value_enum, default_value_t = Base::Cubic)]
    pub base: Base,
    /// Whether the governor works. Off, flows are watched all the same, so that the base alone can
    /// be compared.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub governor: Switch,
    /// Where signals come from.
    #[arg(long, value_enum, default_value_t = SourceChoice::Auto)]
    pub source: SourceChoice,
    /// Print one JSON object as the last line.
    #[arg(long)]
    pub json: bool,
}

/// How much a sender sends, and what is written down meanwhile.
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
    /// Go on from a new socket after this time, as after a change of the network.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = parse_seconds,
        conflicts_with = "one_socket")]
    pub rebind_after: Option<Duration>,
    /// Before the first connection, begin this many more from other ports, and let nobody hear of
    /// them again: what a flood of made-up addresses looks like to a server.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub half_open: u16,
    /// Before each connection, connect and close this often from the same socket.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub reconnects: u16,
    /// What else to do against a standing queue.
    #[command(flatten)]
    pub baseline: Baseline,
    /// Let each connection begin to send this much later than the one before.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = parse_seconds)]
    pub stagger: Option<Duration>,
    /// Download for this time before each upload, over the same connection.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = parse_seconds)]
    pub download_first: Option<Duration>,
    /// Bursts and pauses, if not all the time.
    #[command(flatten)]
    pub bursts: Option<Bursts>,
    /// Take the probes out of the kernel after this time and go on, to see what then happens.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = parse_seconds)]
    pub detach_after: Option<Duration>,
    /// Write what each connection does over time to this file: a JSON object a line, every 10 ms
    /// (the module `trace` of this package describes it).
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Record what the source says of each connection's flow to this file, every 10 ms, for a
    /// `ReplaySource` to say again.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Write the first connection's qlog to this file, the governor's decisions among it.
    #[arg(long, value_name = "FILE")]
    pub qlog: Option<PathBuf>,
}

/// A sender that has not always something to send.
#[derive(Args, Clone, Copy, Debug)]
pub struct Bursts {
    /// Send bursts of so many bytes, with pauses between, and report how long each took to be
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
    /// As much as the path takes, from so many connections at once.
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
    /// Probes in the kernel where that is permitted, else the socket, else none; says which and why
    Auto,
    /// Probes in the kernel, or fail
    Ebpf,
    /// What a program may know of its own socket without privilege (Linux), or fail
    Socket,
    /// Invented: a drop at the local queue every second, to see what a governor does
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
