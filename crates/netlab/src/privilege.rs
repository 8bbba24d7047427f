use std::{fs::OpenOptions, sync::OnceLock};

use crate::namespace::Namespace;

/// Why paths cannot be made here and what would change it; `None` when they can.
///
/// Found out by trying: a namespace, `ip`, `tc` and the TUN device. The answer is kept for the
/// life of the process.
#[must_use]
pub fn missing_privilege() -> Option<&'static str> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    MISSING.get_or_init(|| try_everything().err()).as_deref()
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
