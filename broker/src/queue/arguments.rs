//! The x-arguments of queue.declare, checked and typed.
//!
//! Classic and quorum queues are the same durable queue here, so either kind takes the arguments of both. Arguments
//! that mean nothing on one node are accepted and ignored; unknown ones are kept and ignored, as RabbitMQ does.

use amq_protocol::types::{AMQPValue, FieldTable};
use leveret_routing::{Deduplication, type_name};
use thiserror::Error;

use super::argument_table::{ARGUMENTS, DEAD_LETTER_EXCHANGE, DEAD_LETTER_ROUTING_KEY, PolicyArgument, QUEUE_TYPE};
use super::argument_values::string;
use super::erlang_term::quoted;

/// Arguments that only streams take; RabbitMQ refuses them on every other queue, unlike unknown ones.
pub const STREAM_ARGUMENTS: [&str; 3] = [
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
];

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

/// Which returned messages wait before they are delivered again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DelayedRetry {
    #[default]
    Disabled,
    All,
    Failed,
    Returned,
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
    pub delayed_retry: DelayedRetry,
    pub delayed_retry_min_ms: Option<u64>,
    pub delayed_retry_max_ms: Option<u64>,
    pub queue_type: QueueType,
    pub(super) deduplicates: bool,
    pub(super) deduplication: Deduplication,
    /// All arguments as they were given, the unknown ones included.
    pub(super) table: FieldTable,
}

/// Why queue.declare was refused because of an argument; always 406 PRECONDITION_FAILED. [`ArgumentError::explain`]
/// gives the reply text.
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
    #[error("invalid_delayed_retry_type")]
    DelayedRetryType,
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
                let read = (argument.read)(value, &mut arguments);
                let is_key_alone = name == DEAD_LETTER_ROUTING_KEY && arguments.dead_letter_exchange.is_none();
                let checked = match read {
                    Ok(()) if is_key_alone => Err(InvalidReason::RoutingKeyWithoutExchange),
                    other => other,
                };
                checked.map_err(|reason| ArgumentError::Invalid { argument: name, reason })?;
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

    /// Takes over one argument that a policy sets, under the argument's name. A dead-letter routing key may come from a
    /// policy alone, because the exchange may come from elsewhere.
    pub fn set_by_policy(&mut self, argument: &PolicyArgument, value: AMQPValue) -> Result<(), InvalidReason> {
        (argument.0.read)(&value, self)?;
        self.table.insert(argument.0.name.into(), value);
        Ok(())
    }

    /// Which messages are duplicates, if the queue drops them.
    pub fn deduplication(&self) -> Option<&Deduplication> {
        self.deduplicates.then_some(&self.deduplication)
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

    /// RabbitMQ's module for it, as metrics and errors name it.
    pub fn module_name(self) -> &'static str {
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

/// The dead-letter exchange in the arguments of queue.declare. Its type is checked before everything else, because
/// the permission to use it is checked before the other arguments.
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

pub(super) fn lookup<'a>(table: &'a FieldTable, name: &str) -> Option<&'a AMQPValue> {
    table.inner().get(name)
}
