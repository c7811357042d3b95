//! The x-arguments of queue.declare: one table says which there are, what type and range each has, where its value
//! goes, what is done with it and who may set the same by policy.
//!
//! Classic and quorum queues are the same durable queue here, so either kind takes the arguments of both. Arguments
//! that mean nothing on one node are accepted and ignored; unknown ones are kept and ignored, as RabbitMQ does.

use amq_protocol::types::{AMQPValue, FieldTable};
use leveret_routing::{
    CACHE_SIZE_ARGUMENT, CACHE_TTL_ARGUMENT, DEDUPLICATION_ARGUMENT, DEDUPLICATION_HEADER, Deduplication, type_name,
};
use thiserror::Error;

use super::erlang_term::quoted;

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
    deduplicates: bool,
    deduplication: Deduplication,
    /// All arguments as they were given, the unknown ones included.
    table: FieldTable,
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

    /// Checks the arguments of basic.consume that are for other kinds of queue.
    pub fn check_consumer(&self, table: &FieldTable) -> Result<(), ArgumentError> {
        match STREAM_CONSUMER_ARGUMENTS
            .iter()
            .find(|name| lookup(table, name).is_some())
        {
            None => Ok(()),
            Some(argument) => Err(ArgumentError::OtherQueueType {
                argument,
                queue_type: self.queue_type.module_name(),
            }),
        }
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

/// The names of the arguments that redeclaring a queue compares, in RabbitMQ's order. The queue type is not among
/// them: absent, classic and quorum are equal, and there is no other.
pub(super) fn compared_arguments() -> impl Iterator<Item = &'static str> {
    ARGUMENTS
        .iter()
        .map(|argument| argument.name)
        .filter(|name| *name != QUEUE_TYPE)
}

/// What the broker does with an argument; `docs/compatibility.md` tells the same, and a test compares the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It does what it says.
    Works,
    /// It means nothing on one node, and is kept and shown.
    Ignored,
    /// It is checked, kept and shown, and has no effect yet.
    NotYet,
}

/// Who may set the same thing by policy, under the argument's name without `x-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByPolicy {
    Nobody,
    Users,
    UsersAndOperators,
}

/// One known argument: its name, how its value is checked and kept, and what becomes of it.
struct Argument {
    name: &'static str,
    read: fn(&AMQPValue, &mut QueueArguments) -> Result<(), InvalidReason>,
    support: Support,
    policy: ByPolicy,
}

impl Argument {
    /// One that works and is the queue's alone.
    const fn own(name: &'static str, read: fn(&AMQPValue, &mut QueueArguments) -> Result<(), InvalidReason>) -> Self {
        Self {
            name,
            read,
            support: Support::Works,
            policy: ByPolicy::Nobody,
        }
    }

    const fn ignored(name: &'static str, policy: ByPolicy) -> Self {
        Self {
            name,
            read: |_, _| Ok(()),
            support: Support::Ignored,
            policy,
        }
    }
}

/// An argument that can be set by policy.
pub struct PolicyArgument(&'static Argument);

impl PolicyArgument {
    /// The argument that a key of a policy's definition sets, if there is one.
    pub fn of_key(key: &str) -> Option<PolicyArgument> {
        ARGUMENTS
            .iter()
            .find(|argument| argument.policy != ByPolicy::Nobody && argument.name.strip_prefix("x-") == Some(key))
            .map(PolicyArgument)
    }

    /// The name of the argument.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// May an operator policy set it too?
    pub fn is_for_operators(&self) -> bool {
        self.0.policy == ByPolicy::UsersAndOperators
    }
}

/// Every known argument with what the broker does with it and who may set it by policy.
pub fn known_arguments() -> impl Iterator<Item = (&'static str, Support, ByPolicy)> {
    ARGUMENTS
        .iter()
        .map(|argument| (argument.name, argument.support, argument.policy))
}

const QUEUE_TYPE: &str = "x-queue-type";
const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
const DEAD_LETTER_ROUTING_KEY: &str = "x-dead-letter-routing-key";

/// Arguments that only streams take; RabbitMQ refuses them on every other queue, unlike unknown ones.
pub const STREAM_ARGUMENTS: [&str; 3] = [
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
];

/// Arguments that only consumers of streams take; refused likewise.
const STREAM_CONSUMER_ARGUMENTS: [&str; 3] = ["x-stream-offset", "x-stream-filter", "x-stream-match-unfiltered"];

/// In the order in which RabbitMQ checks them, which decides which error wins.
const ARGUMENTS: [Argument; 29] = [
    Argument {
        name: "x-expires",
        read: |value, it| positive_expiry(value).map(|ms| it.expires_ms = Some(ms)),
        support: Support::Works,
        policy: ByPolicy::UsersAndOperators,
    },
    Argument {
        name: "x-message-ttl",
        read: |value, it| expiry(value).map(|ms| it.message_ttl_ms = Some(ms)),
        support: Support::Works,
        policy: ByPolicy::UsersAndOperators,
    },
    Argument {
        name: DEAD_LETTER_EXCHANGE,
        read: |value, it| string(value).map(|name| it.dead_letter_exchange = Some(name)),
        support: Support::Works,
        policy: ByPolicy::Users,
    },
    Argument {
        name: DEAD_LETTER_ROUTING_KEY,
        read: |value, it| string(value).map(|key| it.dead_letter_routing_key = Some(key)),
        support: Support::Works,
        policy: ByPolicy::Users,
    },
    Argument {
        name: "x-dead-letter-strategy",
        read: |value, it| dead_letter_strategy(value).map(|strategy| it.dead_letter_strategy = strategy),
        support: Support::Works,
        policy: ByPolicy::Users,
    },
    Argument {
        name: "x-max-length",
        read: |value, it| non_negative(value).map(|length| it.max_length = Some(length)),
        support: Support::Works,
        policy: ByPolicy::UsersAndOperators,
    },
    Argument {
        name: "x-max-length-bytes",
        read: |value, it| non_negative(value).map(|bytes| it.max_length_bytes = Some(bytes)),
        support: Support::Works,
        policy: ByPolicy::UsersAndOperators,
    },
    Argument::ignored("x-max-in-memory-length", ByPolicy::UsersAndOperators),
    Argument::ignored("x-max-in-memory-bytes", ByPolicy::UsersAndOperators),
    Argument {
        name: "x-max-priority",
        read: |value, it| max_priority(value).map(|priority| it.max_priority = Some(priority)),
        support: Support::Works,
        policy: ByPolicy::Nobody,
    },
    Argument {
        name: "x-overflow",
        read: |value, it| overflow(value).map(|overflow| it.overflow = overflow),
        support: Support::Works,
        policy: ByPolicy::UsersAndOperators,
    },
    Argument::ignored("x-queue-mode", ByPolicy::Users),
    Argument {
        name: "x-queue-version",
        read: |value, _| check_queue_version(value),
        support: Support::Ignored,
        policy: ByPolicy::UsersAndOperators,
    },
    Argument {
        name: "x-single-active-consumer",
        read: |value, it| boolean(value).map(|is_single| it.single_active_consumer = is_single),
        support: Support::Works,
        policy: ByPolicy::Nobody,
    },
    Argument {
        name: QUEUE_TYPE,
        read: |value, it| queue_type(value).map(|queue_type| it.queue_type = queue_type),
        support: Support::Works,
        policy: ByPolicy::Nobody,
    },
    Argument {
        name: "x-delivery-limit",
        read: |value, it| integer_argument(value).map(|limit| it.delivery_limit = Some(limit)),
        support: Support::Works,
        policy: ByPolicy::UsersAndOperators,
    },
    Argument {
        name: "x-consumer-timeout",
        read: |value, it| non_negative(value).map(|ms| it.consumer_timeout_ms = Some(ms)),
        support: Support::Works,
        policy: ByPolicy::Users,
    },
    Argument::ignored("x-queue-master-locator", ByPolicy::Users),
    Argument::ignored("x-queue-leader-locator", ByPolicy::Users),
    Argument::ignored("x-quorum-initial-group-size", ByPolicy::Nobody),
    Argument::ignored("x-quorum-target-group-size", ByPolicy::Nobody),
    Argument::ignored("x-initial-cluster-size", ByPolicy::Users),
    Argument {
        name: "x-delayed-retry-type",
        read: |value, it| delayed_retry(value).map(|kind| it.delayed_retry = kind),
        support: Support::Works,
        policy: ByPolicy::Users,
    },
    Argument {
        name: "x-delayed-retry-min",
        read: |value, it| non_negative(value).map(|ms| it.delayed_retry_min_ms = Some(ms)),
        support: Support::Works,
        policy: ByPolicy::Users,
    },
    Argument {
        name: "x-delayed-retry-max",
        read: |value, it| non_negative(value).map(|ms| it.delayed_retry_max_ms = Some(ms)),
        support: Support::Works,
        policy: ByPolicy::Users,
    },
    Argument::own(DEDUPLICATION_ARGUMENT, |value, it| {
        boolean(value).map(|asked| it.deduplicates = asked)
    }),
    Argument::own(CACHE_SIZE_ARGUMENT, |value, it| {
        positive(value)?;
        it.deduplication.set(CACHE_SIZE_ARGUMENT, value);
        Ok(())
    }),
    Argument::own(CACHE_TTL_ARGUMENT, |value, it| {
        positive(value)?;
        it.deduplication.set(CACHE_TTL_ARGUMENT, value);
        Ok(())
    }),
    Argument::own(DEDUPLICATION_HEADER, |value, it| {
        string(value)?;
        it.deduplication.set(DEDUPLICATION_HEADER, value);
        Ok(())
    }),
];

pub(super) fn lookup<'a>(table: &'a FieldTable, name: &str) -> Option<&'a AMQPValue> {
    table.inner().get(name)
}

/// The value of an argument or header of any integer type.
pub fn integer(value: &AMQPValue) -> Option<i64> {
    match *value {
        AMQPValue::ShortShortInt(it) => Some(it.into()),
        AMQPValue::ShortShortUInt(it) => Some(it.into()),
        AMQPValue::ShortInt(it) => Some(it.into()),
        AMQPValue::ShortUInt(it) => Some(it.into()),
        AMQPValue::LongInt(it) => Some(it.into()),
        AMQPValue::LongUInt(it) => Some(it.into()),
        AMQPValue::LongLongInt(it) => Some(it),
        _ => None,
    }
}

fn integer_argument(value: &AMQPValue) -> Result<i64, InvalidReason> {
    integer(value).ok_or_else(|| InvalidReason::ExpectedInteger(type_name(value)))
}

fn non_negative(value: &AMQPValue) -> Result<u64, InvalidReason> {
    let number = integer_argument(value)?;
    u64::try_from(number).map_err(|_| InvalidReason::Negative(number))
}

fn positive(value: &AMQPValue) -> Result<u64, InvalidReason> {
    match non_negative(value)? {
        0 => Err(InvalidReason::Zero),
        number => Ok(number),
    }
}

fn expiry(value: &AMQPValue) -> Result<u64, InvalidReason> {
    match integer_argument(value)? {
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
    let priority = integer_argument(value)?;
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

fn dead_letter_strategy(value: &AMQPValue) -> Result<DeadLetterStrategy, InvalidReason> {
    match string(value)?.as_str() {
        "at-most-once" => Ok(DeadLetterStrategy::AtMostOnce),
        "at-least-once" => Ok(DeadLetterStrategy::AtLeastOnce),
        _ => Err(InvalidReason::DeadLetterStrategy),
    }
}

fn delayed_retry(value: &AMQPValue) -> Result<DelayedRetry, InvalidReason> {
    match string(value)?.as_str() {
        "disabled" => Ok(DelayedRetry::Disabled),
        "all" => Ok(DelayedRetry::All),
        "failed" => Ok(DelayedRetry::Failed),
        "returned" => Ok(DelayedRetry::Returned),
        _ => Err(InvalidReason::DelayedRetryType),
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
    match integer_argument(value)? {
        2 => Ok(()),
        version => Err(InvalidReason::UnsupportedQueueVersion(version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(arguments: &[(&str, AMQPValue)]) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        table
    }

    fn text(value: &str) -> AMQPValue {
        AMQPValue::LongString(value.into())
    }

    fn number(value: i64) -> AMQPValue {
        AMQPValue::LongLongInt(value)
    }

    fn refusal(arguments: &[(&str, AMQPValue)]) -> String {
        QueueArguments::parse(table(arguments)).unwrap_err().explain("Q", "/")
    }

    /// The refusal of one argument, without the words that are the same for all.
    fn reason(name: &str, value: AMQPValue) -> String {
        let refusal = refusal(&[(name, value)]);
        let start = format!("invalid arg '{name}' for queue 'Q' in vhost '/': ");
        refusal
            .strip_prefix(&start)
            .unwrap_or_else(|| panic!("{refusal}"))
            .to_owned()
    }

    #[test]
    fn every_argument_lands_in_its_field() {
        let all = table(&[
            ("x-message-ttl", AMQPValue::LongInt(60_000)),
            ("x-expires", AMQPValue::ShortShortUInt(200)),
            ("x-max-length", AMQPValue::LongUInt(10)),
            ("x-max-length-bytes", number(20)),
            ("x-overflow", text("reject-publish-dlx")),
            ("x-dead-letter-exchange", text("dlx")),
            ("x-dead-letter-routing-key", text("dead")),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-max-priority", AMQPValue::ShortInt(255)),
            ("x-single-active-consumer", AMQPValue::Boolean(true)),
            ("x-delivery-limit", number(-1)),
            ("x-consumer-timeout", number(1_800_000)),
            ("x-delayed-retry-type", text("returned")),
            ("x-delayed-retry-min", number(5)),
            ("x-delayed-retry-max", number(50)),
            ("x-queue-type", text("quorum")),
            ("x-message-deduplication", AMQPValue::Boolean(true)),
            ("x-cache-size", number(5)),
            ("x-cache-ttl", number(6)),
            ("x-deduplication-header", text("x-id")),
        ]);
        let expected = QueueArguments {
            message_ttl_ms: Some(60_000),
            expires_ms: Some(200),
            max_length: Some(10),
            max_length_bytes: Some(20),
            overflow: Overflow::RejectPublishDlx,
            dead_letter_exchange: Some("dlx".to_owned()),
            dead_letter_routing_key: Some("dead".to_owned()),
            dead_letter_strategy: DeadLetterStrategy::AtLeastOnce,
            max_priority: Some(255),
            single_active_consumer: true,
            delivery_limit: Some(-1),
            consumer_timeout_ms: Some(1_800_000),
            delayed_retry: DelayedRetry::Returned,
            delayed_retry_min_ms: Some(5),
            delayed_retry_max_ms: Some(50),
            queue_type: QueueType::Quorum,
            deduplicates: true,
            deduplication: Deduplication {
                header: "x-id".to_owned(),
                keys: 5,
                ttl_millis: Some(6),
            },
            table: all.clone(),
        };
        assert_eq!(QueueArguments::parse(all), Ok(expected));
    }

    #[test]
    fn a_queue_without_arguments_is_classic_without_limits() {
        let arguments = QueueArguments::parse(FieldTable::default()).unwrap();
        assert_eq!(arguments, QueueArguments::default());
        assert_eq!(arguments.queue_type.name(), "classic");
    }

    #[test]
    fn numbers_must_be_integers() {
        for name in [
            "x-message-ttl",
            "x-expires",
            "x-max-length",
            "x-max-length-bytes",
            "x-consumer-timeout",
            "x-max-priority",
            "x-delivery-limit",
            "x-queue-version",
        ] {
            assert_eq!(reason(name, text("1")), r#""expected integer, got longstr""#);
            assert_eq!(
                reason(name, AMQPValue::Double(1.0)),
                r#""expected integer, got double""#
            );
        }
    }

    #[test]
    fn numbers_must_not_be_negative() {
        for name in [
            "x-message-ttl",
            "x-expires",
            "x-max-length",
            "x-max-length-bytes",
            "x-consumer-timeout",
        ] {
            assert_eq!(reason(name, AMQPValue::LongInt(-1)), "{value_negative,-1}");
        }
        assert_eq!(reason("x-max-priority", number(-5)), "{value_negative,-5}");
    }

    #[test]
    fn times_end_after_ten_years() {
        for name in ["x-message-ttl", "x-expires"] {
            assert!(QueueArguments::parse(table(&[(name, number(MAX_EXPIRY_MS))])).is_ok());
            assert_eq!(
                reason(name, number(MAX_EXPIRY_MS + 1)),
                "{value_too_large,315360000001}"
            );
        }
        assert_eq!(reason("x-expires", number(0)), "{value_zero,0}");
        assert!(QueueArguments::parse(table(&[("x-message-ttl", number(0))])).is_ok());
        assert_eq!(reason("x-max-priority", number(256)), "{max_value_exceeded,256}");
    }

    #[test]
    fn words_must_be_known() {
        assert_eq!(reason("x-overflow", text("explode")), "invalid_overflow");
        assert_eq!(
            reason("x-overflow", AMQPValue::LongInt(1)),
            "{unacceptable_type,signedint}"
        );
        assert_eq!(reason("x-dead-letter-strategy", text("maybe")), "invalid_dlx_strategy");
        assert_eq!(
            reason("x-single-active-consumer", AMQPValue::LongInt(1)),
            "{unacceptable_type,signedint}"
        );
        assert_eq!(reason("x-queue-type", text("foo")), r#""unsupported queue type 'foo'""#);
        assert_eq!(
            reason("x-queue-type", AMQPValue::Boolean(true)),
            "{unacceptable_type,bool}"
        );
        assert_eq!(
            reason("x-queue-version", AMQPValue::LongInt(1)),
            r#""unsupported queue version '1'""#
        );
    }

    #[test]
    fn a_dead_letter_routing_key_needs_its_exchange() {
        assert_eq!(
            reason("x-dead-letter-routing-key", text("key")),
            "routing_key_but_no_dlx_defined"
        );
        assert_eq!(
            reason("x-dead-letter-routing-key", number(1)),
            "{unacceptable_type,long}"
        );
    }

    #[test]
    fn the_dead_letter_exchange_is_checked_before_all_others() {
        let refusal = refusal(&[
            ("x-dead-letter-exchange", AMQPValue::LongInt(1)),
            ("x-queue-type", text("foo")),
        ]);
        assert_eq!(
            refusal,
            "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'Q' in vhost '/'"
        );
        let exchange = dead_letter_exchange(&table(&[("x-dead-letter-exchange", text("dlx"))]));
        assert_eq!(exchange, Ok(Some("dlx".to_owned())));
        assert_eq!(dead_letter_exchange(&FieldTable::default()), Ok(None));
    }

    #[test]
    fn the_first_mistake_in_rabbitmqs_order_is_told() {
        let mistakes = [
            ("x-expires", number(-1)),
            ("x-max-age", text("1Y")),
            ("x-message-ttl", number(-2)),
            ("x-queue-type", text("foo")),
        ];
        assert!(refusal(&mistakes).contains("unsupported queue type"));
        assert!(refusal(&mistakes[..3]).contains("value_negative,-1"));
        assert!(refusal(&mistakes[1..3]).contains("value_negative,-2"));
    }

    #[test]
    fn arguments_of_streams_are_refused_on_queues() {
        assert_eq!(
            refusal(&[("x-max-age", text("1Y"))]),
            "invalid arg 'x-max-age' for queue 'Q' in vhost '/' of queue type rabbit_classic_queue"
        );
        let quorum = [
            ("x-queue-type", text("quorum")),
            ("x-stream-max-segment-size-bytes", number(1)),
        ];
        assert!(refusal(&quorum).ends_with("of queue type rabbit_quorum_queue"));
    }

    #[test]
    fn arguments_without_meaning_here_and_unknown_ones_are_kept_and_ignored() {
        let ignored = table(&[
            ("x-queue-mode", text("lazy")),
            ("x-queue-version", number(2)),
            ("x-queue-leader-locator", text("balanced")),
            ("x-quorum-initial-group-size", number(3)),
            ("x-my-own", AMQPValue::Void),
        ]);
        let arguments = QueueArguments::parse(ignored.clone()).unwrap();
        assert_eq!(arguments.table(), &ignored);
        assert_eq!(arguments.get("x-my-own"), Some(&AMQPValue::Void));
        assert_eq!(
            QueueArguments {
                table: FieldTable::default(),
                ..arguments
            },
            QueueArguments::default()
        );
    }
}
