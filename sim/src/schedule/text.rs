//! Schedules as text that a person can read and edit. The format is described in `docs/simulator.md`.

#[cfg(test)]
mod tests;

use super::fields::Field;
use super::{MAX_FAULTS, Schedule, time};
use crate::fault::{Fault, FaultKind};
use quorate_core::Duration;
use std::fmt;
use std::str::FromStr;

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted from 1 in characters.
    pub column: usize,
    /// What is wrong, and what is allowed.
    pub what: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.what)
    }
}

impl std::error::Error for ParseError {}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut header = Self {
            faults: Vec::new(),
            ..*self
        };
        let mut result = Ok(());
        header.each_field(&mut |name, field| {
            result = result.and_then(|()| writeln!(f, "{name} {field}"));
        });
        result?;
        self.faults.iter().try_for_each(|fault| writeln!(f, "{fault}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", time::write(self.at))?;
        if !self.lasting.is_zero() {
            write!(f, " +{}", time::write(self.lasting))?;
        }
        write!(f, " {}", self.kind)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut result = f.write_str(self.name());
        let mut kind = *self;
        kind.each_field(&mut |name, field| {
            result = result.and_then(|()| write!(f, " {name}={field}"));
        });
        result
    }
}

/// A word, and its column.
type Word<'a> = (usize, &'a str);
/// The column of what is wrong, and what it is.
type Wrong = (usize, String);

/// Splits a line without its comment into words.
fn words(line: &str) -> Vec<Word<'_>> {
    let line = line.split_once('#').map_or(line, |(before, _)| before);
    let mut words = Vec::new();
    for word in line.split_whitespace() {
        let at = word.as_ptr() as usize - line.as_ptr() as usize;
        words.push((line[..at].chars().count() + 1, word));
    }
    words
}

impl FromStr for Schedule {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut schedule = Self::default();
        let mut set = Vec::new();
        let mut fault_lines = Vec::new();
        let mut last = 1;
        for (index, line) in text.lines().enumerate() {
            let at = |(column, what)| ParseError {
                line: index + 1,
                column,
                what,
            };
            let words = words(line);
            let Some(&(column, first)) = words.first() else {
                continue;
            };
            last = index + 1;
            if first.starts_with(|c: char| c.is_ascii_digit()) {
                if schedule.faults.len() == MAX_FAULTS {
                    return Err(at((
                        column,
                        format!("a schedule has at most {MAX_FAULTS} faults"),
                    )));
                }
                schedule.faults.push(read_fault(&words).map_err(at)?);
                fault_lines.push(index + 1);
            } else {
                if set.contains(&first) {
                    return Err(at((column, format!("{first} is given twice"))));
                }
                schedule.read_line(&words).map_err(at)?;
                set.push(first);
            }
        }
        // What is wrong between two fields is shown where the fault is, or else at the end.
        schedule.validate().map_err(|invalid| ParseError {
            line: invalid.fault.map_or(last, |fault| fault_lines[fault]),
            column: 1,
            what: super::Invalid {
                fault: None,
                ..invalid
            }
            .to_string(),
        })?;
        Ok(schedule)
    }
}

impl Schedule {
    /// Reads a line that is no fault: a name and a value.
    fn read_line(&mut self, words: &[Word<'_>]) -> Result<(), Wrong> {
        let &[(column, name), ref values @ ..] = words else {
            return Ok(());
        };
        let mut result = None;
        let mut names = Vec::new();
        self.each_field(&mut |known, mut field| {
            names.push(known);
            if known == name {
                result = Some(read_value(name, &mut field, column, values));
            }
        });
        result.unwrap_or_else(|| {
            let names = names.join(", ");
            let what = format!(
                "'{name}' is neither a time, where a fault begins, nor a setting: must be one of {names}"
            );
            Err((column, what))
        })
    }
}

fn read_value(name: &str, field: &mut Field<'_>, column: usize, values: &[Word<'_>]) -> Result<(), Wrong> {
    match *values {
        [] => Err((
            column,
            format!("{name} has no value: must be {}", field.allowed()),
        )),
        [(column, value)] => {
            if field.read(value) {
                Ok(())
            } else {
                Err((column, format!("{name} is {value}: must be {}", field.allowed())))
            }
        }
        [_, (column, extra), ..] => Err((column, format!("{name} has one value; '{extra}' is too much"))),
    }
}

impl FromStr for Fault {
    type Err = ParseError;

    /// Reads one line; whether its hosts exist is for [`Schedule::validate`] to say.
    fn from_str(line: &str) -> Result<Self, ParseError> {
        read_fault(&words(line)).map_err(|(column, what)| ParseError {
            line: 1,
            column,
            what,
        })
    }
}

fn read_fault(words: &[Word<'_>]) -> Result<Fault, Wrong> {
    let mut words = words.iter().copied().peekable();
    let (column, at) = words.next().unwrap_or((1, ""));
    let at = read_time("the beginning", column, at)?;
    let mut lasting = Duration::ZERO;
    if let Some((column, word)) = words.next_if(|(_, word)| word.starts_with('+')) {
        lasting = read_time("the length", column, &word[1..])?;
    }
    let (kind_column, kind_name) = words.next().unwrap_or((column, ""));
    let Some(mut kind) = FaultKind::blanks()
        .into_iter()
        .find(|kind| kind.name() == kind_name)
    else {
        let names = FaultKind::NAMES.join(", ");
        return Err((
            kind_column,
            format!("'{kind_name}' is no kind of fault: must be one of {names}"),
        ));
    };
    let mut given = Vec::new();
    for (column, word) in words {
        let Some((key, value)) = word.split_once('=') else {
            return Err((
                column,
                format!("'{word}' must be a name, '=' and a value, without spaces"),
            ));
        };
        if given.contains(&key) {
            return Err((column, format!("{key} is given twice")));
        }
        given.push(key);
        read_field(&mut kind, column, key, value)?;
    }
    let mut missing = None;
    kind.each_field(&mut |name, field| {
        if missing.is_none() && !given.contains(&name) && !field.is_optional(name) {
            missing = Some(format!(
                "{kind_name} needs {name}=, which must be {}",
                field.allowed()
            ));
        }
    });
    match missing {
        Some(what) => Err((kind_column, what)),
        None => Ok(Fault { at, lasting, kind }),
    }
}

fn read_time(name: &str, column: usize, text: &str) -> Result<Duration, Wrong> {
    let mut value = Duration::ZERO;
    read_value(
        name,
        &mut Field::Time(&mut value, super::MAX_CHAOS),
        column,
        &[(column, text)],
    )?;
    Ok(value)
}

fn read_field(kind: &mut FaultKind, column: usize, key: &str, value: &str) -> Result<(), Wrong> {
    let name = kind.name();
    let mut result = None;
    let mut names = Vec::new();
    kind.each_field(&mut |known, mut field| {
        names.push(known);
        if known == key {
            result = Some(read_value(key, &mut field, column, &[(column, value)]));
        }
    });
    result.unwrap_or_else(|| {
        let allowed = match names.len() {
            0 => "it has none".to_owned(),
            _ => format!("must be one of {}", names.join(", ")),
        };
        Err((column, format!("{name} has no '{key}': {allowed}")))
    })
}
