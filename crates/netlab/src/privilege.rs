use std::{fs::OpenOptions, sync::OnceLock};

use crate::namespace::Namespace;

/// The environment variable by which whoever runs the tests promises the privilege: with the
/// value `1`, a test that lacks it fails instead of being skipped.
pub const REQUIRE_PRIVILEGE: &str = "NETLAB_REQUIRE_PRIVILEGE";

/// Why paths cannot be made here and what would change it; `None` when they can.
///
/// Found out by trying: a namespace, `ip`, `tc` and the TUN device. The answer is kept for the
/// life of the process.
#[must_use]
pub fn missing_privilege() -> Option<&'static str> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    MISSING.get_or_init(|| try_everything().err()).as_deref()
}

/// Whether a privileged test may go on; the first line of each such test:
///
/// ```no_run
/// # fn a_test() {
/// if !netlab::require_privilege("a_test") {
///     return;
/// }
/// # }
/// ```
///
/// When it may not, the reason and what would change it go to standard error.
///
/// # Panics
///
/// When it may not although [`REQUIRE_PRIVILEGE`] is set to `1`: where privilege was promised, a
/// skipped test must not pass.
#[must_use]
pub fn require_privilege(test: &str) -> bool {
    require(test, missing_privilege())
}

/// As [`require_privilege`], for whatever else a test needs: `missing` is why it is not there and
/// what would change that, or `None`.
///
/// # Panics
///
/// As [`require_privilege`].
#[must_use]
pub fn require(test: &str, missing: Option<&str>) -> bool {
    let promised = std::env::var(REQUIRE_PRIVILEGE).is_ok_and(|value| value == "1");
    decide(test, missing, promised)
}

fn decide(test: &str, missing: Option<&str>, promised: bool) -> bool {
    let Some(why) = missing else { return true };
    assert!(
        !promised,
        "{test} cannot run, though {REQUIRE_PRIVILEGE}=1 promises that it can: {why}"
    );
    eprintln!("skipped {test}: {why}");
    false
}

fn try_everything() -> Result<(), String> {
    let namespace = Namespace::new().map_err(|e| e.to_string())?;
    namespace
        .execute("tc", "qdisc show")
        .map_err(|e| e.to_string())?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(|e| format!("cannot open /dev/net/tun: {e}; load the tun module"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_privileged_test_goes_on_where_nothing_is_missing() {
        assert!(decide("a_test", None, true));
        assert!(decide("a_test", None, false));
    }

    #[test]
    fn a_privileged_test_is_skipped_where_nothing_was_promised() {
        assert!(!decide("a_test", Some("not root"), false));
    }

    #[test]
    #[should_panic(expected = "a_test cannot run")]
    fn a_privileged_test_fails_where_privilege_was_promised() {
        decide("a_test", Some("not root"), true);
    }
}
