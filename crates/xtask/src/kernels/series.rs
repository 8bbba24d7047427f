//! Which kernels are asked for.

use std::fmt;
use std::str::FromStr;

/// A kernel, or the newest of several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Series {
    /// The newest that begins with these numbers: `[6, 12]`, or `[7]` for any 7.x.
    Newest(Vec<u32>, Variant),
    /// The running one.
    Live,
}

/// How a kernel differs from what is booted otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Variant {
    Plain,
    /// On four processors.
    FourCpus,
    /// Built with PREEMPT_RT.
    RealTime,
    /// Locked down (`kernel_lockdown(7)`): that loading says so is all that is tested.
    Lockdown,
}

impl Variant {
    const ALL: [Self; 4] = [Self::Plain, Self::FourCpus, Self::RealTime, Self::Lockdown];

    /// Behind the series' name.
    fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::FourCpus => "+4cpus",
            Self::RealTime => "+rt",
            Self::Lockdown => "+lockdown",
        }
    }
}

impl FromStr for Series {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "live" {
            return Ok(Self::Live);
        }
        let (text, variant) = match text.find('+') {
            Some(at) => {
                let variants = Variant::ALL.into_iter();
                let mut named = variants.filter(|variant| variant.suffix() == &text[at..]);
                let unknown = || format!("{}: +4cpus, +rt or +lockdown", &text[at..]);
                (&text[..at], named.next().ok_or_else(unknown)?)
            }
            None => (text, Variant::Plain),
        };
        let numbers = text.strip_suffix(".x").unwrap_or(text);
        let numbers: Option<Vec<u32>> = numbers
            .split('.')
            .map(|number| number.parse().ok())
            .collect();
        match numbers {
            Some(numbers) if numbers.len() <= 2 => Ok(Self::Newest(numbers, variant)),
            _ => Err("name a series as 6.12, 7.x, or live".to_owned()),
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => f.write_str("live"),
            Self::Newest(numbers, variant) => {
                match numbers.as_slice() {
                    [major] => write!(f, "{major}.x")?,
                    numbers => {
                        let numbers: Vec<_> = numbers.iter().map(u32::to_string).collect();
                        f.write_str(&numbers.join("."))?;
                    }
                }
                f.write_str(variant.suffix())
            }
        }
    }
}

impl Series {
    /// Whether a kernel of this release is one of the series.
    pub(super) fn has(&self, release: &str) -> bool {
        match self {
            Self::Live => false,
            Self::Newest(numbers, _) => version(release).starts_with(numbers),
        }
    }

    pub(super) fn variant(&self) -> Variant {
        match self {
            Self::Live => Variant::Plain,
            Self::Newest(_, variant) => *variant,
        }
    }
}

/// The numbers of a release in their order, by which a newer one is greater.
pub(super) fn version(release: &str) -> Vec<u32> {
    release
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(text: &str) -> Series {
        text.parse().unwrap()
    }

    #[test]
    fn a_series_is_recognised_by_its_first_numbers() {
        assert!(series("6.1").has("6.1.0-50-cloud-amd64"));
        assert!(!series("6.1").has("6.12.95+deb12-cloud-amd64"));
        assert!(series("7.x").has("7.3.4+deb13-cloud-amd64"));
        assert!(series("7").has("7.0.4+deb13-cloud-amd64"));
    }

    #[test]
    fn a_newer_release_is_greater() {
        let mut releases = [
            "6.12.107+deb13",
            "6.12.95+deb12",
            "6.12.90+deb12",
            "6.12.90+deb12.1",
        ];
        releases.sort_by_key(|release| version(release));
        let expected = [
            "6.12.90+deb12",
            "6.12.90+deb12.1",
            "6.12.95+deb12",
            "6.12.107+deb13",
        ];
        assert_eq!(releases, expected);
    }

    #[test]
    fn what_is_no_series_is_refused() {
        for text in ["", "six", "6.12.95", "-1", "x", "6.12+", "6.12+more"] {
            assert!(text.parse::<Series>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_series_prints_as_it_is_written() {
        for text in [
            "5.10",
            "7.x",
            "live",
            "6.12+4cpus",
            "6.12+rt",
            "7.x+lockdown",
        ] {
            assert_eq!(series(text).to_string(), text);
        }
    }
}
