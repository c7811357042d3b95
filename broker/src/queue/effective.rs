//! What is in force for a queue: its own arguments, its policy and its operator policy, merged.
//!
//! Of limits the smallest counts, wherever it comes from. Of anything else the queue's own argument goes before the
//! operator policy, and that before the policy. Features of queues read this and nothing else.

use super::RetryDelay;
use super::arguments::{DeadLetterStrategy, DelayedRetry, Overflow, QueueArguments, QueueType};

/// The arguments in force for one queue. `None` is "no limit", or "not wanted".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EffectiveArguments {
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
    /// From the arguments only.
    pub max_priority: Option<u8>,
    /// From the arguments only.
    pub single_active_consumer: bool,
    /// Failed deliveries before a message is given up.
    pub delivery_limit: Option<u64>,
    pub consumer_timeout_ms: Option<u64>,
    pub delayed_retry: DelayedRetry,
    pub delayed_retry_min_ms: Option<u64>,
    pub delayed_retry_max_ms: Option<u64>,
    /// From the arguments only.
    pub queue_type: QueueType,
}

impl EffectiveArguments {
    /// Merges a queue's arguments with what its policies set, which has the form of arguments.
    pub fn merge(
        arguments: &QueueArguments,
        policy: Option<&QueueArguments>,
        operator_policy: Option<&QueueArguments>,
    ) -> EffectiveArguments {
        let sources = Sources([Some(arguments), operator_policy, policy]);
        EffectiveArguments {
            message_ttl_ms: sources.least(|it| it.message_ttl_ms),
            expires_ms: sources.least(|it| it.expires_ms),
            max_length: sources.least(|it| it.max_length),
            max_length_bytes: sources.least(|it| it.max_length_bytes),
            overflow: sources.first("x-overflow", |it| it.overflow),
            dead_letter_exchange: sources.first("x-dead-letter-exchange", |it| it.dead_letter_exchange.clone()),
            dead_letter_routing_key: sources
                .first("x-dead-letter-routing-key", |it| it.dead_letter_routing_key.clone()),
            dead_letter_strategy: sources.first("x-dead-letter-strategy", |it| it.dead_letter_strategy),
            max_priority: arguments.max_priority,
            single_active_consumer: arguments.single_active_consumer,
            // A negative limit is none.
            delivery_limit: sources.least(|it| it.delivery_limit.and_then(|limit| u64::try_from(limit).ok())),
            consumer_timeout_ms: sources.least(|it| it.consumer_timeout_ms),
            delayed_retry: sources.first("x-delayed-retry-type", |it| it.delayed_retry),
            delayed_retry_min_ms: sources.first("x-delayed-retry-min", |it| it.delayed_retry_min_ms),
            delayed_retry_max_ms: sources.first("x-delayed-retry-max", |it| it.delayed_retry_max_ms),
            queue_type: arguments.queue_type,
        }
    }
}

impl EffectiveArguments {
    /// Which messages that come back wait, and how long.
    pub fn retry_delay(&self) -> RetryDelay {
        RetryDelay {
            kind: self.delayed_retry,
            min_millis: self.delayed_retry_min_ms.unwrap_or(DELAYED_RETRY_MIN_MILLIS),
            max_millis: self.delayed_retry_max_ms,
        }
    }
}

/// How long messages that come back wait if nobody says how long.
const DELAYED_RETRY_MIN_MILLIS: u64 = 1000;

/// Where arguments come from, the strongest first.
struct Sources<'a>([Option<&'a QueueArguments>; 3]);

impl Sources<'_> {
    fn least(&self, limit: impl Fn(&QueueArguments) -> Option<u64>) -> Option<u64> {
        self.0.iter().flatten().filter_map(|source| limit(source)).min()
    }

    /// The value of the first source in which the argument was given; the default if it was given in none.
    fn first<T: Default>(&self, argument: &str, value: impl Fn(&QueueArguments) -> T) -> T {
        let mut sources = self.0.iter().flatten();
        let source = sources.find(|source| source.get(argument).is_some());
        source.map(|source| value(source)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::types::{AMQPValue, FieldTable};

    use super::*;
    use crate::queue::PolicyArgument;

    fn number(value: i64) -> AMQPValue {
        AMQPValue::LongLongInt(value)
    }

    fn text(value: &str) -> AMQPValue {
        AMQPValue::LongString(value.into())
    }

    fn arguments(list: &[(&str, AMQPValue)]) -> QueueArguments {
        let mut table = FieldTable::default();
        for (name, value) in list {
            table.insert((*name).into(), value.clone());
        }
        QueueArguments::parse(table).unwrap()
    }

    fn policy(list: &[(&str, AMQPValue)]) -> QueueArguments {
        let mut policy = QueueArguments::default();
        for (key, value) in list {
            let argument = PolicyArgument::of_key(key).unwrap();
            policy.set_by_policy(&argument, value.clone()).unwrap();
        }
        policy
    }

    #[test]
    fn the_smallest_limit_counts_wherever_it_comes_from() {
        for (own, user, operator) in [(1, 2, 3), (3, 1, 2), (2, 3, 1)] {
            let own = arguments(&[
                ("x-message-ttl", number(own)),
                ("x-expires", number(own)),
                ("x-max-length", number(own)),
                ("x-max-length-bytes", number(own)),
                ("x-delivery-limit", number(own)),
            ]);
            let keys = [
                "message-ttl",
                "expires",
                "max-length",
                "max-length-bytes",
                "delivery-limit",
            ];
            let user = policy(&keys.map(|key| (key, number(user))));
            let operator = policy(&keys.map(|key| (key, number(operator))));
            let effective = EffectiveArguments::merge(&own, Some(&user), Some(&operator));
            assert_eq!(
                effective,
                EffectiveArguments {
                    message_ttl_ms: Some(1),
                    expires_ms: Some(1),
                    max_length: Some(1),
                    max_length_bytes: Some(1),
                    delivery_limit: Some(1),
                    ..EffectiveArguments::default()
                }
            );
        }
    }

    #[test]
    fn a_negative_delivery_limit_is_none() {
        let unlimited = policy(&[("delivery-limit", number(-1))]);
        let some = policy(&[("delivery-limit", number(5))]);
        let own = arguments(&[]);
        assert_eq!(
            EffectiveArguments::merge(&own, Some(&unlimited), None).delivery_limit,
            None
        );
        assert_eq!(
            EffectiveArguments::merge(&own, Some(&unlimited), Some(&some)).delivery_limit,
            Some(5)
        );
    }

    #[test]
    fn of_anything_else_the_queue_goes_before_the_operator_and_he_before_the_policy() {
        let overflow = |mode| vec![("x-overflow", text(mode))];
        let (own, none) = (arguments(&overflow("reject-publish-dlx")), arguments(&[]));
        let user = policy(&[
            ("overflow", text("drop-head")),
            ("dead-letter-exchange", text("dlx")),
            ("dead-letter-routing-key", text("key")),
            ("dead-letter-strategy", text("at-least-once")),
        ]);
        let operator = policy(&[("overflow", text("reject-publish"))]);
        let merged = |own, operator| EffectiveArguments::merge(own, Some(&user), operator);
        assert_eq!(merged(&own, Some(&operator)).overflow, Overflow::RejectPublishDlx);
        assert_eq!(merged(&none, Some(&operator)).overflow, Overflow::RejectPublish);
        assert_eq!(merged(&none, None).overflow, Overflow::DropHead);
        let effective = merged(&none, None);
        assert_eq!(effective.dead_letter_exchange.as_deref(), Some("dlx"));
        assert_eq!(effective.dead_letter_routing_key.as_deref(), Some("key"));
        assert_eq!(effective.dead_letter_strategy, DeadLetterStrategy::AtLeastOnce);
        let dead_letter = arguments(&[("x-dead-letter-exchange", text("own"))]);
        let effective = merged(&dead_letter, None);
        assert_eq!(effective.dead_letter_exchange.as_deref(), Some("own"));
        assert_eq!(effective.dead_letter_routing_key.as_deref(), Some("key"));
    }

    #[test]
    fn without_policies_the_arguments_are_in_force() {
        let own = arguments(&[
            ("x-max-priority", number(9)),
            ("x-single-active-consumer", AMQPValue::Boolean(true)),
            ("x-queue-type", text("quorum")),
            ("x-consumer-timeout", number(7)),
            ("x-delayed-retry-type", text("failed")),
            ("x-delayed-retry-min", number(10)),
            ("x-delayed-retry-max", number(20)),
        ]);
        assert_eq!(
            EffectiveArguments::merge(&own, None, None),
            EffectiveArguments {
                max_priority: Some(9),
                single_active_consumer: true,
                queue_type: QueueType::Quorum,
                consumer_timeout_ms: Some(7),
                delayed_retry: DelayedRetry::Failed,
                delayed_retry_min_ms: Some(10),
                delayed_retry_max_ms: Some(20),
                ..EffectiveArguments::default()
            }
        );
    }
}
