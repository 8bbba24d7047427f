//! Both senders over time, drawn with characters.

use std::env;

use super::network::Network;
use super::progress::Sample;
use super::side::Side;
use crate::units::{bytes, short_time};

/// Columns of one sender's chart, and its lines.
const COLUMNS: usize = 30;
const LINES: usize = 5;

/// What fills a character to so many eighths.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The round trip and, where there is a queue, its backlog.
pub(super) fn of(sides: [&Side; 2], network: &Network) -> String {
    let round_trip = |sample: &Sample| Some(sample.round_trip);
    let mut text = chart("round trip", sides, round_trip, short_time, 0);
    if let Some(limit) = network.queue_limit() {
        text.push('\n');
        text += &chart(
            "backlog",
            sides,
            |sample| sample.backlog,
            bytes,
            limit.into(),
        );
    }
    text
}

/// Both sides on one scale, which reaches at least to `least`.
fn chart(
    name: &str,
    sides: [&Side; 2],
    value: impl Fn(&Sample) -> Option<u64>,
    label: fn(u64) -> String,
    least: u64,
) -> String {
    let courses = sides.map(|side| columns(&side.samples, &value));
    let most = courses
        .iter()
        .flatten()
        .copied()
        .max()
        .unwrap_or(0)
        .max(least)
        .max(1);
    let width = label(most).chars().count().max(name.chars().count());
    let mut text = format!("  {name:<width$}  {:<COLUMNS$}    governed\n", "stock");
    let unicode = is_unicode();
    for line in (0..LINES).rev() {
        let label = match line {
            _ if line == LINES - 1 => label(most),
            0 => "0".to_owned(),
            _ => String::new(),
        };
        let [stock, governed] = courses.each_ref().map(|course| -> String {
            course
                .iter()
                .map(|value| cell(*value, most, line, unicode))
                .collect()
        });
        text += format!("  {label:>width$} |{stock:<COLUMNS$}   |{governed}").trim_end();
        text.push('\n');
    }
    text
}

/// The highest value in each column's time.
fn columns(samples: &[Sample], value: impl Fn(&Sample) -> Option<u64>) -> Vec<u64> {
    let end = samples.last().map_or(0.0, |sample| sample.time);
    let mut columns = vec![0; COLUMNS];
    for sample in samples {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to COLUMNS"
        )]
        let column = (sample.time / end.max(1e-9) * COLUMNS as f64) as usize;
        let highest = &mut columns[column.min(COLUMNS - 1)];
        *highest = (*highest).max(value(sample).unwrap_or(0));
    }
    columns
}

/// The character of a column in a line; lines are counted from below.
fn cell(value: u64, most: u64, line: usize, unicode: bool) -> char {
    let steps = if unicode { 8 } else { 1 };
    let full = (LINES * steps) as u64;
    let filled = (value.min(most) * full).div_ceil(most);
    let filled = usize::try_from(filled)
        .unwrap_or(0)
        .saturating_sub(line * steps)
        .min(steps);
    match (unicode, filled) {
        (true, filled) => BLOCKS[filled],
        (false, 0) => ' ',
        (false, _) => '#',
    }
}

/// Whether the terminal shows more than ASCII, as far as the locale says.
fn is_unicode() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| {
        let value = env::var(name).ok()?;
        (!value.is_empty()).then_some(value)
    });
    let set = set.unwrap_or_default().to_ascii_lowercase();
    set.contains("utf-8") || set.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_filled_in_proportion_from_below() {
        let column =
            |value| -> String { (0..LINES).map(|line| cell(value, 40, line, true)).collect() };
        assert_eq!(column(0), "     ");
        assert_eq!(column(40), "█████");
        assert_eq!(column(12), "█▄   ");
        assert_eq!(column(1), "▁    ");
        let plain: String = (0..LINES).map(|line| cell(12, 40, line, false)).collect();
        assert_eq!(plain, "##   ");
    }

    #[test]
    fn a_column_shows_the_highest_of_its_time() {
        let sample = |time, round_trip| Sample {
            time,
            round_trip,
            backlog: None,
        };
        let samples = [sample(0.0, 5), sample(0.001, 9), sample(1.0, 3)];
        let columns = columns(&samples, |sample| Some(sample.round_trip));
        assert_eq!((columns[0], columns[COLUMNS - 1]), (9, 3));
        assert_eq!(columns.iter().sum::<u64>(), 12);
    }
}
