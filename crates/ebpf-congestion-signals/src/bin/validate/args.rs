//! The options.

use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Checks that the probes attach to this kernel and count correctly (a self-test with known
/// traffic), and measures their cost in processor time, alternately without and with them.
///
/// Needs the capabilities CAP_BPF and CAP_PERFMON. With CAP_SYS_ADMIN the kernel also accounts each
/// program's time, and with CAP_NET_ADMIN and iproute2 the self-test includes a queue. Exit status:
/// 0 if all checks pass, 1 if a count is wrong or the target is missed, 2 if the result is
/// inconclusive.
#[derive(Clone, Debug, Parser)]
#[command(name = "validate")]
pub(crate) struct Args {
    /// Load on the network during the measurement
    #[arg(long, value_enum, default_value_t = LoadChoice::None)]
    pub(crate) load: LoadChoice,
    /// Payload of iperf3's datagrams in bytes; by default as large as loopback carries. QUIC sends
    /// about 1200
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(16..=65_507))]
    pub(crate) datagram_bytes: Option<u16>,
    /// How long to measure, in seconds; at least one turn of five periods is measured
    #[arg(long, default_value = "30", allow_negative_numbers = true, value_parser = parse_seconds)]
    pub(crate) seconds: Duration,
    /// Length of a period with or without probes, in seconds
    #[arg(long, default_value = "1", allow_negative_numbers = true, value_parser = parse_seconds)]
    pub(crate) period: Duration,
    /// Overhead that must not be reached, in percent of the processor time of all CPUs of the host
    #[arg(long, default_value_t = 2.0, allow_negative_numbers = true, value_parser = parse_percent)]
    pub(crate) target: f64,
    /// Print one JSON object as the last line of standard output; other lines go to standard error
    #[arg(long)]
    pub(crate) json: bool,
}

/// What loads the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LoadChoice {
    /// No load of its own: measure whatever runs on this host
    None,
    /// iperf3 over loopback: UDP, 4 streams of 500 Mbit/s
    Iperf3,
}

/// The longest time that is taken: a day.
const MOST_SECONDS: f64 = 86_400.0;

/// The shortest: processor time of less is mostly noise.
const LEAST_SECONDS: f64 = 0.1;

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "give a number of seconds, such as 30 or 0.5".to_owned())?;
    if (LEAST_SECONDS..=MOST_SECONDS).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("give {LEAST_SECONDS} to {MOST_SECONDS} seconds"))
    }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent),
        _ => Err("give more than 0 and at most 100 percent, such as 2 or 0.5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn defaults_watch_the_host_for_thirty_seconds() {
        let args = Args::try_parse_from(["validate"]).unwrap();
        assert_eq!((args.load, args.target), (LoadChoice::None, 2.0));
        assert_eq!(args.seconds, Duration::from_secs(30));
        assert_eq!(args.period, Duration::from_secs(1));
    }

    #[test]
    fn nonsense_is_refused() {
        for nonsense in [
            "--seconds=0",
            "--seconds=NaN",
            "--period=0.05",
            "--period=x",
            "--target=0",
            "--target=-1",
            "--target=inf",
            "--load=flood",
            "--datagram-bytes=70000",
        ] {
            assert!(
                Args::try_parse_from(["validate", nonsense]).is_err(),
                "{nonsense}"
            );
        }
    }
}
