//! What can be wrong with a policy. Whoever asked for it must act.

use thiserror::Error;

/// Why a policy is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// The name is empty or too long.
    #[error("a policy's name must have 1 to {} bytes", super::POLICY_NAME_MAX_BYTES)]
    NameLength,
    /// The pattern is no regular expression, or too large a one.
    #[error("{0}")]
    Pattern(String),
    /// apply-to is an unknown word.
    #[error("unknown apply-to '{0}'; known are all, exchanges, queues, classic_queues, quorum_queues, streams")]
    ApplyTo(String),
    /// The definition is not a JSON object.
    #[error("the definition is not a JSON object: {0}")]
    NotAnObject(String),
    /// The definition has no key, which RabbitMQ refuses too.
    #[error("no policy provided")]
    Empty,
    /// A key that no policy may have.
    #[error("[{{<<\"{key}\">>,{value}}}] are not recognised policy settings")]
    UnknownKey {
        /// The key.
        key: String,
        /// Its value as JSON.
        value: String,
    },
    /// A key that an operator policy may not have.
    #[error("'{0}' is not a recognised operator policy setting")]
    NotForOperators(String),
    /// A value that makes no sense.
    #[error("{value} is not a valid value of '{key}': {reason}")]
    Value {
        /// The key.
        key: String,
        /// Its value as JSON.
        value: String,
        /// Why not.
        reason: String,
    },
}
