//! Measures figures under variations of a law, and writes the table.

use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use netlab::sim::{Outcome, Scenario};

/// Something measured in a scenario.
pub(crate) struct Figure<C> {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// What changes less is not worth telling.
    pub(crate) matters: f64,
    /// Runs that are averaged, each with a seed of its own.
    pub(crate) runs: u32,
    pub(crate) scenario: fn(C) -> Scenario,
    pub(crate) measure: fn(&Outcome) -> f64,
}

impl<C> Figure<C> {
    /// Of the scenario's first seed alone.
    pub(crate) fn of_one_run(
        name: &'static str,
        unit: &'static str,
        matters: f64,
        scenario: fn(C) -> Scenario,
        measure: fn(&Outcome) -> f64,
    ) -> Self {
        Self {
            name,
            unit,
            matters,
            runs: 1,
            scenario,
            measure,
        }
    }

    fn of<S: Subject<Control = C>>(&self, subject: &S) -> f64 {
        let run = |seed: u32| {
            let mut scenario = (self.scenario)(subject.control());
            scenario.seed = seed.into();
            (self.measure)(&scenario.run())
        };
        (1..=self.runs).map(run).sum::<f64>() / f64::from(self.runs)
    }
}

/// A law with its numbers.
pub(crate) trait Subject: Sync {
    /// What brings it into a scenario.
    type Control;

    /// Makes that for a run.
    fn control(&self) -> Self::Control;
}

/// A law with one number changed.
pub(crate) struct Variation<S> {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) subject: S,
}

impl<S> Variation<S> {
    /// With none changed.
    pub(crate) fn standard(subject: S) -> Self {
        Self {
            name: "standard".into(),
            value: String::new(),
            subject,
        }
    }
}

/// Measures all figures under all variations, of which the first is the standard and then two each
/// belong together, and prints which of them changed.
pub(crate) fn sensitivity<S: Subject>(
    figures: &[Figure<S::Control>],
    variations: &[Variation<S>],
) -> Result<String, std::fmt::Error> {
    let rows = in_parallel(variations, |variation| {
        let row = figures.iter().map(|figure| figure.of(&variation.subject));
        row.collect()
    });
    table(figures, variations, &rows)
}

/// Measures all figures with each mechanism switched off, after the standard, and tells which of
/// them changed.
pub(crate) fn ablation<S: Subject>(
    figures: &[Figure<S::Control>],
    variations: &[Variation<S>],
) -> Result<String, std::fmt::Error> {
    let rows: Vec<Vec<f64>> = in_parallel(variations, |variation| {
        let row = figures.iter().map(|figure| figure.of(&variation.subject));
        row.collect()
    });
    let standard = &rows[0];
    let mut text = String::new();
    writeln!(text, "| mechanism | without it | what changes |")?;
    writeln!(text, "| --- | --- | --- |")?;
    for (variation, row) in variations[1..].iter().zip(&rows[1..]) {
        let Variation { name, value, .. } = variation;
        let changed = figures.iter().zip(standard).zip(row);
        let changed: Vec<String> = changed
            .filter(|((figure, standard), value)| {
                let change = (*value - **standard).abs();
                change >= figure.matters || change.is_nan()
            })
            .map(|((figure, standard), value)| {
                let Figure { name, unit, .. } = figure;
                format!("{name} {standard:.2} to {value:.2} {unit}")
                    .trim_end()
                    .into()
            })
            .collect();
        let changed = match &changed[..] {
            [] => "nothing".into(),
            changed => changed.join(", "),
        };
        writeln!(text, "| {name} | {value} | {changed} |")?;
    }
    Ok(text)
}

/// What comes of each item, in their order.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else {
                return done;
            };
            done.push((index, work(item)));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut results: Vec<(usize, R)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(take)).collect();
        let results = workers.into_iter();
        results
            .flat_map(|worker| worker.join().expect("a worker does not panic"))
            .collect()
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

fn table<S: Subject>(
    figures: &[Figure<S::Control>],
    variations: &[Variation<S>],
    rows: &[Vec<f64>],
) -> Result<String, std::fmt::Error> {
    let standard = &rows[0];
    let mut text = String::new();
    writeln!(text, "Measured with the standard numbers:\n")?;
    writeln!(text, "| figure | standard | shown below from a change of |")?;
    writeln!(text, "| --- | --- | --- |")?;
    for (figure, value) in figures.iter().zip(standard) {
        let Figure { name, unit, .. } = figure;
        writeln!(text, "| {name} | {value:.2} {unit} | {} |", figure.matters)?;
    }
    writeln!(text, "\nWith one number changed:\n")?;
    writeln!(text, "| number | standard | half | double |")?;
    writeln!(text, "| --- | --- | --- | --- |")?;
    for (pair, values) in variations[1..].chunks(2).zip(rows[1..].chunks(2)) {
        let Variation { name, value, .. } = &pair[0];
        let changes = values.iter().map(|row| changes(figures, standard, row));
        let changes: Vec<String> = changes.collect();
        writeln!(text, "| `{name}` | {value} | {} |", changes.join(" | "))?;
    }
    Ok(text)
}

/// Which figures changed, and to what.
fn changes<C>(figures: &[Figure<C>], standard: &[f64], row: &[f64]) -> String {
    let changed = figures.iter().zip(standard).zip(row);
    let changed: Vec<String> = changed
        .filter(|((figure, standard), value)| {
            let change = (*value - **standard).abs();
            change >= figure.matters || change.is_nan()
        })
        .map(|((figure, _), value)| format!("{} {value:.2}", figure.name))
        .collect();
    if changed.is_empty() {
        "–".into()
    } else {
        changed.join(", ")
    }
}
