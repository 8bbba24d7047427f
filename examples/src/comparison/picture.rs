//! Both senders over time, drawn into a file.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::network::Network;
use super::side::Side;

const SIZE: (u32, u32) = (900, 520);

/// Of the two colours, the one for stock is the warmer (Okabe and Ito's palette).
const STOCK: RGBColor = RGBColor(213, 94, 0);
const GOVERNED: RGBColor = RGBColor(0, 114, 178);
const GREY: RGBColor = RGBColor(90, 90, 90);

/// Draws the round trip and, where there is a queue, its backlog.
pub(super) fn draw(file: &Path, sides: [&Side; 2], network: &Network) -> Result<()> {
    let mut panels = vec![Panel {
        label: "round trip, ms",
        limit: None,
        lines: sides.map(|side| {
            let samples = side.samples.iter();
            samples
                .map(|sample| (sample.time, sample.round_trip as f64 / 1e3))
                .collect()
        }),
    }];
    if let Some(limit) = network.queue_limit() {
        panels.push(Panel {
            label: "backlog of this machine's queue, kB",
            limit: Some(f64::from(limit) / 1e3),
            lines: sides.map(|side| {
                let samples = side.samples.iter();
                let known =
                    samples.filter_map(|sample| Some((sample.time, sample.backlog? as f64 / 1e3)));
                known.collect()
            }),
        });
    }
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    let drawn = || -> Result<()> {
        root.fill(&WHITE).map_err(failed)?;
        for (panel, area) in panels.iter().zip(root.split_evenly((panels.len(), 1))) {
            panel.draw(&area)?;
        }
        root.present().map_err(failed)
    };
    drawn().map_err(|error| error.context(format!("cannot draw {}", file.display())))
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}

struct Panel {
    label: &'static str,
    /// What is dropped beyond.
    limit: Option<f64>,
    /// Stock's and the governed sender's.
    lines: [Vec<(f64, f64)>; 2],
}

impl Panel {
    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>) -> Result<()> {
        let points = || self.lines.iter().flatten();
        let end = points().map(|point| point.0).fold(0.1, f64::max);
        let top = points()
            .map(|point| point.1)
            .fold(self.limit.unwrap_or(1.0), f64::max);
        let mut chart = ChartBuilder::on(area)
            .caption(self.label, ("sans-serif", 16))
            .margin(12)
            .x_label_area_size(28)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..end, 0.0..1.3 * top)
            .map_err(failed)?;
        let mut mesh = chart.configure_mesh();
        mesh.disable_x_mesh()
            .light_line_style(WHITE)
            .x_desc("seconds");
        mesh.draw().map_err(failed)?;
        if let Some(limit) = self.limit {
            let line = LineSeries::new([(0.0, limit), (end, limit)], GREY);
            let drawn = chart.draw_series(line).map_err(failed)?;
            drawn
                .label("limit")
                .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], GREY));
        }
        let named = [("stock", STOCK), ("governed", GOVERNED)];
        for (line, (name, colour)) in self.lines.iter().zip(named) {
            let series = LineSeries::new(line.iter().copied(), colour.stroke_width(2));
            let drawn = chart.draw_series(series).map_err(failed)?;
            let legend =
                move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2));
            drawn.label(name).legend(legend);
        }
        // Above what is drawn.
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", 13))
            .draw()
            .map_err(failed)
    }
}
