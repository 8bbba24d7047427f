use std::sync::OnceLock;

use crate::{
    path::{Path, PathConfig},
    user_namespace::refused,
};

/// Why paths cannot be made here and what would change it; `None` when they can.
///
/// Found out by trying: a namespace, the kinds of devices and queues, and /dev/net/tun. The answer is kept for the
/// life of the process.
#[must_use]
pub fn missing_privilege() -> Option<&'static str> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let missing = MISSING.get_or_init(|| try_everything().err()).as_deref();
    // What was refused first is the cause.
    missing.map(|missing| refused().unwrap_or(missing))
}

fn try_everything() -> Result<(), String> {
    let config = PathConfig::local_queue();
    Path::new(&config).map(drop).map_err(|e| e.to_string())
}
