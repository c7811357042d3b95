//! What a run is told by its environment.

use crate::themes::Theme;
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
    /// Sequences that are played at the same time.
    pub workers: u64,
    /// What sequences may be about.
    pub themes: Vec<Theme>,
    /// Names each seed before it is played.
    pub verbose: bool,
    /// Prints what came of each sequence, whether it differs or not.
    pub transcripts: bool,
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
            workers: number("WORKERS", 4)?.max(1),
            themes: themes(&variable("THEMES").unwrap_or_else(|| "all".to_owned()))?,
            verbose: variable("VERBOSE").is_some(),
            transcripts: variable("TRANSCRIPTS").is_some(),
        })
    }
}

/// The themes named in `list`, with commas between them; `all` is all of them.
fn themes(list: &str) -> Result<Vec<Theme>, String> {
    let mut themes = Vec::new();
    for name in list.split(',').map(str::trim) {
        if name == "all" {
            themes.extend(Theme::ALL.map(|(_, theme)| theme));
        } else if let Some((_, theme)) = Theme::ALL.iter().find(|(known, _)| *known == name) {
            themes.push(*theme);
        } else {
            let known = Theme::ALL.map(|(name, _)| name).join(", ");
            return Err(format!("there is no theme `{name}`; there are: {known}, all"));
        }
    }
    Ok(themes)
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
            "THEMES" => Some("limits, policies".into()),
            _ => None,
        })
        .unwrap();
        assert_eq!((settings.seed, settings.count, settings.seconds), (7, 1, 180));
        assert_eq!(settings.themes, [Theme::Limits, Theme::Policies]);
    }

    #[test]
    fn a_theme_that_is_not_there_is_named_with_those_that_are() {
        let error = Settings::read(|name| (name == "THEMES").then(|| "limits,streams".into())).unwrap_err();
        assert!(error.contains("`streams`") && error.contains("dead-letters"), "{error}");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let error = Settings::read(|name| (name == "SEED").then(|| "seven".into())).unwrap_err();
        assert_eq!(error, "SEED is no number: seven");
    }
}
