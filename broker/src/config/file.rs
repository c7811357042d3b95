//! The TOML file, read into keys with the lines they stand on.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Spanned, Value};

use super::error::{ConfigError, Origin};

/// A key of the file's top level, its line and its value.
pub(super) struct Entry {
    pub key: String,
    pub origin: Origin,
    pub value: Value,
}

/// Splits the file's text into its keys.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Entry>, ConfigError> {
    let origin = |offset: usize| {
        let before = text.get(..offset).unwrap_or(text);
        Origin::File {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
        }
    };
    let table: BTreeMap<Spanned<String>, Value> = toml::from_str(text).map_err(|error| {
        let reason = error.message().replace('\n', "; ");
        ConfigError::Syntax {
            origin: origin(error.span().map_or(0, |span| span.start)),
            reason,
        }
    })?;
    let entry = |(key, value): (Spanned<String>, Value)| {
        let origin = origin(key.span().start);
        Entry {
            key: key.into_inner(),
            origin,
            value,
        }
    };
    Ok(table.into_iter().map(entry).collect())
}
