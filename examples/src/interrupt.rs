//! An end asked for from outside.

use anyhow::Context;

/// Resolves when the program is asked to end: by Ctrl-C, or by SIGTERM where there is one.
///
/// From its first poll on the process no longer ends by itself when asked.
pub async fn requested() -> anyhow::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        tokio::select! {
            asked = tokio::signal::ctrl_c() => asked.context("cannot wait for Ctrl-C"),
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c()
        .await
        .context("cannot wait for Ctrl-C")
}
