//! What traces tell: figures of parts of a run, and courses to be plotted.

use std::collections::BTreeMap;

use examples::trace::Row;

use super::figures::Summary;

/// The trace of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct OverTime {
    /// In the order of time; the flows of one time follow each other.
    rows: Vec<Row>,
}

/// Points of a course: seconds, and a value.
pub(super) type Course = Vec<(f64, f64)>;

impl OverTime {
    pub(super) fn new(rows: Vec<Row>) -> Self {
        Self { rows }
    }

    /// The time of the last row, seconds.
    pub(super) fn end(&self) -> f64 {
        self.rows.last().map_or(0.0, |row| row.t)
    }

    fn flows(&self) -> u16 {
        self.rows.iter().map(|row| row.flow + 1).max().unwrap_or(0)
    }

    fn of_flow(&self, flow: u16) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.flow == flow)
    }

    /// By how much a total of each flow grew between two times.
    fn growth(&self, from: f64, to: f64, total: impl Fn(&Row) -> u64) -> Vec<u64> {
        let at = |flow, time: f64| {
            let rows = self.of_flow(flow).take_while(|row| row.t <= time);
            rows.last().map_or(0, &total)
        };
        let flows = 0..self.flows();
        flows
            .map(|flow| at(flow, to).saturating_sub(at(flow, from)))
            .collect()
    }

    /// Mbit/s of each flow between two times.
    pub(super) fn goodputs(&self, from: f64, to: f64) -> Vec<f64> {
        let delivered = self.growth(from, to, |row| row.delivered_bytes);
        let rate = |bytes| bytes as f64 * 8e-6 / (to - from);
        delivered.into_iter().map(rate).collect()
    }

    /// Mbit/s of all flows after a time. From one report of a receiver to another: what the trace
    /// shows between them is old.
    pub(super) fn steady_goodput(&self, from: f64) -> f64 {
        let rates = (0..self.flows()).map(|flow| {
            let rows = self.of_flow(flow).skip_while(|row| row.t < from);
            let mut rows: Vec<(f64, u64)> = rows.map(|row| (row.t, row.delivered_bytes)).collect();
            rows.dedup_by_key(|(_, delivered)| *delivered);
            // What the first row shows was reported some time before.
            match rows.as_slice() {
                [_, (begin, before), .., (end, after)] => {
                    (after - before) as f64 * 8e-6 / (end - begin)
                }
                _ => 0.0,
            }
        });
        rates.sum()
    }

    /// The median round trip between two times, ms; `None` without rows there.
    pub(super) fn round_trip(&self, from: f64, to: f64) -> Option<f64> {
        let rows = self.rows.iter();
        let within = rows.filter(|row| (from..to).contains(&row.t));
        let summary = Summary::of(within.map(|row| row.rtt_us as f64 / 1e3));
        summary.map(|summary| summary.median)
    }

    /// How long after `from` all flows together first reach a rate, Mbit/s, over half a second;
    /// `None` if they never do.
    pub(super) fn time_to_reach(&self, from: f64, rate: f64) -> Option<f64> {
        const SPAN: f64 = 0.5;
        let delivered = self.sum(|row| row.delivered_bytes);
        let mut before = delivered.iter();
        for &(time, now) in delivered.iter().filter(|(time, _)| *time >= from + SPAN) {
            let &(began, then) = before.find(|(began, _)| *began >= time - SPAN)?;
            if (now - then) * 8e-6 / (time - began).max(SPAN / 2.0) >= rate {
                return Some(time - from);
            }
        }
        None
    }

    /// Packets lost between two times, all flows together.
    pub(super) fn lost_between(&self, from: f64, to: f64) -> f64 {
        let lost = self.growth(from, to, |row| row.lost_packets);
        lost.iter().sum::<u64>() as f64
    }

    /// The most packets that were lost within a second that begins at `from` or later.
    pub(super) fn worst_second(&self, from: f64) -> f64 {
        let lost = self.sum(|row| row.lost_packets);
        let lost: Course = lost.into_iter().filter(|(time, _)| *time >= from).collect();
        let mut ends = 0;
        let mut worst = 0.0_f64;
        for &(begin, before) in &lost {
            while ends + 1 < lost.len() && lost[ends + 1].0 <= begin + 1.0 {
                ends += 1;
            }
            worst = worst.max(lost[ends].1 - before);
        }
        worst
    }

    /// The longest time in which nothing arrived, seconds; without the flows' beginning.
    pub(super) fn stall(&self) -> f64 {
        let delivered = self.sum(|row| row.delivered_bytes);
        let mut longest = 0.0_f64;
        let mut last: Option<(f64, f64)> = None;
        for &(time, bytes) in &delivered {
            match last {
                Some((since, before)) if bytes <= before => longest = longest.max(time - since),
                None if bytes == 0.0 => {}
                _ => last = Some((time, bytes)),
            }
        }
        longest
    }

    /// The sum of a value over the flows at each time.
    fn sum(&self, value: impl Fn(&Row) -> u64) -> Course {
        let mut latest: BTreeMap<u16, u64> = BTreeMap::new();
        let mut course: Course = Vec::new();
        for row in &self.rows {
            latest.insert(row.flow, value(row));
            let sum = latest.values().sum::<u64>() as f64;
            match course.last_mut() {
                Some(last) if last.0 == row.t => last.1 = sum,
                _ => course.push((row.t, sum)),
            }
        }
        course
    }

    /// Packets lost so far, all flows together.
    pub(super) fn lost(&self) -> Course {
        self.sum(|row| row.lost_packets)
    }

    /// Total backlog of the host's queue, kB; empty without signals.
    pub(super) fn backlog(&self) -> Course {
        let rows = self.of_flow(0);
        let rows = rows.filter_map(|row| Some((row.t, row.backlog? as f64 / 1e3)));
        rows.collect()
    }

    /// A course of each flow.
    fn each(&self, value: impl Fn(&Row) -> f64) -> Vec<Course> {
        let flow = |flow| self.of_flow(flow).map(|row| (row.t, value(row))).collect();
        (0..self.flows()).map(flow).collect()
    }

    /// The window of each flow, kB.
    pub(super) fn windows(&self) -> Vec<Course> {
        self.each(|row| row.window as f64 / 1e3)
    }

    /// The round trip of each flow, ms.
    pub(super) fn round_trips(&self) -> Vec<Course> {
        self.each(|row| row.rtt_us as f64 / 1e3)
    }

    /// Goodput of each flow over spans of so many seconds, Mbit/s.
    pub(super) fn goodput_courses(&self, span: f64) -> Vec<Course> {
        let mut courses = vec![Course::new(); usize::from(self.flows())];
        let spans = (1..).map(|n| f64::from(n) * span);
        for to in spans.take_while(|to| *to <= self.end()) {
            let goodputs = self.goodputs(to - span, to);
            for (course, goodput) in courses.iter_mut().zip(goodputs) {
                course.push((to - span / 2.0, goodput));
            }
        }
        courses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two flows for ten seconds, a row each 10 ms: the first delivers 10 Mbit/s from the start,
    /// the second 30 Mbit/s from 5 s on. The first loses 7 packets at 6 s.
    fn trace() -> OverTime {
        let rows = (0_u32..=1000).flat_map(|step| {
            let t = f64::from(step) / 100.0;
            let second = u64::from(step.saturating_sub(500));
            let flow = |flow, delivered_bytes, rtt_us| Row {
                t,
                flow,
                delivered_bytes,
                rtt_us,
                lost_packets: if flow == 0 && step >= 600 { 7 } else { 0 },
                ..Row::default()
            };
            [
                flow(
                    0,
                    u64::from(step) * 12_500,
                    if step < 500 { 20_000 } else { 30_000 },
                ),
                flow(1, second * 37_500, 25_000),
            ]
        });
        OverTime::new(rows.collect())
    }

    #[track_caller]
    fn assert_near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 0.05, "{value}, not {expected}");
    }

    #[test]
    fn goodput_is_by_flow_and_time() {
        let goodputs = trace().goodputs(6.0, 9.0);
        assert_near(goodputs[0], 10.0);
        assert_near(goodputs[1], 30.0);
        assert_near(trace().goodputs(1.0, 4.0)[1], 0.0);
    }

    #[test]
    fn steady_goodput_is_of_all_flows_and_between_reports() {
        assert_near(trace().steady_goodput(6.0), 40.0);
        // The receiver reports every 20 ms, and at the end all that still waited.
        let rows = (0_u32..=100).map(|step| Row {
            t: f64::from(step) / 100.0,
            delivered_bytes: u64::from(step / 2) * 25_000,
            ..Row::default()
        });
        assert_near(OverTime::new(rows.collect()).steady_goodput(0.51), 10.0);
        assert_near(OverTime::default().steady_goodput(0.0), 0.0);
    }

    #[test]
    fn the_round_trip_of_a_part_is_its_median() {
        assert_eq!(trace().round_trip(0.0, 4.99), Some(22.5));
        assert_eq!(trace().round_trip(11.0, 12.0), None);
    }

    #[test]
    fn a_rate_is_reached_when_half_a_second_has_it() {
        // 40 Mbit/s from 5 s on: nine tenths of a half second are enough for 37.
        let time = trace().time_to_reach(5.0, 37.0).unwrap();
        assert!((0.5..=0.6).contains(&time), "{time}");
        assert_eq!(trace().time_to_reach(5.0, 50.0), None);
    }

    #[test]
    fn the_worst_second_is_searched_from_a_time_on() {
        assert_eq!(trace().worst_second(0.0), 7.0);
        assert_eq!(trace().worst_second(6.5), 0.0);
    }

    #[test]
    fn a_stall_is_when_nothing_arrives() {
        assert!(trace().stall() < 0.02);
        let rows = [(0.0, 0), (1.0, 5), (1.5, 5), (2.5, 5), (2.6, 9)];
        let rows = rows.map(|(t, delivered_bytes)| Row {
            t,
            delivered_bytes,
            ..Row::default()
        });
        assert_near(OverTime::new(rows.into()).stall(), 1.5);
    }

    #[test]
    fn courses_have_a_point_for_each_time() {
        let trace = trace();
        assert_eq!(trace.lost().len(), 1001);
        assert_eq!(trace.windows().len(), 2);
        assert_eq!(trace.goodput_courses(0.5)[0].len(), 20);
        assert!(trace.backlog().is_empty());
    }
}
