//! Numbers of which a sensitivity can be measured.

/// Makes `Tuning` and lists its fields, so that each can be scaled by its name.
macro_rules! tuning {
    ($($(#[$doc:meta])* $name:ident: $kind:ty = $value:expr;)*) => {
        /// The law's numbers. There is one set, [`Tuning::STANDARD`]; others are made only to
        /// measure what half or double of a number does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(
            not(feature = "tuning"),
            expect(unreachable_pub, reason = "it is public with the feature alone")
        )]
        pub struct Tuning {
            $($(#[$doc])* pub(crate) $name: $kind,)*
        }

        impl Tuning {
            /// What the law works with.
            #[cfg_attr(
                not(feature = "tuning"),
                expect(unreachable_pub, reason = "it is public with the feature alone")
            )]
            pub const STANDARD: Self = Self { $($name: $value,)* };
        }

        #[cfg(feature = "tuning")]
        impl Tuning {
            /// The names of all numbers.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// The standard with one number, given by its name, scaled by `factor`; `None` where
            /// there is no number of that name.
            pub fn scaled(name: &str, factor: f64) -> Option<Self> {
                use super::tuning::Scale;

                let mut tuning = Self::STANDARD;
                match name {
                    $(stringify!($name) => tuning.$name = tuning.$name.scaled(factor),)*
                    _ => return None,
                }
                Some(tuning)
            }

            /// A number as text, with its unit.
            pub fn text(&self, name: &str) -> Option<String> {
                match name {
                    $(stringify!($name) => Some(format!("{:?}", self.$name)),)*
                    _ => None,
                }
            }
        }
    };
}

pub(super) use tuning;

/// What can be multiplied.
#[cfg(feature = "tuning")]
pub(super) trait Scale {
    fn scaled(self, factor: f64) -> Self;
}

#[cfg(feature = "tuning")]
impl Scale for std::time::Duration {
    fn scaled(self, factor: f64) -> Self {
        self.mul_f64(factor)
    }
}

#[cfg(feature = "tuning")]
impl Scale for u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the law's numbers are small, and a factor is positive"
    )]
    fn scaled(self, factor: f64) -> Self {
        (self as f64 * factor).round() as u64
    }
}

#[cfg(feature = "tuning")]
impl Scale for u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the law's numbers are small, and a factor is positive"
    )]
    fn scaled(self, factor: f64) -> Self {
        (f64::from(self) * factor).round() as u32
    }
}

#[cfg(all(test, feature = "tuning"))]
mod tests {
    use std::time::Duration;

    use super::super::constants::Tuning;

    #[test]
    fn one_number_is_scaled_and_no_other() {
        let scaled = Tuning::scaled("hold", 2.0).unwrap();
        assert_eq!(scaled.hold, Duration::from_secs(2));
        let rest = Tuning {
            hold: Tuning::STANDARD.hold,
            ..scaled
        };
        assert_eq!(rest, Tuning::STANDARD);
        assert!(Tuning::scaled("no such number", 2.0).is_none());
        for name in Tuning::NAMES {
            assert_eq!(Tuning::scaled(name, 1.0), Some(Tuning::STANDARD), "{name}");
        }
    }
}
