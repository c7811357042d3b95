//! What can be wrong with a login or with a change of users and permissions.

use thiserror::Error;

/// Why a login was refused. For the broker's log only: the client is told nothing but that it was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoginRefused {
    #[error("user '{name}' does not exist")]
    UnknownUser { name: String },
    #[error("user '{name}' gave a wrong password")]
    WrongPassword { name: String },
    #[error("user '{name}' gave a blank password")]
    BlankPassword { name: String },
    #[error("user '{name}' can only connect via localhost")]
    OnlyViaLocalhost { name: String },
    #[error("too many refused logins of this address wait; that of user '{name}' was not looked at")]
    TooMany { name: String },
    #[error("the login of user '{name}' could not be checked")]
    Unchecked { name: String },
}

/// Why users or permissions could not be changed. The operator who asked for the change must act.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthError {
    #[error("user '{name}' does not exist")]
    NoSuchUser { name: String },
    #[error("user '{name}' already exists")]
    UserExists { name: String },
    #[error("a user name must have 1 to {limit_bytes} bytes")]
    UserNameLength { limit_bytes: usize },
    #[error("the password must not be blank")]
    BlankPassword,
    #[error(
        "unknown password hashing algorithm '{name}'; known are leveret_password_hashing_argon2id and rabbit_password_hashing_sha256, _sha512 and _md5"
    )]
    UnknownHashingAlgorithm { name: String },
    #[error("the password hash is not of the form of {algorithm}")]
    MalformedHash { algorithm: &'static str },
    #[error("bad regular expression '{pattern}': {reason}")]
    BadPattern { pattern: String, reason: String },
    #[error("the regular expression is longer than {limit_bytes} bytes")]
    PatternTooLong { limit_bytes: usize },
    #[error("no memory for hashing a password")]
    NoMemory,
    #[error("no random numbers for a salt: {reason}")]
    NoRandomness { reason: String },
}
