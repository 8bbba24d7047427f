//! Both senders' figures, side by side.

use super::network::NetworkKind;
use super::side::{Actions, Summary};
use crate::source::Source;
use crate::units::{bytes, short_time};

/// A name, stock's value, the governed sender's.
type Row = [String; 3];

/// The table.
pub(super) fn of(sides: &[Summary; 2], source: &Source, network: NetworkKind) -> String {
    let mut rows = vec![["", "stock", "governed"].map(str::to_owned)];
    let mut row = |name: &str, value: &dyn Fn(&Summary) -> String| {
        rows.push([name.to_owned(), value(&sides[0]), value(&sides[1])]);
    };
    let known = |value: Option<u64>, text: fn(u64) -> String| value.map_or("-".to_owned(), text);

    row("packets lost", &|side| side.lost_packets.to_string());
    match network {
        NetworkKind::Uplink => {
            row("  dropped by this machine's queue", &|side| {
                known(side.dropped_by_queue, |drops| drops.to_string())
            });
            row("  no room in the receiver's buffer", &|side| {
                side.dropped_by_receiver.to_string()
            });
        }
        // There the kernel counts GSO batches.
        NetworkKind::Loopback => row("  no room in the receiver's buffer, batches", &|side| {
            side.dropped_by_receiver.to_string()
        }),
    }
    if sides.iter().any(|side| side.dropped_by_relay > 0) {
        row("  this machine was too busy", &|side| {
            side.dropped_by_relay.to_string()
        });
    }
    row("round trip over idle, median", &|side| {
        format!("+{}", short_time(side.rtt_p50_over_idle_us))
    });
    row("round trip over idle, p99", &|side| {
        format!("+{}", short_time(side.rtt_p99_over_idle_us))
    });
    row("goodput", &|side| {
        format!("{:.1} Mbit/s", side.goodput_mbps)
    });
    row("congestion window, median", &|side| bytes(side.window_p50));
    if network == NetworkKind::Uplink {
        row("backlog of the queue, median", &|side| {
            known(side.backlog_p50, bytes)
        });
        row("backlog of the queue, largest", &|side| {
            known(side.backlog_max, bytes)
        });
    }
    let mut action = |name: &str, value: &dyn Fn(&Actions) -> String| {
        row(name, &|side| {
            side.governor.as_ref().map_or("-".to_owned(), value)
        });
    };
    match network {
        NetworkKind::Uplink => {
            action("window capped by the governor", &|actions| {
                format!("{:.0} % of time", 100.0 * actions.capped)
            });
            action("  slow starts ended before a loss", &|actions| {
                actions.slow_start_exits.to_string()
            });
            action("  reductions for local drops", &|actions| {
                actions.local_drop_reductions.to_string()
            });
        }
        NetworkKind::Loopback => action("receive window reduced, times", &|actions| {
            actions.receive_reductions.to_string()
        }),
    }
    let mut text = layout(&rows);
    if source.signals().is_none() {
        text += "Without signals both are stock.\n";
    }
    text
}

fn layout(rows: &[Row]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let [names, stocks, others] = [0, 1, 2].map(width);
    let lines = rows.iter().map(|[name, stock, governed]| {
        let line = format!("  {name:<names$}  {stock:>stocks$}  {governed:>others$}");
        line.trim_end().to_owned() + "\n"
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            lost_packets: 7,
            dropped_by_queue: Some(6),
            dropped_by_receiver: 0,
            dropped_by_relay: 0,
            rtt_p50_over_idle_us: 16_000,
            rtt_p99_over_idle_us: 22_000,
            goodput_mbps: 47.0,
            window_p50: 226_000,
            backlog_p50: Some(100_000),
            backlog_max: Some(150_000),
            governor: None,
        }
    }

    #[test]
    fn columns_are_aligned_and_what_is_not_known_is_a_dash() {
        let governed = Summary {
            lost_packets: 0,
            governor: Some(Actions {
                capped: 0.98,
                local_drop_reductions: 0,
                slow_start_exits: 1,
                receive_reductions: 0,
            }),
            ..summary()
        };
        let sides = [summary(), governed];
        let table = of(&sides, &Source::None(None), NetworkKind::Uplink);
        let line = |name: &str| {
            let line = table.lines().find(|line| line.contains(name));
            line.unwrap_or_else(|| panic!("{name}: {table}"))
        };
        assert_eq!(
            line("packets lost").split_whitespace().collect::<Vec<_>>(),
            ["packets", "lost", "7", "0"]
        );
        assert!(line("capped by").ends_with("-  98 % of time"), "{table}");
        assert_eq!(line("capped by").len(), line("goodput").len(), "{table}");
        assert!(!table.contains("busy"), "{table}");
        assert!(table.contains("both are stock"), "{table}");
    }
}
