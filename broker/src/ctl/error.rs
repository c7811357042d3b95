//! Why the broker refused a command.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::auth::AuthError;

/// What kind of refusal it is, for programs; the text is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request is not one of ours or has a bad argument.
    Invalid,
    /// What the command is about does not exist.
    NotFound,
    /// What should be made exists already.
    AlreadyExists,
    /// A condition such as if-empty does not hold.
    Refused,
    /// A health check found something wrong.
    Unhealthy,
    /// The broker failed; its log says more.
    Internal,
}

/// A refused command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct CtlError {
    pub kind: ErrorKind,
    pub text: String,
}

impl CtlError {
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }
}

impl fmt::Display for CtlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<AuthError> for CtlError {
    fn from(error: AuthError) -> Self {
        let kind = match error {
            AuthError::NoSuchUser { .. } => ErrorKind::NotFound,
            AuthError::UserExists { .. } => ErrorKind::AlreadyExists,
            AuthError::UserNameLength { .. }
            | AuthError::BlankPassword
            | AuthError::UnknownHashingAlgorithm { .. }
            | AuthError::MalformedHash { .. }
            | AuthError::BadPattern { .. }
            | AuthError::PatternTooLong { .. } => ErrorKind::Invalid,
            AuthError::NoRandomness { .. } | AuthError::NoMemory => ErrorKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}
