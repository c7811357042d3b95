//! The log: `tracing` events as text or JSON lines on standard error.

use std::backtrace::Backtrace;
use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::{EnvFilter, reload};

use crate::config::LogFormat;

/// Starts the log. `level` is what [`check_level`] accepts.
pub fn init(format: LogFormat, level: &str) -> Result<(), String> {
    let filter = parse_level(level).map_err(|error| error.to_string())?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| OneLine(io::stderr()));
    let started = match format {
        LogFormat::Text => {
            let builder = builder.with_ansi(colours_wanted()).with_filter_reloading();
            remember(builder.reload_handle());
            builder.try_init()
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false);
            let builder = builder.with_filter_reloading();
            remember(builder.reload_handle());
            builder.try_init()
        }
    };
    started.map_err(|error| error.to_string())?;
    log_panics();
    Ok(())
}

/// Keeps each event on a line of its own, whatever clients call themselves: nobody else writes lines of this log.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    /// Takes a whole event.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (text, end) = match event.strip_suffix(b"\n") {
            Some(text) => (text, "\n"),
            None => (event, ""),
        };
        if !text.iter().any(|octet| matches!(octet, b'\n' | b'\r')) {
            self.0.write_all(event)?;
            return Ok(event.len());
        }
        let mut line = Vec::with_capacity(event.len() + 16);
        for octet in text {
            match octet {
                b'\n' => line.extend(b"\\n"),
                b'\r' => line.extend(b"\\r"),
                octet => line.push(*octet),
            }
        }
        line.extend(end.as_bytes());
        self.0.write_all(&line)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Puts another filter in force. Its type depends on the format, which nobody else need know.
type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

fn remember<S: 'static>(handle: reload::Handle<EnvFilter, S>) {
    let _ = SET_FILTER.set(Box::new(move |filter| handle.reload(filter)));
}

/// Logs at another level from now on. `level` is what [`check_level`] accepts.
pub fn set_level(level: &str) -> Result<(), String> {
    let filter = parse_level(level).map_err(|error| error.to_string())?;
    let set = SET_FILTER.get().ok_or("the log is not started")?;
    set(filter).map_err(|error| error.to_string())
}

/// Whether the text is a level (`error`, `warn`, `info`, `debug`, `trace`, `off`) or a list of directives
/// such as `info,leveret::net=debug`; otherwise the reason why not.
pub fn check_level(level: &str) -> Result<(), String> {
    let levels = ["error", "warn", "info", "debug", "trace", "off"];
    let names_level = |directive: &str| {
        let name = directive.rsplit('=').next().unwrap_or_default().trim();
        levels.iter().any(|level| level.eq_ignore_ascii_case(name))
    };
    if level.split(',').all(names_level) && parse_level(level).is_ok() {
        return Ok(());
    }
    Err(format!(
        "expected one of {} or directives such as info,leveret::net=debug, found \"{level}\"",
        levels.join(", ")
    ))
}

fn parse_level(level: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(level)
}

fn colours_wanted() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A panic is a bug that ends one task; it must not be lost among lines of another format.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("unknown reason");
        let backtrace = Backtrace::capture();
        tracing::error!(location, %backtrace, "a task panicked, please report this: {message}");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_it_says() {
        let written = |event: &str| {
            let mut lines = OneLine(Vec::new());
            lines.write_all(event.as_bytes()).unwrap();
            String::from_utf8(lines.0).unwrap()
        };
        assert_eq!(written("WARN user 'é'\n"), "WARN user 'é'\n");
        assert_eq!(
            written("user 'x\nINFO all is well\r\n'\n"),
            "user 'x\\nINFO all is well\\r\\n'\n"
        );
        assert_eq!(written("part\nof one"), "part\\nof one");
        assert_eq!(written("\n"), "\n");
    }

    #[test]
    fn levels_and_directives_are_accepted_and_other_words_are_not() {
        for level in [
            "info",
            "DEBUG",
            "off",
            "info,leveret::net=debug",
            "leveret=trace",
            "warn,leveret[connection]=info",
        ] {
            assert_eq!(check_level(level), Ok(()), "{level}");
        }
        for level in ["", "loud", "leveret", "info,", "leveret=loud", "info,leveret::net"] {
            assert!(check_level(level).is_err(), "{level}");
        }
    }
}
