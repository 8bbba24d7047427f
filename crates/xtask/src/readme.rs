//! What commands write into documents.

use anyhow::{Context, Result};

/// A document with this text between two lines that mark its place.
pub(crate) fn replace(document: &str, marks: [&str; 2], text: &str) -> Result<String> {
    let [begin, end] = marks;
    let (before, rest) = document
        .split_once(begin)
        .with_context(|| format!("there is no line {begin}"))?;
    let (_, after) = rest
        .split_once(end)
        .with_context(|| format!("there is no line {end} behind {begin}"))?;
    Ok(format!("{before}{begin}\n{text}\n{end}{after}"))
}
