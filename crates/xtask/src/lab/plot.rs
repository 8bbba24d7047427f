//! A picture of a scenario: what stock and governed flows did over time, side by side on the same
//! scales.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::figures::Side;
use super::over_time::{Course, OverTime};

const SIZE: (u32, u32) = (1080, 1120);
const TITLE_HEIGHT: u32 = 104;

/// A course is drawn with so many spans at most: more than pixels can show makes files large.
const SPANS: usize = 190;

/// Seconds over which goodput is shown.
const GOODPUT_SPAN: f64 = 0.5;

const STOCK: RGBColor = RGBColor(213, 94, 0);
const GOVERNED: RGBColor = RGBColor(0, 114, 178);
const OTHERS: RGBColor = RGBColor(120, 120, 120);
const REFERENCE: RGBColor = RGBColor(90, 90, 90);

/// What is drawn.
pub(super) struct Picture<'a> {
    pub(super) title: String,
    /// A line on the path.
    pub(super) path: String,
    /// A line of figures, stock's and governed's.
    pub(super) headline: String,
    pub(super) idle_ms: f64,
    /// Bytes that may wait at the bottleneck in the own host; `None` if it is elsewhere.
    pub(super) queue_kb: Option<f64>,
    pub(super) stock: Half<'a>,
    pub(super) governed: Half<'a>,
}

/// One side.
#[derive(Clone)]
pub(super) struct Half<'a> {
    pub(super) over_time: &'a OverTime,
    /// Goodput of TCP beside it, Mbit/s.
    pub(super) tcp: Course,
}

/// A row of the picture: the same value of both sides.
struct Row {
    label: &'static str,
    /// A level to compare with, and what it is.
    reference: Option<(f64, &'static str)>,
    stock: Lines,
    governed: Lines,
}

/// What is drawn into one panel.
struct Lines {
    flows: Vec<Course>,
    others: Course,
}

impl From<Vec<Course>> for Lines {
    fn from(flows: Vec<Course>) -> Self {
        Self {
            flows,
            others: Course::new(),
        }
    }
}

impl Lines {
    fn highest(&self) -> f64 {
        let points = self.flows.iter().chain([&self.others]).flatten();
        points.map(|point| point.1).fold(0.0, f64::max)
    }
}

impl Picture<'_> {
    /// Draws it into a file.
    pub(super) fn draw(&self, file: &Path) -> Result<()> {
        let root = SVGBackend::new(file, SIZE).into_drawing_area();
        self.draw_on(&root)
            .and_then(|()| root.present().map_err(|error| anyhow!("{error}")))
            .map_err(|error| error.context(format!("cannot draw {}", file.display())))
    }

    fn draw_on(&self, root: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>) -> Result<()> {
        let failed = |error| anyhow!("{error}");
        root.fill(&WHITE).map_err(failed)?;
        let (head, body) = root.split_vertically(TITLE_HEIGHT);
        let text = |text: &str, size: i32, y: i32, colour: &RGBColor| {
            let style = ("sans-serif", size).into_font().color(colour);
            head.draw(&Text::new(text.to_owned(), (28, y), style))
                .map_err(failed)
        };
        text(&self.title, 24, 12, &BLACK)?;
        text(&self.path, 15, 44, &REFERENCE)?;
        text(
            &format!("medians, stock / governed:  {}", self.headline),
            16,
            68,
            &BLACK,
        )?;

        let rows = self.rows();
        let end = f64::max(self.stock.over_time.end(), self.governed.over_time.end());
        let panels = body.split_evenly((rows.len(), 2));
        for (row, panels) in rows.iter().zip(panels.chunks(2)) {
            let reference = row.reference.map_or(0.0, |reference| reference.0);
            let highest = row.stock.highest().max(row.governed.highest());
            let top = 1.15 * highest.max(reference).max(1.0);
            let sides = [
                (Side::Stock, &row.stock, STOCK),
                (Side::Governed, &row.governed, GOVERNED),
            ];
            for ((side, lines, colour), panel) in sides.into_iter().zip(panels) {
                Panel {
                    label: format!("{}: {side}", row.label),
                    reference: row.reference,
                    colour,
                    end,
                    top,
                }
                .draw(panel, lines)?;
            }
        }
        Ok(())
    }

    fn rows(&self) -> Vec<Row> {
        let both = |lines: &dyn Fn(&Half<'_>) -> Lines| (lines(&self.stock), lines(&self.governed));
        let row = |label, reference, (stock, governed)| Row {
            label,
            reference,
            stock,
            governed,
        };
        let mut rows = vec![
            row(
                "goodput, Mbit/s",
                None,
                both(&|half| Lines {
                    flows: half.over_time.goodput_courses(GOODPUT_SPAN),
                    others: half.tcp.clone(),
                }),
            ),
            row(
                "round trip, ms",
                Some((self.idle_ms, "idle path")),
                both(&|half| half.over_time.round_trips().into()),
            ),
        ];
        if let Some(queue_kb) = self.queue_kb {
            rows.push(row(
                "backlog of the queue, kB",
                Some((queue_kb, "full")),
                both(&|half| vec![half.over_time.backlog()].into()),
            ));
        }
        rows.push(row(
            "window, kB",
            None,
            both(&|half| half.over_time.windows().into()),
        ));
        rows.push(row(
            "packets lost so far",
            None,
            both(&|half| vec![half.over_time.lost()].into()),
        ));
        rows
    }
}

struct Panel {
    label: String,
    reference: Option<(f64, &'static str)>,
    colour: RGBColor,
    /// Of the time axis, seconds.
    end: f64,
    /// Of the other.
    top: f64,
}

impl Panel {
    fn draw(
        &self,
        area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
        lines: &Lines,
    ) -> Result<()> {
        let failed = |error| anyhow!("{error}");
        let mut chart = ChartBuilder::on(area)
            .caption(
                &self.label,
                ("sans-serif", 17).into_font().color(&self.colour),
            )
            .margin_left(8)
            .margin_right(22)
            .margin_bottom(4)
            .x_label_area_size(22)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..self.end, 0.0..self.top)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .axis_style(BLACK.mix(0.4))
            .x_labels(6)
            .y_labels(5)
            .x_label_formatter(&|time| format!("{time:.0} s"))
            .y_label_formatter(&|value| short(*value))
            .label_style(("sans-serif", 13))
            .draw()
            .map_err(failed)?;
        if let Some((level, what)) = self.reference {
            let dashes = [(0.0, level), (self.end, level)];
            let style = REFERENCE.stroke_width(1);
            chart
                .draw_series(DashedLineSeries::new(dashes, 4, 4, style))
                .map_err(failed)?;
            let style = ("sans-serif", 12).into_font().color(&REFERENCE);
            // Where the course is not: above a full queue, below the idle path.
            let below = if level > 0.8 * self.top { -14 } else { 3 };
            let place = (0.9 * self.end, level);
            let label = EmptyElement::at(place) + Text::new(what, (0, below), style);
            chart.draw_series([label]).map_err(failed)?;
        }
        let others = LineSeries::new(thinned(&lines.others), OTHERS.stroke_width(2));
        chart.draw_series(others).map_err(failed)?;
        if let Some(&(_, value)) = lines.others.get(lines.others.len() / 2) {
            let style = ("sans-serif", 13).into_font().color(&OTHERS);
            let place = (0.47 * self.end, value);
            let label = EmptyElement::at(place) + Text::new("TCP", (0, -17), style);
            chart.draw_series([label]).map_err(failed)?;
        }
        // Many flows are drawn through each other: each as faint as they are many.
        let strength = if lines.flows.len() > 1 { 0.55 } else { 1.0 };
        for flow in &lines.flows {
            let style = self.colour.mix(strength).stroke_width(2);
            chart
                .draw_series(LineSeries::new(thinned(flow), style))
                .map_err(failed)?;
        }
        Ok(())
    }
}

/// A number for an axis: thousands as `12k`.
fn short(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{:.0}k", value / 1e3)
    } else if value >= 10.0 || value == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

/// The same course with less points: of each span of time the least and the greatest.
fn thinned(course: &Course) -> Course {
    let span = course.len().div_ceil(SPANS);
    if span <= 2 {
        return course.clone();
    }
    let ends = course.chunks(span).flat_map(|points| {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let least = points.iter().min_by(by_value);
        let greatest = points.iter().max_by(by_value);
        let mut ends: Course = least.into_iter().chain(greatest).copied().collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends.dedup();
        ends
    });
    ends.collect()
}

#[cfg(test)]
mod tests {
    use examples::trace;

    use super::*;

    #[test]
    fn a_thinned_course_keeps_its_peaks() {
        let mut course: Course = (0..10_000).map(|n| (f64::from(n), 1.0)).collect();
        course[4321].1 = 50.0;
        course[4330].1 = -50.0;
        let thinned = thinned(&course);
        assert!(thinned.len() <= 2 * SPANS, "{}", thinned.len());
        for extreme in [50.0, -50.0] {
            assert!(thinned.iter().any(|point| point.1 == extreme));
        }
        assert!(thinned.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn a_picture_is_small_and_names_both_sides() {
        let rows = (0..2000_u32).map(|step| trace::Row {
            t: f64::from(step) / 100.0,
            window: u64::from(step % 700) * 1000,
            rtt_us: 20_000 + u64::from(step % 90) * 300,
            lost_packets: u64::from(step / 400) * 70,
            delivered_bytes: u64::from(step) * 60_000,
            backlog: Some(u64::from(step * 37 % 150) * 1000),
            ..trace::Row::default()
        });
        let over_time = OverTime::new(rows.collect());
        let half = Half {
            over_time: &over_time,
            tcp: vec![(0.25, 3.0), (0.5, 4.0)],
        };
        let picture = Picture {
            title: "a title".into(),
            path: "a path".into(),
            headline: "lost 1 / 2".into(),
            idle_ms: 20.0,
            queue_kb: Some(150.0),
            stock: half.clone(),
            governed: half,
        };
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("picture.svg");
        picture.draw(&file).unwrap();
        let drawn = std::fs::read_to_string(&file).unwrap();
        assert!(drawn.len() < 100_000, "{} bytes", drawn.len());
        for part in [
            "a title",
            "round trip, ms: stock",
            "round trip, ms: governed",
            "TCP",
        ] {
            assert!(drawn.contains(part), "{part}");
        }
    }
}
