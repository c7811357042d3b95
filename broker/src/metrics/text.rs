//! Prometheus' text format, for samples that come by the ten thousand.

use std::fmt::{self, Write as _};

/// Most bytes of one answer. Who needs more asks for fewer families or virtual hosts at a time.
const SCRAPE_BYTES_MAX: usize = 64 << 20;

/// How a figure behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It rises and falls.
    Gauge,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        }
    }
}

/// One figure of each object of a kind.
pub struct Metric<R> {
    /// Its name after the prefix.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What it is, for people.
    pub help: &'static str,
    /// Its value for an object.
    pub value: fn(&R) -> u64,
}

/// The answer does not fit into [`SCRAPE_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = SCRAPE_BYTES_MAX >> 20;
        write!(
            formatter,
            "the answer is longer than {mebibytes} MiB: ask /metrics/detailed for fewer families or virtual hosts"
        )
    }
}

/// Samples as they are written.
#[derive(Default)]
pub struct Text {
    text: String,
    names: Vec<String>,
    is_full: bool,
}

impl Text {
    /// Writes one figure of all objects; `labels` are those of a row, made by [`labels`].
    pub fn write<R>(&mut self, prefix: &str, metric: &Metric<R>, rows: &[R], labels: impl Fn(&R) -> &str) {
        let name = format!("{prefix}{}", metric.name);
        let (help, kind) = (metric.help, metric.kind.as_str());
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for row in rows {
            self.push(format_args!("{name}{{{}}} {}\n", labels(row), (metric.value)(row)));
        }
        self.names.push(name);
    }

    /// Has a figure of this whole name been written?
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|written| written == name)
    }

    /// All that was written, behind what the caller has already.
    pub fn behind(mut self, before: &str) -> Result<String, TooLong> {
        if self.is_full || before.len() + self.text.len() > SCRAPE_BYTES_MAX {
            return Err(TooLong);
        }
        self.text.insert_str(0, before);
        Ok(self.text)
    }

    fn push(&mut self, piece: fmt::Arguments<'_>) {
        if self.is_full {
            return;
        }
        // A string takes whatever is written to it.
        let _ = self.text.write_fmt(piece);
        self.is_full = self.text.len() > SCRAPE_BYTES_MAX;
    }
}

/// Labels as they stand between the braces.
pub fn labels(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Metric<(String, u64)> = Metric {
        name: "length",
        kind: Kind::Gauge,
        help: "How long",
        value: |row| row.1,
    };

    #[test]
    fn a_figure_is_written_once_for_each_object_under_one_head() {
        let mut text = Text::default();
        let rows = [(labels(&[("of", "a")]), 1), (labels(&[("of", "b")]), 2)];
        text.write("leveret_", &LENGTH, &rows, |row| &row.0);
        assert!(text.has("leveret_length"));
        assert!(!text.has("length"));
        assert_eq!(
            text.behind("before\n").unwrap(),
            "before\n# HELP leveret_length How long\n# TYPE leveret_length gauge\nleveret_length{of=\"a\"} 1\nleveret_length{of=\"b\"} 2\n"
        );
    }

    #[test]
    fn names_with_quotes_backslashes_and_line_breaks_stay_within_their_label() {
        let written = labels(&[("vhost", "/"), ("queue", "a\"} 1\n\\é")]);
        assert_eq!(written, "vhost=\"/\",queue=\"a\\\"} 1\\n\\\\é\"");
    }

    #[test]
    fn an_answer_beyond_the_bound_is_an_error_and_stops_growing() {
        let mut text = Text::default();
        let rows = vec![("x".repeat(1 << 20), 1)];
        for _ in 0..70 {
            text.write("", &LENGTH, &rows, |row| &row.0);
        }
        assert!(text.text.len() < SCRAPE_BYTES_MAX + (2 << 20));
        assert_eq!(text.behind(""), Err(TooLong));
    }
}
