//! The options, as the programs share them.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

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

/// How much a sender sends.
#[derive(Args, Clone, Copy, Debug)]
pub struct Load {
    /// How long to send.
    #[arg(long, default_value = "10", value_parser = parse_seconds)]
    pub seconds: Duration,
    /// Connections, each from a socket of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub flows: u16,
}

/// A controller of quinn's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Base {
    Cubic,
    NewReno,
    Bbr,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Switch {
    On,
    Off,
}

/// Where signals come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SourceChoice {
    /// Probes in the kernel where that is permitted, else none; says which and why
    Auto,
    /// Probes in the kernel, or fail
    Ebpf,
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
    fn nonsense_is_no_time() {
        for nonsense in ["", "x", "-1", "0", "NaN", "inf", "86401"] {
            assert!(parse_seconds(nonsense).is_err(), "{nonsense}");
        }
    }
}
