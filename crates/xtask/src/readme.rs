//! What commands write into README.md.

use anyhow::{Context, Result};

/// README.md with this text between two lines that mark its place.
pub(crate) fn replace(readme: &str, marks: [&str; 2], text: &str) -> Result<String> {
    let [begin, end] = marks;
    let (before, rest) = readme
        .split_once(begin)
        .with_context(|| format!("README.md has no line {begin}"))?;
    let (_, after) = rest
        .split_once(end)
        .with_context(|| format!("README.md has no line {end} behind {begin}"))?;
    Ok(format!("{before}{begin}\n{text}\n{end}{after}"))
}
