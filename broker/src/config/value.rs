//! From what is written, in TOML or as text of the environment or a flag, to typed values.
//!
//! Each function takes a TOML value, or the same as text, and answers with a sentence that says what was expected.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use toml::Value;

use super::{DiskFreeLimit, FsyncPolicy, ListenAddress, LogFormat, MemoryWatermark, MetricsAccess};
use crate::auth::{HashingAlgorithm, Secret};
use crate::logging;

type Parsed<T> = Result<T, String>;

/// Any text.
pub(super) fn text(value: &Value) -> Parsed<String> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| expected("text in quotes", value))
}

/// Text that is not empty.
pub(super) fn some_text(value: &Value) -> Parsed<String> {
    text(value).and_then(|text| {
        if text.is_empty() {
            Err("it must not be empty".to_owned())
        } else {
            Ok(text)
        }
    })
}

/// Text that may name the host, for [`expand_hostname`].
pub(super) fn hostname_template(value: &Value) -> Parsed<String> {
    some_text(value).map(|text| expand_hostname(&text))
}

/// A version; empty is this program's own.
pub(super) fn version(value: &Value) -> Parsed<String> {
    let own = || env!("CARGO_PKG_VERSION").to_owned();
    text(value).map(|text| if text.is_empty() { own() } else { text })
}

/// A password, which must not be blank.
pub(super) fn password(value: &Value) -> Parsed<Secret> {
    some_text(value).map(|text| Secret::from(text.as_str()))
}

/// A path.
pub(super) fn path(value: &Value) -> Parsed<PathBuf> {
    some_text(value).map(PathBuf::from)
}

/// A path; empty is none.
pub(super) fn optional_path(value: &Value) -> Parsed<Option<PathBuf>> {
    text(value).map(|text| (!text.is_empty()).then(|| PathBuf::from(text)))
}

/// A list of texts, or one text with commas between.
pub(super) fn texts(value: &Value) -> Parsed<Vec<String>> {
    match value {
        Value::Array(items) => items.iter().map(text).collect(),
        Value::String(list) => Ok(list
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()),
        other => Err(expected("a list of texts", other)),
    }
}

/// A list of paths.
pub(super) fn paths(value: &Value) -> Parsed<Vec<PathBuf>> {
    Ok(texts(value)?.into_iter().map(PathBuf::from).collect())
}

/// A list of `HOST:PORT`.
pub(super) fn addresses(value: &Value) -> Parsed<Vec<ListenAddress>> {
    texts(value)?.iter().map(|text| text.parse()).collect()
}

/// A whole number within the range.
pub(super) fn whole<T>(value: &Value, range: RangeInclusive<T>) -> Parsed<T>
where
    T: TryFrom<i64> + PartialOrd + fmt::Display,
{
    let number = match value {
        Value::Integer(number) => Some(*number),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let number = number.ok_or_else(|| expected("a whole number", value))?;
    T::try_from(number)
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("{number} is not between {} and {}", range.start(), range.end()))
}

/// A whole number from 1, or `"unlimited"`.
pub(super) fn limit(value: &Value) -> Parsed<Option<u32>> {
    if value.as_str() == Some("unlimited") {
        Ok(None)
    } else {
        whole(value, 1..=u32::MAX).map(Some)
    }
}

/// A number of threads, or `"auto"` for the number of cores.
pub(super) fn threads(value: &Value) -> Parsed<usize> {
    const MOST_THREADS: usize = 1024;
    if value.as_str() == Some("auto") {
        Ok(available_cores())
    } else {
        whole(value, 1..=MOST_THREADS)
    }
}

/// A time: text such as `"30s"`, or a number of seconds.
pub(super) fn duration(value: &Value, range: RangeInclusive<Duration>) -> Parsed<Duration> {
    const EXAMPLES: &str = "a time such as \"200ms\", \"30s\" or \"5m\"";
    let duration = match value {
        Value::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        Value::String(text) => parse_duration(text),
        _ => None,
    };
    let duration = duration.ok_or_else(|| expected(EXAMPLES, value))?;
    if range.contains(&duration) {
        Ok(duration)
    } else {
        Err(format!(
            "{duration:?} is not between {:?} and {:?}",
            range.start(),
            range.end()
        ))
    }
}

/// A time of whole seconds that fits AMQP's heartbeat field.
pub(super) fn heartbeat(value: &Value) -> Parsed<u16> {
    let duration = duration(value, Duration::ZERO..=Duration::from_secs(u16::MAX.into()))?;
    if duration.subsec_nanos() != 0 {
        return Err("it must be whole seconds".to_owned());
    }
    u16::try_from(duration.as_secs()).map_err(|error| error.to_string())
}

/// A size: text such as `"128MiB"`, or a number of bytes.
pub(super) fn size(value: &Value, range: RangeInclusive<u64>) -> Parsed<u64> {
    let bytes = match value {
        Value::Integer(bytes) => u64::try_from(*bytes).ok(),
        Value::String(text) => parse_size(text),
        _ => None,
    };
    let bytes = bytes.ok_or_else(|| expected("a size such as 4096, \"64KiB\" or \"128MiB\"", value))?;
    if range.contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!(
            "{bytes} bytes is not between {} and {} bytes",
            range.start(),
            range.end()
        ))
    }
}

/// A fraction such as 0.6 or a size such as `"2GiB"`.
pub(super) fn memory_watermark(value: &Value) -> Parsed<MemoryWatermark> {
    let fraction = match value {
        Value::Float(number) => Some(*number),
        Value::String(text) if text.contains('.') => text.trim().parse().ok(),
        _ => None,
    };
    match fraction {
        Some(fraction) if (0.0..=1.0).contains(&fraction) => Ok(MemoryWatermark::Fraction(fraction)),
        Some(fraction) => Err(format!("{fraction} is not a fraction from 0.0 to 1.0")),
        None => size(value, 1..=u64::MAX)
            .map(MemoryWatermark::Bytes)
            .map_err(|_| expected("a fraction such as 0.6 or a size such as \"2GiB\"", value)),
    }
}

/// A size, or `"auto"`.
pub(super) fn disk_free_limit(value: &Value) -> Parsed<DiskFreeLimit> {
    if value.as_str() == Some("auto") {
        return Ok(DiskFreeLimit::Auto);
    }
    size(value, 0..=u64::MAX).map(DiskFreeLimit::Bytes)
}

pub(super) fn log_format(value: &Value) -> Parsed<LogFormat> {
    one_of(value, &[("text", LogFormat::Text), ("json", LogFormat::Json)])
}

pub(super) fn metrics_access(value: &Value) -> Parsed<MetricsAccess> {
    let choices = [("open", MetricsAccess::Open), ("monitoring", MetricsAccess::Monitoring)];
    one_of(value, &choices)
}

pub(super) fn password_hashing(value: &Value) -> Parsed<HashingAlgorithm> {
    let algorithms = [
        ("argon2id", HashingAlgorithm::Argon2id),
        ("sha256", HashingAlgorithm::Sha256),
        ("sha512", HashingAlgorithm::Sha512),
    ];
    one_of(value, &algorithms)
}

pub(super) fn log_level(value: &Value) -> Parsed<String> {
    let directives = some_text(value)?;
    logging::check_level(&directives)?;
    Ok(directives)
}

pub(super) fn fsync(value: &Value) -> Parsed<FsyncPolicy> {
    let policies = [
        ("always", FsyncPolicy::Always),
        ("interval", FsyncPolicy::Interval),
        ("never", FsyncPolicy::Never),
    ];
    one_of(value, &policies)
}

pub(super) fn one_of<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Parsed<T> {
    let chosen = value
        .as_str()
        .and_then(|text| choices.iter().find(|(name, _)| *name == text));
    chosen.map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        expected(&format!("one of {}", names.join(", ")), value)
    })
}

pub(super) fn expected(what: &str, found: &Value) -> String {
    match found {
        Value::String(text) => format!("expected {what}, found \"{}\"", text.escape_debug()),
        Value::Integer(number) => format!("expected {what}, found {number}"),
        other => format!("expected {what}, found a TOML {}", other.type_str()),
    }
}

/// Number and unit: `ms`, `s`, `m`, `h` or `d`. A number alone is seconds.
fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

/// Number and unit: `B`, `KiB`, `MiB`, `GiB`, `TiB` (powers of 1024) or `kB`, `MB`, `GB`, `TB` (powers of 1000).
fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let unit_bytes = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(unit_bytes)
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

/// Puts the host's name, without its domain, in place of `{hostname}`.
pub(super) fn expand_hostname(template: &str) -> String {
    if !template.contains("{hostname}") {
        return template.to_owned();
    }
    let full = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let short = full
        .trim()
        .split('.')
        .next()
        .filter(|name| !name.is_empty())
        .unwrap_or("localhost");
    template.replace("{hostname}", short)
}

/// Cores that this process may use.
pub fn available_cores() -> usize {
    available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_a_unit() {
        let cases = [
            ("200ms", Some(200)),
            ("30s", Some(30_000)),
            ("30", Some(30_000)),
            (" 5 m ", Some(300_000)),
            ("2h", Some(7_200_000)),
            ("1d", Some(86_400_000)),
            ("0s", Some(0)),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("1w", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(
                parse_duration(text),
                milliseconds.map(Duration::from_millis),
                "{text:?}"
            );
        }
    }

    #[test]
    fn sizes_are_numbers_with_a_unit() {
        let cases = [
            ("4096", Some(4096)),
            ("1B", Some(1)),
            ("64KiB", Some(65_536)),
            ("128MiB", Some(134_217_728)),
            ("2 GiB", Some(2_147_483_648)),
            ("1TiB", Some(1_099_511_627_776)),
            ("5kB", Some(5_000)),
            ("50MB", Some(50_000_000)),
            ("1GB", Some(1_000_000_000)),
            ("", None),
            ("MiB", None),
            ("1mib", None),
            ("-5MiB", None),
            ("é", None),
            ("18446744073709551615TiB", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn hostname_is_put_where_it_is_named() {
        assert_eq!(expand_hostname("node-1"), "node-1");
        let expanded = expand_hostname("rabbit@{hostname}");
        assert!(
            expanded.len() > "rabbit@".len() && !expanded.contains(['{', '.', '\n']),
            "{expanded}"
        );
    }
}
