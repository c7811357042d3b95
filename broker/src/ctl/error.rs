//! Why the broker refused a command.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::client::ClientError;
use crate::auth::AuthError;

/// Exit code of wrong usage. These are the codes of sysexits.h, as rabbitmqctl has them.
pub const USAGE: u8 = 64;
/// Exit code of arguments and files that make no sense, and of what does not exist.
const DATA: u8 = 65;
/// Exit code of a user that does not exist.
const NO_USER: u8 = 67;
/// Exit code without a broker that answers, and of a health check that fails.
const UNAVAILABLE: u8 = 69;
/// Exit code of what exists already, of conditions that do not hold, and of everything else.
const SOFTWARE: u8 = 70;

/// Why a command did not succeed, and the exit code that says so to scripts.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    text: String,
}

impl Failure {
    /// Something is wrong with what was given.
    pub(super) fn data(text: impl Into<String>) -> Failure {
        Failure {
            code: DATA,
            text: text.into(),
        }
    }

    /// The answer cannot be shown.
    pub(super) fn output(text: impl Into<String>) -> Failure {
        Failure {
            code: SOFTWARE,
            text: text.into(),
        }
    }

    /// What has become of a request.
    pub(super) fn of(request: &str, error: ClientError) -> Failure {
        let ClientError::Refused(error) = error else {
            return Failure {
                code: UNAVAILABLE,
                text: error.to_string(),
            };
        };
        let code = match error.kind {
            ErrorKind::Invalid | ErrorKind::NotFound => DATA,
            ErrorKind::NoUser => NO_USER,
            ErrorKind::Unhealthy => UNAVAILABLE,
            ErrorKind::AlreadyExists | ErrorKind::Refused | ErrorKind::Internal => SOFTWARE,
        };
        let text = match error.kind {
            ErrorKind::Unhealthy => format!("{request} failed: {error}"),
            _ => format!("cannot {request}: {error}"),
        };
        Failure { code, text }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What kind of refusal it is, for programs; the text is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request is not one of ours or has a bad argument.
    Invalid,
    /// What the command is about does not exist.
    NotFound,
    /// The user that it is about does not exist.
    NoUser,
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
            AuthError::NoSuchUser { .. } => ErrorKind::NoUser,
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
