//! Both senders' figures, side by side.

use super::side::Summary;
use crate::args::Switch;
use crate::source::Source;
use crate::units::{bytes, short_time};

/// The table, with what the governor did below it.
pub(super) fn of(sides: &[Summary; 2], source: &Source) -> String {
    let mut rows: Vec<[String; 3]> =
        vec![["".to_owned(), "stock".to_owned(), "governed".to_owned()]];
    let mut row = |name: &str, value: &dyn Fn(&Summary) -> String| {
        rows.push([name.to_owned(), value(&sides[0]), value(&sides[1])]);
    };
    let known = |value: Option<u64>, text: fn(u64) -> String| value.map_or("-".to_owned(), text);
    row("packets lost", &|side| side.lost_packets.to_string());
    row("  dropped by this machine's queue", &|side| {
        known(side.dropped_by_queue, |n| n.to_string())
    });
    row("  no room in the receiver's buffer", &|side| {
        side.dropped_by_receiver.to_string()
    });
    if sides.iter().any(|side| side.dropped_by_relay > 0) {
        row("  the machine was too busy", &|side| {
            side.dropped_by_relay.to_string()
        });
    }
    row("round trip over idle, median", &|side| {
        format!("+{}", short_time(side.round_trip_p50_over_idle))
    });
    row("round trip over idle, p99", &|side| {
        format!("+{}", short_time(side.round_trip_p99_over_idle))
    });
    row("goodput", &|side| {
        format!("{:.1} Mbit/s", side.goodput_mbps)
    });
    row("congestion window, median", &|side| bytes(side.window_p50));
    if sides.iter().any(|side| side.backlog_p50.is_some()) {
        row("backlog of the queue, median", &|side| {
            known(side.backlog_p50, bytes)
        });
        row("backlog of the queue, largest", &|side| {
            known(side.backlog_max, bytes)
        });
    }
    row(
        "window held back by the governor",
        &|side| match side.governed {
            Switch::Off => "-".to_owned(),
            Switch::On => format!(
                "{:.1} of {:.1} s",
                side.actions.capped_ms as f64 / 1e3,
                side.seconds
            ),
        },
    );
    row("  reductions, its own drops", &|side| match side.governed {
        Switch::Off => "-".to_owned(),
        Switch::On => side.actions.local_drop_reductions.to_string(),
    });
    row("  slow starts ended early", &|side| match side.governed {
        Switch::Off => "-".to_owned(),
        Switch::On => side.actions.slow_start_exits.to_string(),
    });
    let mut text = layout(&rows);
    if source.signals().is_none() {
        text += "Without signals there is nothing to govern by: both are stock.\n";
    }
    text
}

fn layout(rows: &[[String; 3]]) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths = [0, 1, 2].map(width);
    let mut text = String::new();
    for [name, stock, governed] in rows {
        let line = format!(
            "  {name:<0$}  {stock:>1$}  {governed:>2$}",
            widths[0], widths[1], widths[2]
        );
        text += line.trim_end();
        text.push('\n');
    }
    text
}
