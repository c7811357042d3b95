//! The x-arguments of queue.declare: one table says which there are, what type and range each has and where its value goes.
//!
//! Classic and quorum queues are the same durable queue here, so either kind takes the arguments of both. Arguments that mean
//! nothing on one node are accepted and ignored; unknown ones are kept and ignored, as RabbitMQ does.

use amq_protocol::types::{AMQPValue, FieldTable};
use thiserror::Error;

use super::erlang_term::{quoted, type_name};

/// The longest TTL or expiry: ten years of 365 days.
pub const MAX_EXPIRY_MS: i64 = 10 * 365 * 24 * 60 * 60 * 1000;

/// What a full queue does with a new message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    #[default]
    DropHead,
    RejectPublish,
    RejectPublishDlx,
}

/// How safely a message moves to the dead-letter exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeadLetterStrategy {
    #[default]
    AtMostOnce,
    AtLeastOnce,
}

/// The kind of queue that a client asked for. Both are the same queue here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueType {
    #[default]
    Classic,
    Quorum,
}

/// The arguments of one queue, checked and typed. `None` is "not given".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueArguments {
    pub message_ttl_ms: Option<u64>,
    /// At least 1.
    pub expires_ms: Option<u64>,
    /// Ready messages.
    pub max_length: Option<u64>,
    /// Bytes of bodies of ready messages.
    pub max_length_bytes: Option<u64>,
    pub overflow: Overflow,
    pub dead_letter_exchange: Option<String>,
    pub dead_letter_routing_key: Option<String>,
    pub dead_letter_strategy: DeadLetterStrategy,
    pub max_priority: Option<u8>,
    pub single_active_consumer: bool,
    /// Failed deliveries before a message is given up; negative is without limit.
    pub delivery_limit: Option<i64>,
    pub consumer_timeout_ms: Option<u64>,
    pub queue_type: QueueType,
    /// All arguments as they were given, the unknown ones included.
    table: FieldTable,
}

/// Why queue.declare was refused because of an argument; always 406 PRECONDITION_FAILED. [`ArgumentError::explain`] gives the reply text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ArgumentError {
    #[error("invalid arg '{argument}': {reason}")]
    Invalid {
        argument: &'static str,
        reason: InvalidReason,
    },
    #[error("invalid type '{type_name}' for arg '{argument}'")]
    InvalidType {
        argument: &'static str,
        type_name: &'static str,
    },
    #[error("invalid arg '{argument}' of queue type {queue_type}")]
    OtherQueueType {
        argument: &'static str,
        queue_type: &'static str,
    },
}

/// What is wrong with an argument's value. The text is the Erlang term that RabbitMQ prints.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidReason {
    #[error("\"expected integer, got {0}\"")]
    ExpectedInteger(&'static str),
    #[error("{{value_negative,{0}}}")]
    Negative(i64),
    #[error("{{value_zero,0}}")]
    Zero,
    #[error("{{value_too_large,{0}}}")]
    TooLarge(i64),
    #[error("{{max_value_exceeded,{0}}}")]
    MaxValueExceeded(i64),
    #[error("{{unacceptable_type,{0}}}")]
    UnacceptableType(&'static str),
    #[error("invalid_overflow")]
    Overflow,
    #[error("routing_key_but_no_dlx_defined")]
    RoutingKeyWithoutExchange,
    #[error("invalid_dlx_strategy")]
    DeadLetterStrategy,
    #[error("{}", quoted(&format!("unsupported queue type '{name}'", name = .0)))]
    UnsupportedQueueType(String),
    #[error("\"unsupported queue version '{0}'\"")]
    UnsupportedQueueVersion(i64),
}

impl QueueArguments {
    /// Checks the arguments of queue.declare in RabbitMQ's order and stops at the first mistake.
    pub fn parse(table: FieldTable) -> Result<Self, ArgumentError> {
        dead_letter_exchange(&table)?;
        let mut arguments = Self::default();
        let (queue_type, others): (Vec<_>, Vec<_>) = ARGUMENTS.iter().partition(|argument| argument.name == QUEUE_TYPE);
        for argument in queue_type.into_iter().chain(others) {
            if let Some(value) = lookup(&table, argument.name) {
                let name = argument.name;
                (argument.read)(value, &mut arguments)
                    .map_err(|reason| ArgumentError::Invalid { argument: name, reason })?;
            }
        }
        for argument in STREAM_ARGUMENTS {
            if lookup(&table, argument).is_some() {
                return Err(ArgumentError::OtherQueueType {
                    argument,
                    queue_type: arguments.queue_type.module_name(),
                });
            }
        }
        arguments.table = table;
        Ok(arguments)
    }

    /// All arguments as they were given.
    pub fn table(&self) -> &FieldTable {
        &self.table
    }

    /// One argument as it was given.
    pub fn get(&self, name: &str) -> Option<&AMQPValue> {
        lookup(&self.table, name)
    }
}

impl QueueType {
    /// As written in x-queue-type.
    pub fn name(self) -> &'static str {
        match self {
            QueueType::Classic => "classic",
            QueueType::Quorum => "quorum",
        }
    }

    fn module_name(self) -> &'static str {
        match self {
            QueueType::Classic => "rabbit_classic_queue",
            QueueType::Quorum => "rabbit_quorum_queue",
        }
    }
}

impl ArgumentError {
    /// The explanation after `PRECONDITION_FAILED - ` (ERRORS rows 79 to 92).
    pub fn explain(&self, queue: &str, vhost: &str) -> String {
        match self {
            ArgumentError::Invalid { argument, reason } => {
                format!("invalid arg '{argument}' for queue '{queue}' in vhost '{vhost}': {reason}")
            }
            ArgumentError::InvalidType { argument, type_name } => {
                format!("invalid type '{type_name}' for arg '{argument}' in queue '{queue}' in vhost '{vhost}'")
            }
            ArgumentError::OtherQueueType { argument, queue_type } => {
                format!("invalid arg '{argument}' for queue '{queue}' in vhost '{vhost}' of queue type {queue_type}")
            }
        }
    }
}

/// The dead-letter exchange in the arguments of queue.declare. Its type is checked before everything else, because the
/// permission to use it is checked before the other arguments.
pub fn dead_letter_exchange(table: &FieldTable) -> Result<Option<String>, ArgumentError> {
    lookup(table, DEAD_LETTER_EXCHANGE)
        .map(|value| {
            string(value).map_err(|_| ArgumentError::InvalidType {
                argument: DEAD_LETTER_EXCHANGE,
                type_name: type_name(value),
            })
        })
        .transpose()
}

/// The names of the arguments that redeclaring a queue compares, in RabbitMQ's order. The queue type is not among them: absent, classic and
/// quorum are equal, and there is no other.
pub(super) fn compared_arguments() -> impl Iterator<Item = &'static str> {
    ARGUMENTS
        .iter()
        .map(|argument| argument.name)
        .filter(|name| *name != QUEUE_TYPE)
}

/// One known argument: its name, and how its value is checked and kept.
struct Argument {
    name: &'static str,
    read: fn(&AMQPValue, &mut QueueArguments) -> Result<(), InvalidReason>,
}

impl Argument {
    const fn ignored(name: &'static str) -> Self {
        Self {
            name,
            read: |_, _| Ok(()),
        }
    }
}

const QUEUE_TYPE: &str = "x-queue-type";
const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";

/// Arguments that only streams take; RabbitMQ refuses them on every other queue, unlike unknown ones.
const STREAM_ARGUMENTS: [&str; 3] = [
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
];

/// In the order in which RabbitMQ checks them, which decides which error wins.
const ARGUMENTS: [Argument; 25] = [
    Argument {
        name: "x-expires",
        read: |value, it| positive_expiry(value).map(|ms| it.expires_ms = Some(ms)),
    },
    Argument {
        name: "x-message-ttl",
        read: |value, it| expiry(value).map(|ms| it.message_ttl_ms = Some(ms)),
    },
    Argument {
        name: DEAD_LETTER_EXCHANGE,
        read: |value, it| string(value).map(|name| it.dead_letter_exchange = Some(name)),
    },
    Argument {
        name: "x-dead-letter-routing-key",
        read: read_dead_letter_routing_key,
    },
    Argument {
        name: "x-dead-letter-strategy",
        read: |value, it| dead_letter_strategy(value).map(|strategy| it.dead_letter_strategy = strategy),
    },
    Argument {
        name: "x-max-length",
        read: |value, it| non_negative(value).map(|length| it.max_length = Some(length)),
    },
    Argument {
        name: "x-max-length-bytes",
        read: |value, it| non_negative(value).map(|bytes| it.max_length_bytes = Some(bytes)),
    },
    Argument::ignored("x-max-in-memory-length"),
    Argument::ignored("x-max-in-memory-bytes"),
    Argument {
        name: "x-max-priority",
        read: |value, it| max_priority(value).map(|priority| it.max_priority = Some(priority)),
    },
    Argument {
        name: "x-overflow",
        read: |value, it| overflow(value).map(|overflow| it.overflow = overflow),
    },
    Argument::ignored("x-queue-mode"),
    Argument {
        name: "x-queue-version",
        read: |value, _| check_queue_version(value),
    },
    Argument {
        name: "x-single-active-consumer",
        read: |value, it| boolean(value).map(|is_single| it.single_active_consumer = is_single),
    },
    Argument {
        name: QUEUE_TYPE,
        read: |value, it| queue_type(value).map(|queue_type| it.queue_type = queue_type),
    },
    Argument {
        name: "x-delivery-limit",
        read: |value, it| integer(value).map(|limit| it.delivery_limit = Some(limit)),
    },
    Argument {
        name: "x-consumer-timeout",
        read: |value, it| non_negative(value).map(|ms| it.consumer_timeout_ms = Some(ms)),
    },
    Argument::ignored("x-queue-master-locator"),
    Argument::ignored("x-queue-leader-locator"),
    Argument::ignored("x-quorum-initial-group-size"),
    Argument::ignored("x-quorum-target-group-size"),
    Argument::ignored("x-initial-cluster-size"),
    Argument::ignored("x-delayed-retry-type"),
    Argument::ignored("x-delayed-retry-min"),
    Argument::ignored("x-delayed-retry-max"),
];

fn lookup<'a>(table: &'a FieldTable, name: &str) -> Option<&'a AMQPValue> {
    table.inner().get(name)
}

fn integer(value: &AMQPValue) -> Result<i64, InvalidReason> {
    match value {
        AMQPValue::ShortShortInt(it) => Ok(i64::from(*it)),
        AMQPValue::ShortShortUInt(it) => Ok(i64::from(*it)),
        AMQPValue::ShortInt(it) => Ok(i64::from(*it)),
        AMQPValue::ShortUInt(it) => Ok(i64::from(*it)),
        AMQPValue::LongInt(it) => Ok(i64::from(*it)),
        AMQPValue::LongUInt(it) => Ok(i64::from(*it)),
        AMQPValue::LongLongInt(it) => Ok(*it),
        _ => Err(InvalidReason::ExpectedInteger(type_name(value))),
    }
}

fn non_negative(value: &AMQPValue) -> Result<u64, InvalidReason> {
    let number = integer(value)?;
    u64::try_from(number).map_err(|_| InvalidReason::Negative(number))
}

fn expiry(value: &AMQPValue) -> Result<u64, InvalidReason> {
    match integer(value)? {
        ms if ms > MAX_EXPIRY_MS => Err(InvalidReason::TooLarge(ms)),
        _ => non_negative(value),
    }
}

fn positive_expiry(value: &AMQPValue) -> Result<u64, InvalidReason> {
    match expiry(value)? {
        0 => Err(InvalidReason::Zero),
        ms => Ok(ms),
    }
}

fn max_priority(value: &AMQPValue) -> Result<u8, InvalidReason> {
    non_negative(value)?;
    let priority = integer(value)?;
    u8::try_from(priority).map_err(|_| InvalidReason::MaxValueExceeded(priority))
}

fn string(value: &AMQPValue) -> Result<String, InvalidReason> {
    match value {
        AMQPValue::LongString(text) => Ok(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        _ => Err(InvalidReason::UnacceptableType(type_name(value))),
    }
}

fn boolean(value: &AMQPValue) -> Result<bool, InvalidReason> {
    value.as_bool().ok_or(InvalidReason::UnacceptableType(type_name(value)))
}

fn read_dead_letter_routing_key(value: &AMQPValue, arguments: &mut QueueArguments) -> Result<(), InvalidReason> {
    let routing_key = string(value)?;
    if arguments.dead_letter_exchange.is_none() {
        return Err(InvalidReason::RoutingKeyWithoutExchange);
    }
    arguments.dead_letter_routing_key = Some(routing_key);
    Ok(())
}

fn dead_letter_strategy(value: &AMQPValue) -> Result<DeadLetterStrategy, InvalidReason> {
    match string(value)?.as_str() {
        "at-most-once" => Ok(DeadLetterStrategy::AtMostOnce),
        "at-least-once" => Ok(DeadLetterStrategy::AtLeastOnce),
        _ => Err(InvalidReason::DeadLetterStrategy),
    }
}

fn overflow(value: &AMQPValue) -> Result<Overflow, InvalidReason> {
    match string(value)?.as_str() {
        "drop-head" => Ok(Overflow::DropHead),
        "reject-publish" => Ok(Overflow::RejectPublish),
        "reject-publish-dlx" => Ok(Overflow::RejectPublishDlx),
        _ => Err(InvalidReason::Overflow),
    }
}

fn queue_type(value: &AMQPValue) -> Result<QueueType, InvalidReason> {
    let name = string(value)?;
    match name.as_str() {
        "classic" => Ok(QueueType::Classic),
        "quorum" => Ok(QueueType::Quorum),
        _ => Err(InvalidReason::UnsupportedQueueType(name)),
    }
}

fn check_queue_version(value: &AMQPValue) -> Result<(), InvalidReason> {
    non_negative(value)?;
    match integer(value)? {
        2 => Ok(()),
        version => Err(InvalidReason::UnsupportedQueueVersion(version)),
    }
}
