//! Conversions between whole numbers and fractions.

/// The whole part of a number that is not negative; 0 for those that are.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "as saturates, and cutting off is what is asked for"
)]
pub(super) fn whole(number: f64) -> u64 {
    number as u64
}
