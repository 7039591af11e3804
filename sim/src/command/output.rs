//! Writing for people and for programs.

use serde::Serialize;
use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

/// Writes one JSON object and ends the line. Flushed at once: whoever reads it follows along.
pub(crate) fn json_line(out: &mut dyn Write, value: &impl Serialize) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Serializes a 64-bit number as a string: many readers of JSON are only exact up to 2^53.
pub(crate) fn as_string<S: serde::Serializer>(
    value: &impl std::fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Returns a trace hash as text.
pub(crate) fn hash(value: u64) -> String {
    format!("{value:016x}")
}

/// Rounds to so many significant digits: the others are noise.
pub(crate) fn significant(value: f64, digits: i32) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let shift = digits - 1 - value.abs().log10().floor() as i32;
    let factor = 10_f64.powi(shift.abs());
    match shift >= 0 {
        true => (value * factor).round() / factor,
        false => (value / factor).round() * factor,
    }
}

/// Writes a number with commas between its thousands; with a fraction only if it is small.
pub(crate) fn grouped(value: f64) -> String {
    if value.abs() < 100.0 && value.fract() != 0.0 {
        return format!("{}", significant(value, 3));
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    match value < 0.0 {
        true => format!("-{text}"),
        false => text,
    }
}

/// Writes a time for people, from seconds to hours.
pub(crate) fn lasting(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{} s", grouped(significant(s, 3))),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{} h", grouped((s / 3_600.0).round())),
    }
}

/// A table for people: the first column is text, and so is the last of a wide one; the others stand flush right.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// From this column on there is text again.
    text_from: usize,
}

impl Table {
    /// Starts a table of columns of numbers after the first.
    pub(crate) fn new(header: &[&str]) -> Self {
        Self::with_text_from(usize::MAX, header)
    }

    /// Starts a table with text from a column on.
    pub(crate) fn with_text_from(column: usize, header: &[&str]) -> Self {
        Self {
            rows: vec![header.iter().map(|&name| name.into()).collect()],
            text_from: column,
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
                    _ if column >= self.text_from => line.push_str(&format!("  {cell:<width$}")),
                    _ => line.push_str(&format!("  {cell:>width$}")),
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A line on the terminal that says how far the work is. Nothing, if standard error is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    total: u64,
    done: u64,
    started: Instant,
    drawn: Option<Instant>,
    terminal: bool,
}

impl Progress {
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        Self {
            what,
            total,
            done: 0,
            started: Instant::now(),
            drawn: None,
            terminal: io::stderr().is_terminal(),
        }
    }

    /// One more is done.
    pub(crate) fn step(&mut self, note: &str) {
        self.done += 1;
        let due = self
            .drawn
            .is_none_or(|at| at.elapsed() >= Duration::from_millis(200));
        if self.terminal && due {
            self.drawn = Some(Instant::now());
            let line = line(self.what, self.done, self.total, self.started.elapsed(), note);
            eprint!("\r\x1b[2K{line}");
        }
    }

    /// Says what cannot be counted.
    pub(crate) fn note(&mut self, note: &str) {
        if self.terminal {
            self.drawn = Some(Instant::now());
            eprint!("\r\x1b[2K{note}");
        }
    }

    /// Takes the line away, so that others can be written.
    pub(crate) fn clear(&mut self) {
        if self.drawn.take().is_some() {
            eprint!("\r\x1b[2K");
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(what: &str, done: u64, total: u64, elapsed: Duration, note: &str) -> String {
    let rate = done as f64 / elapsed.as_secs_f64().max(1e-3);
    let left = lasting(((total - done.min(total)) as f64 / rate).ceil());
    let rate = grouped(significant(rate, 3));
    format!("{done} of {total} {what}, {rate} a second, {left} left{note}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        let cases = [
            (0.0, "0"),
            (12.346, "12.3"),
            (999.0, "999"),
            (1e3, "1,000"),
            (-1_234_567.0, "-1,234,567"),
        ];
        for (value, text) in cases {
            assert_eq!(grouped(value), text);
        }
        assert_eq!(significant(1_234_567.0, 3), 1_230_000.0);
        assert_eq!(significant(0.012_345, 2), 0.012);
        assert_eq!(significant(f64::NAN, 2), 0.0);
        assert_eq!(lasting(1.5), "1.5 s");
        assert_eq!(lasting(600.0), "10 min");
        assert_eq!(lasting(240_000.0), "67 h");
        assert_eq!(hash(0x2a), "000000000000002a");
    }

    #[test]
    fn tables_line_up() {
        let mut table = Table::with_text_from(2, &["bug", "seeds", "seen as"]);
        table.row(vec!["a".into(), "9".into(), "x".into()]);
        table.row(vec!["long".into(), "12345".into()]);
        let mut out = Vec::new();
        table.print(&mut out).expect("a vector takes everything");
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(text, "bug   seeds  seen as\na         9  x\nlong  12345\n");
    }

    #[test]
    fn progress_tells_rate_and_rest() {
        let line = line("seeds", 250, 1_000, Duration::from_secs(10), ", 1 violation");
        assert_eq!(line, "250 of 1000 seeds, 25 a second, 30 s left, 1 violation");
    }
}
