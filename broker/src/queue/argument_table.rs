//! The table of a queue's arguments: which there are, what type and range each has, where its value goes, what is done with
//! it and who may set the same by policy.

use amq_protocol::types::AMQPValue;
use leveret_routing::{CACHE_SIZE_ARGUMENT, CACHE_TTL_ARGUMENT, DEDUPLICATION_ARGUMENT, DEDUPLICATION_HEADER};

use super::argument_values::{
    boolean, check_queue_version, dead_letter_strategy, delayed_retry, expiry, integer_argument, max_priority,
    non_negative, overflow, positive, positive_expiry, queue_type, string,
};
use super::arguments::{InvalidReason, QueueArguments};

/// The names of the arguments that redeclaring a queue compares, in RabbitMQ's order. The queue type is not among
/// them: absent, classic and quorum are equal, and there is no other.
pub(super) fn compared_arguments() -> impl Iterator<Item = &'static str> {
    ARGUMENTS
        .iter()
        .map(|argument| argument.name)
        .filter(|name| *name != QUEUE_TYPE)
}

/// The names of those arguments that a live queue can have otherwise: all that can be set by policy.
pub fn altered_arguments() -> impl Iterator<Item = &'static str> {
    ARGUMENTS
        .iter()
        .filter(|argument| argument.policy != ByPolicy::Nobody)
        .map(|argument| argument.name)
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
pub(super) struct Argument {
    pub(super) name: &'static str,
    pub(super) read: fn(&AMQPValue, &mut QueueArguments) -> Result<(), InvalidReason>,
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
pub struct PolicyArgument(pub(super) &'static Argument);

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

pub(super) const QUEUE_TYPE: &str = "x-queue-type";
pub(super) const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
pub(super) const DEAD_LETTER_ROUTING_KEY: &str = "x-dead-letter-routing-key";

/// In the order in which RabbitMQ checks them, which decides which error wins.
pub(super) const ARGUMENTS: [Argument; 29] = [
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
