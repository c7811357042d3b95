//! What a run is told by its environment.

use crate::switches::Switches;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug)]
pub struct Settings {
    /// Of the first sequence; the following ones have the numbers after it.
    pub seed: u64,
    /// Sequences at most.
    pub count: u64,
    /// No sequence begins after this many seconds.
    pub seconds: u64,
    /// Differences after which no more are looked for.
    pub differences: usize,
    pub switches: Switches,
    /// Names each seed before it is played.
    pub verbose: bool,
}

impl Settings {
    pub fn from_environment() -> Result<Self, String> {
        Self::read(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let number = |name: &str, default: u64| match variable(name) {
            None => Ok(default),
            Some(value) => value.parse().map_err(|_| format!("{name} is no number: {value}")),
        };
        Ok(Self {
            seed: number("SEED", seed_of_now())?,
            count: number("COUNT", u64::MAX)?,
            seconds: number("SECONDS_MAX", 180)?,
            differences: number("DIFFERENCES_MAX", 5)? as usize,
            switches: Switches::parse(&variable("FEATURES").unwrap_or_else(|| Switches::USUAL.to_owned()))?,
            verbose: variable("VERBOSE").is_some(),
        })
    }
}

/// A short number that is another one each time.
fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |now| now.as_secs() % 1_000_000 * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_by_its_environment() {
        let settings = Settings::read(|name| match name {
            "SEED" => Some("7".into()),
            "COUNT" => Some("1".into()),
            "FEATURES" => Some("ttl".into()),
            _ => None,
        })
        .unwrap();
        assert_eq!((settings.seed, settings.count, settings.seconds), (7, 1, 180));
        assert!(settings.switches.is_on("ttl"));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let error = Settings::read(|name| (name == "SEED").then(|| "seven".into())).unwrap_err();
        assert_eq!(error, "SEED is no number: seven");
    }
}
