//! JSON, written from beginning to end, safe inside a `script` element.

use quorate_core::Duration;
use std::fmt::Write as _;

/// A text that grows. Commas come by themselves.
pub(super) struct Json {
    out: String,
    /// Whether something stands before that a comma has to follow.
    comma: bool,
}

impl Json {
    pub(super) const fn new() -> Self {
        Self {
            out: String::new(),
            comma: false,
        }
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    fn value(&mut self) -> &mut String {
        if self.comma {
            self.out.push(',');
        }
        self.comma = true;
        &mut self.out
    }

    pub(super) fn open(&mut self, bracket: char) -> &mut Self {
        self.value().push(bracket);
        self.comma = false;
        self
    }

    pub(super) fn close(&mut self, bracket: char) -> &mut Self {
        self.out.push(bracket);
        self.comma = true;
        self
    }

    /// `key` needs no escaping.
    pub(super) fn key(&mut self, key: &'static str) -> &mut Self {
        let _ = write!(self.value(), "\"{key}\":");
        self.comma = false;
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        let _ = write!(self.value(), "{number}");
        self
    }

    pub(super) fn flag(&mut self, flag: bool) -> &mut Self {
        self.number(u64::from(flag))
    }

    /// Writes a number, or -1.
    pub(super) fn maybe(&mut self, number: Option<usize>) -> &mut Self {
        match number {
            Some(number) => self.number(number as u64),
            None => {
                self.value().push_str("-1");
                self
            }
        }
    }

    /// Writes nanoseconds.
    pub(super) fn time(&mut self, time: Duration) -> &mut Self {
        let _ = write!(self.value(), "{}", time.as_nanos());
        self
    }

    /// Writes nanoseconds, or -1.
    pub(super) fn maybe_time(&mut self, time: Option<Duration>) -> &mut Self {
        match time {
            Some(time) => self.time(time),
            None => self.maybe(None),
        }
    }

    /// Writes a string. `<` is escaped, so that no text can end the element or begin a comment in it, and so is
    /// whatever a careless reader of JSON takes for the end of a line.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        let out = self.value();
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..' ' | '\u{7f}' => {
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                }
                c => out.push(c),
            }
        }
        out.push('"');
        self
    }

    /// Writes an array; `each` writes one value.
    pub(super) fn list<T, R>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T) -> R,
    ) -> &mut Self {
        self.open('[');
        for item in items {
            each(self, item);
        }
        self.close(']')
    }
}
