//! What a consistent-hash exchange hashes: the routing key, a header or a property.

use std::hash::Hasher;

use amq_protocol_types::{AMQPValue, FieldTable};

use crate::{
    buffer::MessageHeaders,
    error::RoutingError,
    stable_hash::StableHasher,
    value::{hash_value, type_name},
};

/// Exchange argument: name of the header to hash, in RabbitMQ's spelling.
pub const HASH_HEADER: &str = "hash-header";
/// Exchange argument: name of the property to hash, in RabbitMQ's spelling.
pub const HASH_PROPERTY: &str = "hash-property";
/// Exchange argument: name of the header to hash, in LavinMQ's spelling.
pub const X_HASH_ON: &str = "x-hash-on";

/// A property that can be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashProperty {
    /// `correlation_id`
    CorrelationId,
    /// `message_id`
    MessageId,
    /// `timestamp`.
    Timestamp,
}

/// What decides where a consistent-hash exchange sends a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HashOn {
    /// The routing key, and those of the headers CC and BCC with it.
    #[default]
    RoutingKey,
    /// The value of a header. Messages without it go to one queue all together, as in RabbitMQ.
    Header(String),
    /// A property. Messages without it go to one queue all together.
    Property(HashProperty),
}

impl HashProperty {
    fn parse(name: &[u8]) -> Option<Self> {
        match name {
            b"correlation_id" => Some(Self::CorrelationId),
            b"message_id" => Some(Self::MessageId),
            b"timestamp" => Some(Self::Timestamp),
            _ => None,
        }
    }
}

impl HashOn {
    /// What the arguments of an exchange ask for.
    ///
    /// # Errors
    /// [`RoutingError::ArgumentType`] if one of them is not a string, [`RoutingError::HashArguments`] if both a header
    /// and a property are named, [`RoutingError::HashProperty`] for a property that cannot be hashed.
    pub fn of(arguments: &FieldTable) -> Result<Self, RoutingError> {
        let header = match text(arguments, HASH_HEADER)? {
            None => text(arguments, X_HASH_ON)?,
            header => header,
        };
        match (header, text(arguments, HASH_PROPERTY)?) {
            (None, None) => Ok(Self::RoutingKey),
            (Some(header), None) => Ok(Self::Header(String::from_utf8_lossy(header).into_owned())),
            (None, Some(property)) => HashProperty::parse(property)
                .map(Self::Property)
                .ok_or_else(|| RoutingError::HashProperty(String::from_utf8_lossy(property).into_owned())),
            (Some(_), Some(_)) => Err(RoutingError::HashArguments),
        }
    }

    /// The hash of what the message has of it.
    #[inline]
    pub(crate) fn hash(&self, routing_keys: &[&str], message: &dyn MessageHeaders) -> u64 {
        let mut hasher = StableHasher::new();
        match self {
            Self::RoutingKey => return hash_keys(routing_keys),
            Self::Header(name) => {
                let value = message
                    .field_table()
                    .and_then(|headers| headers.inner().get(name.as_str()));
                match value {
                    Some(AMQPValue::LongString(text)) => hasher.write(text.as_bytes()),
                    Some(other) => hash_value(other, &mut hasher),
                    None => {}
                }
            }
            Self::Property(HashProperty::CorrelationId) => hasher.write(message.correlation_id().unwrap_or_default()),
            Self::Property(HashProperty::MessageId) => hasher.write(message.message_id().unwrap_or_default()),
            Self::Property(HashProperty::Timestamp) => {
                if let Some(timestamp) = message.timestamp() {
                    hasher.write_u64(timestamp);
                }
            }
        }
        hasher.finish()
    }
}

/// The hash of a message's routing keys.
#[inline]
pub(crate) fn hash_keys(routing_keys: &[&str]) -> u64 {
    let mut hasher = StableHasher::new();
    for key in routing_keys {
        hasher.write(key.as_bytes());
    }
    hasher.finish()
}

fn text<'a>(arguments: &'a FieldTable, argument: &'static str) -> Result<Option<&'a [u8]>, RoutingError> {
    match arguments.inner().get(argument) {
        None => Ok(None),
        Some(AMQPValue::LongString(text)) => Ok(Some(text.as_bytes())),
        Some(other) => Err(RoutingError::ArgumentType {
            argument,
            type_name: type_name(other),
        }),
    }
}
