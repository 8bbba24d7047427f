//! Numbers as people read them, and conversions without surprises.

use std::fmt::Display;
use std::time::Duration;

/// Bytes with a decimal prefix: `1.46 MB`.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.95 {
            let decimals = usize::from(unit != "B");
            return format!("{value:.decimals$} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// Megabits a second that `bytes` in `time` are; 0 in no time.
pub fn megabits_per_second(bytes: u64, time: Duration) -> f64 {
    if time.is_zero() {
        return 0.0;
    }
    bytes as f64 * 8.0 / 1e6 / time.as_secs_f64()
}

/// A number of things: `1 upload`, `2 uploads`.
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, name: &str) -> String {
    let s = if count == N::from(1) { "" } else { "s" };
    format!("{count} {name}{s}")
}

/// Whole microseconds.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A time of so many microseconds: in milliseconds, short ones in microseconds.
pub fn short_time(micros: u64) -> String {
    if micros < 1000 {
        format!("{micros} µs")
    } else {
        format!("{:.1} ms", micros as f64 / 1000.0)
    }
}

/// Rounds a figure of a report to three decimals: more would be noise.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_the_prefix_that_fits() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1_460, "1.5 kB"),
            (999_990, "1.0 MB"),
            (62_500_000, "62.5 MB"),
            (5_000_000_000_000, "5.0 TB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn one_thing_is_not_several() {
        assert_eq!(counted(1_u64, "upload"), "1 upload");
        assert_eq!(counted(0_usize, "upload"), "0 uploads");
    }

    #[test]
    fn a_short_time_is_shown_in_microseconds() {
        assert_eq!(short_time(72), "72 µs");
        assert_eq!(short_time(21_340), "21.3 ms");
    }

    #[test]
    fn a_rate_is_bits_by_time() {
        assert_eq!(megabits_per_second(1_000_000, Duration::from_secs(2)), 4.0);
        assert_eq!(megabits_per_second(1, Duration::ZERO), 0.0);
    }
}
