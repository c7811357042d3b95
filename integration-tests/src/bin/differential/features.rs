//! What sequences of a theme make use of, beside what all of them do.

use crate::values::any;
use leveret_integration_tests::random::Random;
use leveret_integration_tests::raw::{AMQPValue, BasicProperties, FieldTable};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    DeadLetters,
    /// Limits of length that refuse or drop.
    Limits,
    /// Only limits that refuse: with priorities the brokers drop from different ends.
    Refusals,
    Priorities,
    SingleActive,
    /// Time to live of queues. Everything in them has expired at the end of a step.
    QueueTtl,
    /// Time to live of `q0` and `q1` by policy. Everything in them has expired at the end of a step.
    PolicyTtl,
    /// Time to live of messages. Everything in `q0` and `q1` has expired at the end of a step.
    MessageTtl,
    /// Queues that end when nobody uses them.
    Leases,
    /// CC and BCC in most messages.
    Copies,
    /// Most exchanges have an alternate.
    Alternates,
    /// Most consumers have a priority.
    ConsumerPriorities,
    /// Exchanges of types that are plug-ins of RabbitMQ.
    Plugins,
}

/// Milliseconds for which queues and messages live that expire. It is over when a step has rested.
pub const TTL_MILLIS: [i32; 2] = [0, 10];
/// Milliseconds after which a queue ends that nobody uses. Less than a long rest, and more than any step takes.
pub const LEASE_MILLIS: i32 = 1_000;

#[derive(Clone, Copy, Debug, Default)]
pub struct Features(pub &'static [Feature]);

impl Features {
    pub fn has(self, feature: Feature) -> bool {
        self.0.contains(&feature)
    }

    /// Arguments that give a queue some of the features.
    pub fn queue_arguments(self, random: &mut Random, queue: &str) -> Vec<(&'static str, AMQPValue)> {
        let mut arguments = Vec::new();
        if self.has(Feature::QueueTtl) && queue != DEAD_LETTERS {
            arguments.push(("x-message-ttl", AMQPValue::LongInt(any(random, &TTL_MILLIS))));
        }
        if (self.has(Feature::Limits) || self.has(Feature::Refusals)) && random.chance(60) {
            arguments.extend(self.limits(random));
        }
        if self.has(Feature::MessageTtl) && queue != DEAD_LETTERS && random.chance(60) {
            // A dead letter does not expire any more, and at RabbitMQ it would shield all behind it.
            arguments.push(("x-dead-letter-exchange", text("")));
            arguments.push(("x-dead-letter-routing-key", text(DEAD_LETTERS)));
        } else if self.has(Feature::QueueTtl) && random.chance(70) {
            arguments.push(("x-dead-letter-exchange", text("")));
            if random.chance(80) {
                let key = any(random, &["q0", "q1", "q1", "q2", "q2", "missing"]);
                arguments.push(("x-dead-letter-routing-key", text(key)));
            }
        } else if self.has(Feature::DeadLetters) && random.chance(50) {
            let exchange = any(random, &["", "xf", "xd", "xt", "amq.topic"]);
            arguments.push(("x-dead-letter-exchange", text(exchange)));
            if random.chance(50) {
                let key = any(random, &["q0", "q1", "q2", "a.b"]);
                arguments.push(("x-dead-letter-routing-key", text(key)));
            }
        }
        if self.has(Feature::Priorities) && random.chance(80) {
            let levels = any(random, &[1, 3, 10, 255]);
            arguments.push(("x-max-priority", AMQPValue::LongInt(levels)));
        }
        if self.has(Feature::SingleActive) && random.chance(30) {
            arguments.push(("x-single-active-consumer", AMQPValue::Boolean(true)));
        }
        if self.has(Feature::Leases) && random.chance(70) {
            arguments.push(("x-expires", AMQPValue::LongInt(LEASE_MILLIS)));
        }
        arguments
    }

    fn limits(self, random: &mut Random) -> Vec<(&'static str, AMQPValue)> {
        let limit = i32::try_from(random.below(4)).unwrap_or(0);
        let mut arguments = vec![match random.below(3) {
            0 => ("x-max-length-bytes", AMQPValue::LongInt(limit * 3)),
            _ => ("x-max-length", AMQPValue::LongInt(limit)),
        }];
        if self.has(Feature::Refusals) {
            let overflow = any(random, &["reject-publish", "reject-publish-dlx"]);
            arguments.push(("x-overflow", text(overflow)));
        } else if random.chance(60) {
            let overflow = any(random, &["drop-head", "reject-publish", "reject-publish-dlx"]);
            arguments.push(("x-overflow", text(overflow)));
        }
        arguments
    }

    /// [`Features::queue_arguments`] as a table.
    pub fn queue_arguments_table(self, random: &mut Random, queue: &str) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in self.queue_arguments(random, queue) {
            table.insert(name.into(), value);
        }
        table
    }

    /// `properties` with what the features have to do with.
    pub fn properties(self, random: &mut Random, mut properties: BasicProperties) -> BasicProperties {
        if self.has(Feature::Priorities) && random.chance(60) {
            properties = properties.with_priority(any(random, &[0, 1, 2, 3, 9, 200]));
        }
        if self.has(Feature::MessageTtl) {
            properties = properties.with_expiration(any(random, &["0", "10"]).into());
        } else if (self.has(Feature::QueueTtl) || self.has(Feature::PolicyTtl)) && random.chance(50) {
            properties = properties.with_expiration(any(random, &["0", "10", "3600000"]).into());
        }
        properties
    }

    /// The queue of a message that is published to one.
    pub fn queue_to_publish(self, random: &mut Random) -> Option<&'static str> {
        let of_time = [Feature::QueueTtl, Feature::PolicyTtl, Feature::MessageTtl];
        let expires = of_time.into_iter().any(|feature| self.has(feature));
        expires.then(|| any(random, &["q0", "q1"]))
    }
}

/// Where messages that expired go in the end. Nothing else comes there.
const DEAD_LETTERS: &str = "q2";

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}
