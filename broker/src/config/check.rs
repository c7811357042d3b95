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
    /// Notes a value and where it was set.
    pub fn note(&mut self, key: &'static str, value: &Value, origin: Origin) {
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

    /// Every key and its value, with nothing that may be a password.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, Value)> {
        keys::key_names().map(|key| {
            let value = match self.0.get(key) {
                _ if SECRET.contains(&key) => Value::String("(not shown)".to_owned()),
                Some((value, _)) => value.clone(),
                None => as_value(&default_of(key)),
            };
            (key, value)
        })
    }

    /// Takes what is said of these keys elsewhere.
    pub fn take(&mut self, keys: &[&'static str], other: &Settings) {
        for key in keys {
            match other.0.get(key) {
                Some(setting) => self.0.insert(key, setting.clone()),
                None => self.0.remove(key),
            };
        }
    }

    fn origin(&self, key: &str) -> String {
        self.0
            .get(key)
            .map(|(_, origin)| origin.to_string())
            .unwrap_or_default()
    }
}

/// What a line of the example file says.
fn as_value(text: &str) -> Value {
    let line: Result<toml::Table, _> = toml::from_str(&format!("value = {text}"));
    let value = line.ok().and_then(|mut line| line.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// A default as the example file writes it; lists of tables are empty by default.
fn default_of(key: &str) -> String {
    let start = format!("#{key} = ");
    let line = EXAMPLE.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or("[]").to_owned()
}
