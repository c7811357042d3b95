//! Why an edit was refused. Reply codes are the caller's; the words are RabbitMQ's.

use std::{borrow::Cow, fmt};

use amq_protocol_types::AMQPValue;
use thiserror::Error;

use crate::{
    consistent_hash::WEIGHT_MAX,
    exchange::{DELAYED_TYPE_ARGUMENT, HISTORY_LENGTH_ARGUMENT},
    hash_on::{HASH_HEADER, HASH_PROPERTY},
    value::{Term, type_name, value_text},
};

/// Why a [`RoutingTable`](crate::RoutingTable) refused an operation. The table is unchanged.
///
/// `Display` leaves out the virtual host, which the table does not know;
/// [`RoutingError::explanation`] puts it in.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum RoutingError {
    /// No exchange has this name.
    #[error("no exchange '{0}'")]
    NotFound(String),
    /// The exchange has bindings and was to be deleted only if unused.
    #[error("exchange '{0}' in use")]
    InUse(String),
    /// The default exchange cannot be declared, deleted, bound or unbound.
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    /// A predeclared exchange cannot be deleted.
    #[error("deletion of system exchange '{0}' not allowed")]
    Predeclared(String),
    /// The exchange exists with other properties.
    #[error("{}: {difference}", .difference.subject(&format!("exchange '{exchange}'")))]
    Inequivalent {
        /// Name of the exchange.
        exchange: String,
        /// The first property that differs.
        difference: Box<Inequivalence>,
    },
    /// An argument of an exchange is not a string.
    #[error("invalid type '{type_name}' for arg '{argument}'")]
    ArgumentType {
        /// Its name.
        argument: &'static str,
        /// The word for the type that was given.
        type_name: &'static str,
    },
    /// The argument `x-match` of a binding to a headers exchange is an unknown word.
    #[error(
        "Invalid x-match field value {}; expected all, any, all-with-x, or any-with-x", Term(.0)
    )]
    UnknownMatchMode(AMQPValue),
    /// The argument `x-match` of a binding to a headers exchange is not a string.
    #[error("Invalid x-match field type {} (value {}); expected longstr", type_name(.0), Term(.0))]
    MatchModeType(AMQPValue),
    /// A consistent-hash exchange is to hash a header and a property.
    #[error("{HASH_HEADER} and {HASH_PROPERTY} are mutually exclusive")]
    HashArguments,
    /// A consistent-hash exchange is to hash a property that cannot be hashed.
    #[error("Unsupported property: {0}")]
    HashProperty(String),
    /// The length of a recent history is not a positive integer.
    #[error("Invalid argument {}, '{HISTORY_LENGTH_ARGUMENT}' must be a positive integer", Term(.0))]
    HistoryLength(AMQPValue),
    /// Another argument of an exchange is not a positive integer.
    #[error("Invalid argument {}, '{argument}' must be a positive integer", Term(.value))]
    NotPositive {
        /// Its name.
        argument: &'static str,
        /// What was given.
        value: AMQPValue,
    },
    /// A delayed exchange does not name the kind by which it routes.
    #[error("Invalid argument, '{DELAYED_TYPE_ARGUMENT}' must be an existing exchange type")]
    DelayedType,
    /// A delayed exchange names its own kind.
    #[error("Invalid argument, 'x-delayed-message' can't be used for '{DELAYED_TYPE_ARGUMENT}'")]
    DelayedTwice,
    /// The key of a binding to a consistent-hash exchange is no weight.
    #[error("The binding key {}", .reason.text(.key))]
    Weight {
        /// The binding key.
        key: String,
        /// What is wrong with it.
        reason: WeightError,
    },
    /// A binding to a local-random exchange has a key.
    #[error("Non empty binding '{0}' key not permitted")]
    KeyNotEmpty(String),
    /// A binding to a local-random exchange leads to an exchange.
    #[error("Destination not found")]
    DestinationNotQueue,
}

/// Why a binding key is no weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightError {
    /// It is no integer.
    NotAnInteger,
    /// It is zero or less.
    NotPositive,
    /// It is above [`WEIGHT_MAX`].
    TooLarge,
}

impl WeightError {
    fn text(self, key: &str) -> String {
        match self {
            Self::NotAnInteger => {
                let key = AMQPValue::LongString(key.into());
                format!("must be an integer: {}", Term(&key))
            }
            Self::NotPositive => "must be greater than 0".to_owned(),
            Self::TooLarge => format!("must not exceed {WEIGHT_MAX}"),
        }
    }
}

impl RoutingError {
    /// The explanation a client reads, with the names of the virtual host and, where the error
    /// lacks it, of the exchange concerned.
    #[must_use]
    pub fn explanation(&self, exchange: &str, vhost: &str) -> String {
        match self {
            Self::NotFound(name) => format!("no exchange '{name}' in vhost '{vhost}'"),
            Self::InUse(name) => format!("exchange '{name}' in vhost '{vhost}' in use"),
            Self::Predeclared(name) => {
                format!("deletion of system exchange '{name}' in vhost '{vhost}' not allowed")
            }
            Self::Inequivalent { exchange, difference } => {
                difference.explanation(&format!("exchange '{exchange}' in vhost '{vhost}'"))
            }
            Self::ArgumentType { .. } => {
                format!("{self} in exchange '{exchange}' in vhost '{vhost}'")
            }
            Self::DefaultExchange
            | Self::UnknownMatchMode(_)
            | Self::MatchModeType(_)
            | Self::HashArguments
            | Self::HashProperty(_)
            | Self::HistoryLength(_)
            | Self::NotPositive { .. }
            | Self::DelayedType
            | Self::DelayedTwice
            | Self::Weight { .. }
            | Self::KeyNotEmpty(_)
            | Self::DestinationNotQueue => self.to_string(),
        }
    }
}

/// One property in which a declaration differs from what exists.
///
/// `Display` gives `received 'fanout' but current is 'direct'` when both sides have a value, and
/// `received none but current is the value 'ae' of type 'longstr'` when one side has none. Queues
/// have the same rule, so the type is open to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inequivalence {
    /// Name of the property or argument.
    pub argument: Cow<'static, str>,
    /// What the declaration asked for.
    pub received: Option<ArgumentValue>,
    /// What exists.
    pub current: Option<ArgumentValue>,
}

impl Inequivalence {
    /// The whole sentence about `subject`, for example `exchange 'X' in vhost '/'`.
    #[must_use]
    pub fn explanation(&self, subject: &str) -> String {
        format!("{}: {self}", self.subject(subject))
    }

    fn subject(&self, subject: &str) -> String {
        format!("inequivalent arg '{}' for {subject}", self.argument)
    }
}

impl fmt::Display for Inequivalence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(received), Some(current)) = (&self.received, &self.current) {
            return write!(f, "received '{}' but current is '{}'", received.text, current.text);
        }
        let side = |value: &Option<ArgumentValue>| match value {
            None => "none".to_owned(),
            Some(value) => format!("the value '{}' of type '{}'", value.text, value.type_name),
        };
        write!(
            f,
            "received {} but current is {}",
            side(&self.received),
            side(&self.current)
        )
    }
}

/// The value of an argument, in the form error texts need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentValue {
    /// The value as text, without quotes around it.
    pub text: String,
    /// The word for its type, see [`type_name`].
    pub type_name: &'static str,
}

impl From<&AMQPValue> for ArgumentValue {
    fn from(value: &AMQPValue) -> Self {
        Self {
            text: value_text(value),
            type_name: type_name(value),
        }
    }
}

impl From<&str> for ArgumentValue {
    fn from(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            type_name: "longstr",
        }
    }
}

impl From<bool> for ArgumentValue {
    fn from(flag: bool) -> Self {
        Self {
            text: flag.to_string(),
            type_name: "bool",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::ALTERNATE_EXCHANGE;

    #[test]
    fn explanations_are_those_of_rabbitmq() {
        let value = AMQPValue::LongString("foo".into());
        for (error, text) in [
            (RoutingError::NotFound("X".into()), "no exchange 'X' in vhost '/'"),
            (RoutingError::InUse("X".into()), "exchange 'X' in vhost '/' in use"),
            (
                RoutingError::DefaultExchange,
                "operation not permitted on the default exchange",
            ),
            (
                RoutingError::Predeclared("amq.direct".into()),
                "deletion of system exchange 'amq.direct' in vhost '/' not allowed",
            ),
            (
                RoutingError::ArgumentType {
                    argument: ALTERNATE_EXCHANGE,
                    type_name: "signedint",
                },
                "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'X' in vhost '/'",
            ),
            (
                RoutingError::UnknownMatchMode(value),
                "Invalid x-match field value <<\"foo\">>; \
                 expected all, any, all-with-x, or any-with-x",
            ),
            (
                RoutingError::MatchModeType(AMQPValue::Boolean(true)),
                "Invalid x-match field type bool (value true); expected longstr",
            ),
        ] {
            assert_eq!(error.explanation("X", "/"), text);
        }
    }

    #[test]
    fn a_missing_side_prints_as_none_against_a_typed_value() {
        let mut difference = Inequivalence {
            argument: ALTERNATE_EXCHANGE.into(),
            received: None,
            current: Some("ae".into()),
        };
        assert_eq!(
            difference.explanation("exchange 'X' in vhost '/'"),
            "inequivalent arg 'alternate-exchange' for exchange 'X' in vhost '/': \
             received none but current is the value 'ae' of type 'longstr'"
        );
        difference.received = Some("other".into());
        let error = RoutingError::Inequivalent {
            exchange: "X".into(),
            difference: Box::new(difference),
        };
        assert_eq!(
            error.to_string(),
            "inequivalent arg 'alternate-exchange' for exchange 'X': \
             received 'other' but current is 'ae'"
        );
    }
}
