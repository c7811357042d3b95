//! `leveret config check`: what is in force and where it comes from, or everything that is wrong.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use toml::Value;

use super::error::Origin;
use super::keys;

/// Every key with its default, as operators read it.
const EXAMPLE: &str = include_str!("../../../leveret.example.toml");
/// Keys whose values may hold passwords.
const SECRET: [&str; 2] = ["default_pass", "users"];

/// What was set, and where.
#[derive(Debug, Clone, Default)]
pub struct Settings(BTreeMap<&'static str, (Value, Origin)>);

impl Settings {
    pub(super) fn note(&mut self, key: &'static str, value: &Value, origin: Origin) {
        self.0.insert(key, (value.clone(), origin));
    }

    /// A line for each key: its value, and where it comes from.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for key in keys::key_names() {
            let (value, origin) = match self.0.get(key) {
                Some(_) if SECRET.contains(&key) => ("(not shown)".to_owned(), self.origin(key)),
                Some((value, _)) => (value.to_string(), self.origin(key)),
                None if SECRET.contains(&key) => ("(not shown)".to_owned(), "default".to_owned()),
                None => (default_of(key), "default".to_owned()),
            };
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{key} = {value}  # {origin}");
        }
        text
    }

    fn origin(&self, key: &str) -> String {
        self.0
            .get(key)
            .map(|(_, origin)| origin.to_string())
            .unwrap_or_default()
    }
}

/// A default as the example file writes it; lists of tables are empty by default.
fn default_of(key: &str) -> String {
    let start = format!("#{key} = ");
    let line = EXAMPLE.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or("[]").to_owned()
}
