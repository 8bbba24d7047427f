//! The laws' numbers, whose sensitivity can be measured.

/// Makes the type of a law's numbers and lists its fields, so that each can be scaled by its name.
macro_rules! tuning {
    (
        $(#[$meta:meta])* $tuning:ident;
        $($(#[$doc:meta])* $name:ident: $kind:ty = $value:expr;)*
    ) => {
        $(#[$meta])*
        ///
        /// There is one set, `STANDARD`; others are made only to measure what half or double of a
        /// number does.
        #[cfg_attr(
            not(feature = "tuning"),
            expect(unreachable_pub, reason = "it is public with the feature alone")
        )]
        pub struct $tuning {
            $($(#[$doc])* pub(crate) $name: $kind,)*
        }

        impl $tuning {
            /// The numbers in use.
            #[cfg_attr(
                not(feature = "tuning"),
                expect(unreachable_pub, reason = "it is public with the feature alone")
            )]
            pub const STANDARD: Self = Self { $($name: $value,)* };
        }

        #[cfg(feature = "tuning")]
        impl $tuning {
            /// The names of all numbers.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// The standard with one number, given by its name, scaled by `factor`; `None` where
            /// there is no number of that name.
            pub fn scaled(name: &str, factor: f64) -> Option<Self> {
                use crate::tuning::Scale;

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

pub(crate) use tuning;

/// What can be multiplied.
#[cfg(feature = "tuning")]
pub(crate) trait Scale {
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

#[cfg(feature = "tuning")]
impl Scale for f64 {
    fn scaled(self, factor: f64) -> Self {
        self * factor
    }
}

#[cfg(all(test, feature = "tuning"))]
mod tests;
