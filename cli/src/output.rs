//! Writing for people and for programs.

use anyhow::Context as _;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Writes one JSON object and ends the line. Flushed at once: whoever reads it follows along.
pub(crate) fn json_line(out: &mut dyn Write, value: &impl Serialize) -> anyhow::Result<()> {
    let line = serde_json::to_string(value).context("cannot write the report as JSON")?;
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Returns whether standard output should be coloured: a terminal, and the user did not object
/// (<https://no-color.org>: any value but the empty one objects).
pub(crate) fn colour_wanted() -> bool {
    let objects = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    io::stdout().is_terminal() && !objects && !dumb
}

/// Rounds for a report: the digits that are left out are noise.
pub(crate) fn round(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}

/// A table for people: the first column is text, the others are numbers and stand flush right.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self {
            rows: vec![header.iter().map(|&name| name.into()).collect()],
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => line.push_str(&format!("{cell:<width$}")),
                    _ => line.push_str(&format!("  {cell:>width$}")),
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_what_is_known() {
        assert_eq!(round(1.25, 1), 1.3);
        assert_eq!(round(-0.04, 1), -0.0);
        assert_eq!(round(149_999.6, 0), 150_000.0);
    }

    #[test]
    fn tables_line_up() {
        let mut table = Table::new(&["case", "µs", "per s"]);
        table.row(vec!["request".into(), "9".into(), "100000".into()]);
        table.row(vec!["join".into(), "12345".into()]);
        let mut out = Vec::new();
        table.print(&mut out).expect("a vector takes everything");
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(
            text,
            "case        µs   per s\nrequest      9  100000\njoin     12345\n"
        );
    }

    #[test]
    fn a_json_line_is_one_line() {
        let mut out = Vec::new();
        json_line(&mut out, &serde_json::json!({"text": "a\nb"})).expect("a vector takes everything");
        assert_eq!(out, b"{\"text\":\"a\\nb\"}\n");
    }
}
