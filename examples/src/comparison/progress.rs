//! What is shown while a sender sends.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::network::Network;
use crate::lines::{Now, Progress};
use crate::units::{bytes, megabits_per_second, micros, short_time};

/// How wide the bar of the progress line is, in characters.
const BAR: usize = 24;

/// Samples between two changes of the progress line.
const REDRAW: usize = 20;

/// How far the comparison has got.
pub(super) struct Course {
    /// Of one sender.
    seconds: Duration,
    /// Senders that are done.
    done: u32,
    terminal: bool,
}

/// What was seen of a sender at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Seconds since it began to send.
    pub(super) time: f64,
    /// Microseconds.
    pub(super) round_trip: u64,
    /// Bytes.
    pub(super) backlog: Option<u64>,
}

/// Notes samples, prints a line a second, and between these how far it has got.
pub(super) struct Observer<'a> {
    course: &'a mut Course,
    network: &'a Network,
    name: &'static str,
    pub(super) samples: Vec<Sample>,
    last: Duration,
    delivered: u64,
}

impl Course {
    pub(super) fn new(seconds: Duration) -> Self {
        Self {
            seconds,
            done: 0,
            terminal: io::stderr().is_terminal(),
        }
    }

    pub(super) fn begin<'a>(
        &'a mut self,
        network: &'a Network,
        name: &'static str,
    ) -> Observer<'a> {
        if self.done == 0 {
            let heading = [
                "",
                "time",
                "goodput",
                "round trip",
                "window",
                "backlog",
                "lost",
            ];
            crate::say!("\n{}", layout(heading.map(str::to_owned)));
        }
        Observer {
            course: self,
            network,
            name,
            samples: Vec::new(),
            last: Duration::ZERO,
            delivered: 0,
        }
    }

    /// The line that says how far it has got, in place of the last one.
    fn draw(&self, name: &str, elapsed: Duration) {
        if !self.terminal {
            return;
        }
        let (all, now) = (2 * self.seconds, self.seconds * self.done + elapsed);
        let share = now.as_secs_f64() / all.as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to BAR"
        )]
        let filled = ((share * BAR as f64) as usize).min(BAR);
        let bar = "#".repeat(filled) + &".".repeat(BAR - filled);
        let left = all.saturating_sub(now).as_secs();
        eprint!("\r  [{bar}] {name}, {left} s left ");
        let _ = io::stderr().flush();
    }

    fn erase(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

impl Progress for Observer<'_> {
    fn sample(&mut self, now: &Now) {
        if self.samples.len().is_multiple_of(REDRAW) {
            self.course.draw(self.name, now.elapsed);
        }
        self.samples.push(Sample {
            time: now.elapsed.as_secs_f64(),
            round_trip: micros(now.round_trip),
            backlog: self.network.backlog(),
        });
    }

    fn second(&mut self, now: &Now) {
        let delivered = now.delivered.saturating_sub(self.delivered);
        let time = now.elapsed.saturating_sub(self.last);
        (self.delivered, self.last) = (now.delivered, now.elapsed);
        let backlog = self.network.backlog();
        self.course.erase();
        crate::say!(
            "{}",
            layout([
                self.name.to_owned(),
                format!("{:.0} s", now.elapsed.as_secs_f64()),
                format!("{:.1} Mbit/s", megabits_per_second(delivered, time)),
                short_time(micros(now.round_trip)),
                bytes(now.window),
                backlog.map_or("-".to_owned(), bytes),
                now.lost.to_string(),
            ])
        );
        self.course.draw(self.name, now.elapsed);
    }
}

impl Drop for Observer<'_> {
    fn drop(&mut self) {
        self.course.done += 1;
        self.course.erase();
    }
}

fn layout([name, time, goodput, round_trip, window, backlog, lost]: [String; 7]) -> String {
    format!(
        "  {name:<8}  {time:>5}  {goodput:>13}  {round_trip:>10}  {window:>9}  {backlog:>9}  {lost:>6}"
    )
}
