//! Values as RabbitMQ writes them in its configuration.

use super::rabbitmq_conf::Refusal;

/// `5672`, `127.0.0.1:5672`, `:::5672` or `[::1]:5672`. A port alone is every interface.
pub(super) fn addresses(value: &str) -> Vec<String> {
    match value.rsplit_once(':') {
        None => vec![format!("0.0.0.0:{value}"), format!("[::]:{value}")],
        Some((ip, port)) => vec![address(ip, port)],
    }
}

pub(super) fn address(ip: &str, port: &str) -> String {
    if ip.contains(':') && !ip.starts_with('[') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

pub(super) fn one_of<T: Copy>(value: &str, choices: &[(&str, T)]) -> Result<T, Refusal> {
    let found = choices.iter().find(|(name, _)| *name == value);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        Refusal::Bad(format!("expected {}, found '{value}'", names.join(" or ")))
    })
}

pub(super) fn boolean(value: &str) -> Result<bool, Refusal> {
    one_of(value, &[("true", true), ("false", false)])
}

pub(super) fn number(value: &str) -> Result<f64, Refusal> {
    let number = value
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| Refusal::Bad(format!("expected a number such as 0.6, found '{value}'")))
}

pub(super) fn level(value: &str) -> Result<&'static str, Refusal> {
    let levels = [
        ("debug", "debug"),
        ("info", "info"),
        ("warning", "warn"),
        ("error", "error"),
        ("critical", "error"),
        ("none", "off"),
    ];
    one_of(value, &levels)
}

/// A size as rabbitmqctl takes it.
pub fn size_of(text: &str) -> Result<u64, String> {
    size(text).map_err(|refusal| match refusal {
        Refusal::Bad(reason) => reason,
        _ => format!("'{text}' is no size"),
    })
}

/// RabbitMQ's sizes: bytes, `k`, `M`, `G`, `T` and `kiB` and so on for powers of 1024, `kB` and so on for powers of 1000.
pub(super) fn size(value: &str) -> Result<u64, Refusal> {
    let bad = || {
        Refusal::Bad(format!(
            "expected a size such as 1073741824, 2GiB or 500MB, found '{value}'"
        ))
    };
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = value[digits.len()..].to_ascii_lowercase();
    let number: u64 = digits.trim().parse().map_err(|_| bad())?;
    let (base, power) = match unit.as_str() {
        "" | "b" => (1, 0),
        "k" | "kib" => (1024, 1),
        "m" | "mib" => (1024, 2),
        "g" | "gib" => (1024, 3),
        "t" | "tib" => (1024, 4),
        "kb" => (1000, 1),
        "mb" => (1000, 2),
        "gb" => (1000, 3),
        "tb" => (1000, 4),
        _ => return Err(bad()),
    };
    number.checked_mul(u64::pow(base, power)).ok_or_else(bad)
}
