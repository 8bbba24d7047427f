//! The best source of signals that works here.

use std::sync::Arc;

use ebpf_congestion_signals::SignalSource;

/// Loads probes where that is permitted; else why not.
#[cfg(all(feature = "ebpf", target_os = "linux"))]
pub(crate) fn source() -> Result<Arc<dyn SignalSource>, String> {
    use std::error::Error;

    match ebpf_congestion_signals::EbpfSource::load() {
        Ok(source) => Ok(Arc::new(source)),
        Err(error) => {
            let mut why = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                why = format!("{why}: {error}");
                cause = error.source();
            }
            Err(why)
        }
    }
}

/// None.
#[cfg(not(all(feature = "ebpf", target_os = "linux")))]
pub(crate) fn source() -> Result<Arc<dyn SignalSource>, String> {
    Err("probes are for Linux, with this crate's feature `ebpf`".to_owned())
}
