//! What can be wrong with a configuration, told in one line that says where it stands.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of the configuration file, counted from 1.
    File { path: PathBuf, line: usize },
    /// An environment variable.
    Environment { variable: String },
    /// A flag of the command line, with its dashes.
    Flag { name: String },
    /// A command to the broker that runs.
    Command,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::Flag { name } => f.write_str(name),
            Self::Command => f.write_str("leveret ctl"),
        }
    }
}

/// Why the configuration cannot be used. The operator must act; `Display` is one line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    #[error("{}: {reason}; check the path given by --config or LEVERET_CONFIG", path.display())]
    UnreadableFile { path: PathBuf, reason: String },
    #[error("{origin}: {reason}")]
    Syntax { origin: Origin, reason: String },
    #[error("{origin}: unknown key '{key}'{}", suggestion(.nearest))]
    UnknownKey {
        origin: Origin,
        key: String,
        nearest: Option<String>,
    },
    #[error("{origin}: bad value for '{key}': {reason}")]
    BadValue {
        origin: Origin,
        key: String,
        reason: String,
    },
    #[error("'{key}': {reason}")]
    Conflict { key: &'static str, reason: String },
}

fn suggestion(nearest: &Option<String>) -> String {
    let suggestion = nearest.as_ref().map(|nearest| format!("; did you mean '{nearest}'?"));
    suggestion.unwrap_or_default()
}
