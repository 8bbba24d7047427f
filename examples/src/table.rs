//! Tables of text, aligned to the right.

use std::fmt;

/// Rows under a header, as wide as their content.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(header: impl AsRef<[&'static str]>) -> Self {
        let header = header.as_ref().iter();
        Self {
            rows: vec![header.map(|&title| title.to_owned()).collect()],
        }
    }

    /// Adds a row; it should have as many cells as the header.
    pub fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }

    /// Whether there is no row but the header.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "  {cell:>width$}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_as_wide_as_its_widest_cell() {
        let mut table = Table::new(["flow", "µs"]);
        assert!(table.is_empty());
        table.row(["1".into(), "123456".into()]);
        assert_eq!(table.to_string(), "  flow      µs\n     1  123456\n");
    }
}
