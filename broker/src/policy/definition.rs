//! The keys of a policy's definition. Those of queues are the arguments of queue.declare without `x-`, checked by the
//! same table.

use amq_protocol::types::{AMQPValue, FieldArray, FieldTable};
use leveret_routing::ALTERNATE_EXCHANGE;
use serde_json::{Map, Number, Value};

use super::{PolicyError, PolicyKind};
use crate::queue::{ByPolicy, PolicyArgument, QueueArguments, Support, known_arguments};

/// Keys that mean nothing here and are no queue arguments: of streams, of replication, and of RabbitMQ 3's mirrored
/// queues, which policies that were moved from there still have.
const IGNORED: [&str; 10] = [
    "max-age",
    "stream-max-segment-size-bytes",
    "stream-filter-size-bytes",
    "target-group-size",
    "ha-mode",
    "ha-params",
    "ha-sync-mode",
    "ha-sync-batch-size",
    "ha-promote-on-shutdown",
    "ha-promote-on-failure",
];

/// Keys of which the smaller value counts when both policies have them.
const LIMITS: [&str; 7] = [
    "message-ttl",
    "expires",
    "max-length",
    "max-length-bytes",
    "max-in-memory-length",
    "max-in-memory-bytes",
    DELIVERY_LIMIT,
];
/// LavinMQ's key that makes exchanges of any kind delay messages.
const DELAYED_MESSAGE: &str = "delayed-message";
const DELIVERY_LIMIT: &str = "delivery-limit";

/// Every key of policies, with what the broker does with it.
pub fn policy_keys() -> impl Iterator<Item = (&'static str, Support, ByPolicy)> {
    let of_queues = known_arguments()
        .filter(|(.., policy)| *policy != ByPolicy::Nobody)
        .filter_map(|(name, support, policy)| Some((name.strip_prefix("x-")?, support, policy)));
    let ignored = IGNORED.iter().map(|key| (*key, Support::Ignored, ByPolicy::Users));
    of_queues
        .chain(ignored)
        .chain([ALTERNATE_EXCHANGE, DELAYED_MESSAGE].map(|key| (key, Support::Works, ByPolicy::Users)))
}

/// What a definition means.
#[derive(Clone, Debug, Default)]
pub struct Definition {
    /// For queues, in the form of their arguments.
    pub queue: QueueArguments,
    /// For exchanges.
    pub alternate_exchange: Option<String>,
    /// For exchanges: messages that ask for it are delivered later.
    pub delayed_message: bool,
}

impl Definition {
    /// Checks keys and values.
    pub fn parse(kind: PolicyKind, definition: &Map<String, Value>) -> Result<Definition, PolicyError> {
        if definition.is_empty() {
            return Err(PolicyError::Empty);
        }
        let mut parsed = Definition::default();
        for (key, value) in definition {
            parsed.read(kind, key, value)?;
        }
        Ok(parsed)
    }

    fn read(&mut self, kind: PolicyKind, key: &str, value: &Value) -> Result<(), PolicyError> {
        let is_operators = kind == PolicyKind::Operator;
        let invalid = |reason: String| PolicyError::Value {
            key: key.to_owned(),
            value: value.to_string(),
            reason,
        };
        match (PolicyArgument::of_key(key), value) {
            (Some(argument), _) if is_operators && !argument.is_for_operators() => {
                Err(PolicyError::NotForOperators(key.to_owned()))
            }
            (Some(argument), _) => self
                .queue
                .set_by_policy(&argument, amqp_value(value))
                .map_err(|reason| invalid(reason.to_string())),
            (None, _) if is_operators => Err(PolicyError::NotForOperators(key.to_owned())),
            (None, Value::String(exchange)) if key == ALTERNATE_EXCHANGE => {
                self.alternate_exchange = Some(exchange.clone());
                Ok(())
            }
            (None, _) if key == ALTERNATE_EXCHANGE => Err(invalid("expected a string".to_owned())),
            (None, Value::Bool(delays)) if key == DELAYED_MESSAGE => {
                self.delayed_message = *delays;
                Ok(())
            }
            (None, _) if key == DELAYED_MESSAGE => Err(invalid("expected a boolean".to_owned())),
            (None, _) if IGNORED.contains(&key) => Ok(()),
            (None, _) => Err(PolicyError::UnknownKey {
                key: key.to_owned(),
                value: value.to_string(),
            }),
        }
    }
}

/// The value in force for a key that both policies have.
pub fn merged(key: &str, users: &Value, operators: &Value) -> Value {
    if !LIMITS.contains(&key) {
        return operators.clone();
    }
    // A negative delivery limit is none.
    let limit = |value: &Value| match value.as_i64() {
        Some(limit) if limit < 0 && key == DELIVERY_LIMIT => i64::MAX,
        Some(limit) => limit,
        None => i64::MAX,
    };
    if limit(users) < limit(operators) {
        users.clone()
    } else {
        operators.clone()
    }
}

/// A value of a policy as a client would send it.
fn amqp_value(value: &Value) -> AMQPValue {
    match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(flag) => AMQPValue::Boolean(*flag),
        Value::Number(number) => amqp_number(number),
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        // No key takes one of these; their type is all that matters.
        Value::Array(_) => AMQPValue::FieldArray(FieldArray::default()),
        Value::Object(_) => AMQPValue::FieldTable(FieldTable::default()),
    }
}

fn amqp_number(number: &Number) -> AMQPValue {
    match number.as_i64() {
        Some(integer) => AMQPValue::LongLongInt(integer),
        None if number.is_u64() => AMQPValue::LongLongInt(i64::MAX),
        None => AMQPValue::Double(number.as_f64().unwrap_or_default()),
    }
}
