//! Sequences from a seed.
//!
//! A sequence has a theme, which says what happens often in it, and begins with the queues and exchanges that the theme
//! needs. What it does is otherwise left to chance; but it does nothing whose outcome depends on who is faster.

use crate::features::{Feature, Features};
use crate::odd;
use crate::operations::{Operation, Pick, Settle, Step, Verb};
use crate::player::CONNECTIONS;
use crate::policies;
use crate::themes::{Theme, Weighted};
use crate::values::{self, QUEUES, any};
use leveret_integration_tests::random::Random;
use leveret_integration_tests::raw::{
    AMQPClass, BasicProperties, access, basic, channel, confirm, exchange, make, queue, tx,
};

/// Steps after those that begin every sequence.
const STEPS: std::ops::Range<usize> = 8..40;

/// Channels of each connection.
const CHANNELS: [u16; 2] = [1, 2];

pub struct Generator {
    random: Random,
    features: Features,
    theme: Theme,
    messages: usize,
    /// Of the step that is being made.
    connection: usize,
    channel: u16,
}

/// The sequence of `seed`, always the same for the same themes to choose from.
pub fn generate(seed: u64, themes: &[Theme]) -> Vec<Step> {
    // Neighbouring seeds must not give similar numbers.
    let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..8 {
        random.number();
    }
    let theme = any(&mut random, themes);
    let mut generator = Generator {
        random,
        features: theme.features(),
        theme,
        messages: 0,
        connection: 0,
        channel: 1,
    };
    let mut steps = generator.beginning();
    let weights = theme.weights();
    let length = STEPS.start + generator.random.below(STEPS.len());
    for _ in 0..length {
        generator.connection = usize::from(generator.random.chance(30)) % CONNECTIONS;
        generator.channel = any(&mut generator.random, &CHANNELS);
        let operation = generator.choose(&weights);
        steps.push(generator.step(operation));
    }
    steps
}

fn queue_method(method: queue::AMQPMethod) -> Operation {
    Operation::Method(AMQPClass::Queue(method))
}

fn exchange_method(method: exchange::AMQPMethod) -> Operation {
    Operation::Method(AMQPClass::Exchange(method))
}

fn basic_method(method: basic::AMQPMethod) -> Operation {
    Operation::Method(AMQPClass::Basic(method))
}

impl Generator {
    fn step(&self, operation: Operation) -> Step {
        Step {
            connection: self.connection,
            channel: self.channel,
            operation,
            rest: self.theme.rest(),
        }
    }

    fn choose(&mut self, weights: &[Weighted]) -> Operation {
        let sum = weights.iter().map(|(weight, _)| weight).sum();
        let mut left = self.random.below(sum);
        for (weight, make) in weights {
            if left < *weight {
                return make(self);
            }
            left -= weight;
        }
        self.publish()
    }

    /// Queues, and exchanges with a binding each, for most themes.
    fn beginning(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for name in QUEUES {
            let mut declare = make::queue_declare(name);
            declare.exclusive = false;
            declare.durable = self.random.chance(50);
            declare.arguments = self.features.queue_arguments_table(&mut self.random, name);
            steps.push(self.step(queue_method(queue::AMQPMethod::Declare(declare))));
        }
        if self.theme == Theme::PolicyTtl {
            let policy = policies::set_ttl_of_clients(&mut self.random);
            steps.push(self.step(policy));
        }
        steps.extend(self.modes());
        if !self.theme.has_exchanges() {
            return steps;
        }
        for (name, kind) in values::EXCHANGES {
            let mut declare = make::exchange_declare(name, kind);
            if self.features.has(Feature::Alternates) && name != "xa" {
                declare.arguments = values::exchange_arguments(&mut self.random, self.features);
            }
            steps.push(self.step(exchange_method(exchange::AMQPMethod::Declare(declare))));
            let mut bind = make::queue_bind(
                any(&mut self.random, &QUEUES),
                name,
                values::binding_key(&mut self.random),
            );
            if kind == "headers" {
                bind.arguments = values::binding_arguments(&mut self.random);
            }
            steps.push(self.step(queue_method(queue::AMQPMethod::Bind(bind))));
        }
        if self.features.has(Feature::Plugins) {
            for (name, kind) in values::PLUGIN_EXCHANGES {
                let declare = make::exchange_declare(name, kind);
                steps.push(self.step(exchange_method(exchange::AMQPMethod::Declare(declare))));
                let bind = self.bind_plugin();
                steps.push(self.step(bind));
            }
        }
        steps
    }

    /// Confirms or transactions on most channels, where it is about what queues refuse.
    fn modes(&mut self) -> Vec<Step> {
        let transactions = match self.theme {
            Theme::Limits | Theme::Policies => 0,
            Theme::Refusals => 60,
            _ => return Vec::new(),
        };
        let mut steps = Vec::new();
        for connection in 0..CONNECTIONS {
            for channel in CHANNELS {
                if self.random.chance(25) {
                    continue;
                }
                let transactional = self.random.chance(transactions);
                let operation = if transactional {
                    self.tx_select()
                } else {
                    self.confirm_select()
                };
                (self.connection, self.channel) = (connection, channel);
                steps.push(self.step(operation));
            }
        }
        (self.connection, self.channel) = (0, 1);
        steps
    }

    // Topology

    pub fn declare_queue(&mut self) -> Operation {
        let name = match self.random.below(12) {
            0 | 1 => "",
            2 => "amq.mine",
            3 => "missing-too",
            _ => values::queue(&mut self.random),
        };
        let random = &mut self.random;
        let passive = random.chance(20) || name.starts_with("gen:") || name.starts_with("missing");
        queue_method(queue::AMQPMethod::Declare(queue::Declare {
            queue: name.into(),
            passive,
            durable: random.chance(50),
            exclusive: random.chance(15),
            auto_delete: random.chance(15),
            nowait: random.chance(8) && !name.is_empty(),
            arguments: values::queue_arguments(random, self.features, name),
        }))
    }

    pub fn declare_wrongly(&mut self) -> Operation {
        queue_method(queue::AMQPMethod::Declare(queue::Declare {
            queue: any(&mut self.random, &["wrong", "q0"]).into(),
            arguments: values::wrong_queue_arguments(&mut self.random),
            ..Default::default()
        }))
    }

    pub fn delete_queue(&mut self) -> Operation {
        queue_method(queue::AMQPMethod::Delete(queue::Delete {
            queue: values::queue(&mut self.random).into(),
            if_unused: self.random.chance(30),
            if_empty: self.random.chance(30),
            nowait: self.random.chance(8),
        }))
    }

    pub fn purge(&mut self) -> Operation {
        queue_method(queue::AMQPMethod::Purge(queue::Purge {
            queue: values::queue(&mut self.random).into(),
            nowait: self.random.chance(8),
        }))
    }

    pub fn bind(&mut self) -> Operation {
        let random = &mut self.random;
        queue_method(queue::AMQPMethod::Bind(queue::Bind {
            queue: values::queue(random).into(),
            exchange: values::exchange(random).into(),
            routing_key: values::binding_key(random).into(),
            nowait: random.chance(8),
            arguments: if random.chance(30) {
                values::binding_arguments(random)
            } else {
                Default::default()
            },
        }))
    }

    pub fn unbind(&mut self) -> Operation {
        let random = &mut self.random;
        queue_method(queue::AMQPMethod::Unbind(queue::Unbind {
            queue: values::queue(random).into(),
            exchange: values::exchange(random).into(),
            routing_key: values::binding_key(random).into(),
            arguments: if random.chance(15) {
                values::binding_arguments(random)
            } else {
                Default::default()
            },
        }))
    }

    pub fn declare_exchange(&mut self) -> Operation {
        let random = &mut self.random;
        let (name, usual) = any(random, &values::EXCHANGES);
        let name = any(
            random,
            &[
                name,
                name,
                name,
                name,
                name,
                name,
                "amq.direct",
                "amq.mine",
                "",
                "missing-too",
            ],
        );
        let kind = match random.below(12) {
            0 => any(random, &["direct", "fanout", "topic", "headers"]),
            1 if self.theme == Theme::Errors => "x-nonsense",
            _ => usual,
        };
        exchange_method(exchange::AMQPMethod::Declare(exchange::Declare {
            exchange: name.into(),
            kind: kind.into(),
            passive: random.chance(15) || name == "missing-too",
            durable: random.chance(10),
            auto_delete: random.chance(15),
            internal: random.chance(8),
            nowait: random.chance(8),
            arguments: values::exchange_arguments(random, self.features),
        }))
    }

    pub fn delete_exchange(&mut self) -> Operation {
        exchange_method(exchange::AMQPMethod::Delete(exchange::Delete {
            exchange: values::exchange(&mut self.random).into(),
            if_unused: self.random.chance(40),
            nowait: self.random.chance(8),
        }))
    }

    pub fn bind_exchange(&mut self) -> Operation {
        let random = &mut self.random;
        exchange_method(exchange::AMQPMethod::Bind(exchange::Bind {
            destination: values::exchange(random).into(),
            source: values::exchange(random).into(),
            routing_key: values::binding_key(random).into(),
            nowait: random.chance(8),
            arguments: if random.chance(20) {
                values::binding_arguments(random)
            } else {
                Default::default()
            },
        }))
    }

    pub fn unbind_exchange(&mut self) -> Operation {
        let random = &mut self.random;
        exchange_method(exchange::AMQPMethod::Unbind(exchange::Unbind {
            destination: values::exchange(random).into(),
            source: values::exchange(random).into(),
            routing_key: values::binding_key(random).into(),
            nowait: random.chance(8),
            arguments: Default::default(),
        }))
    }

    // Types of exchanges that are plug-ins of RabbitMQ

    pub fn declare_plugin_exchange(&mut self) -> Operation {
        let random = &mut self.random;
        let (name, kind) = any(random, &values::PLUGIN_EXCHANGES);
        exchange_method(exchange::AMQPMethod::Declare(exchange::Declare {
            arguments: values::plugin_arguments(random, kind),
            ..make::exchange_declare(name, kind)
        }))
    }

    pub fn delete_plugin_exchange(&mut self) -> Operation {
        let (name, _) = any(&mut self.random, &values::PLUGIN_EXCHANGES);
        exchange_method(exchange::AMQPMethod::Delete(make::exchange_delete(name)))
    }

    /// A plug-in's exchange with the queue that it may have.
    fn plugin_binding(&mut self) -> (&'static str, &'static str, &'static str) {
        let random = &mut self.random;
        match any(random, &values::PLUGIN_EXCHANGES).0 {
            "xr" => ("xr", any(random, &QUEUES), values::binding_key(random)),
            "xc" => ("xc", "q0", values::weight(random)),
            one => (one, "q1", ""),
        }
    }

    pub fn bind_plugin(&mut self) -> Operation {
        let (exchange, queue, key) = self.plugin_binding();
        queue_method(queue::AMQPMethod::Bind(make::queue_bind(queue, exchange, key)))
    }

    pub fn unbind_plugin(&mut self) -> Operation {
        let (exchange, queue, key) = self.plugin_binding();
        queue_method(queue::AMQPMethod::Unbind(make::queue_unbind(queue, exchange, key)))
    }

    /// A plug-in's exchange as destination. As source a history costs the connection at RabbitMQ 3.10, and the others choose.
    pub fn bind_exchange_to_plugin(&mut self) -> Operation {
        let random = &mut self.random;
        let (destination, _) = any(random, &values::PLUGIN_EXCHANGES);
        let bind = exchange::Bind {
            routing_key: values::binding_key(random).into(),
            ..make::exchange_bind(destination, any(random, &values::EXCHANGES).0)
        };
        exchange_method(exchange::AMQPMethod::Bind(bind))
    }

    pub fn publish_to_plugin(&mut self) -> Operation {
        let (exchange, _) = any(&mut self.random, &values::PLUGIN_EXCHANGES);
        let key = values::routing_key(&mut self.random);
        let properties = values::properties(&mut self.random, self.features);
        self.message(exchange, key, properties)
    }

    // Messages

    fn message(&mut self, exchange: &str, key: &str, properties: BasicProperties) -> Operation {
        self.messages += 1;
        let mut body = format!("m{}", self.messages).into_bytes();
        match self.random.below(60) {
            0 => body.clear(),
            1 => body.resize(5_000, b'.'),
            2 => body.resize(300_000, b'.'),
            _ => {}
        }
        Operation::Publish {
            publish: basic::Publish {
                exchange: exchange.into(),
                routing_key: key.into(),
                mandatory: self.random.chance(20),
                immediate: self.theme == Theme::Errors && self.random.chance(3),
            },
            properties: Box::new(properties),
            body,
        }
    }

    pub fn publish(&mut self) -> Operation {
        let exchange = values::exchange(&mut self.random);
        let key = values::routing_key(&mut self.random);
        let properties = values::properties(&mut self.random, self.features);
        self.message(exchange, key, properties)
    }

    pub fn publish_to_queue(&mut self) -> Operation {
        let random = &mut self.random;
        let chosen = self.features.queue_to_publish(random);
        let key = chosen.unwrap_or_else(|| values::queue(random));
        let properties = if self.random.chance(20) && chosen.is_none() {
            values::properties(&mut self.random, self.features)
        } else {
            self.features.properties(&mut self.random, BasicProperties::default())
        };
        self.message("", key, properties)
    }

    fn queue_to_consume(&mut self) -> &'static str {
        if self.theme == Theme::ChannelPrefetch {
            return QUEUES[usize::from(self.channel) % QUEUES.len()];
        }
        values::queue(&mut self.random)
    }

    pub fn consume(&mut self) -> Operation {
        let queue = self.queue_to_consume();
        let random = &mut self.random;
        let consumer_tag = if random.chance(15) { "" } else { values::tag(random) };
        basic_method(basic::AMQPMethod::Consume(basic::Consume {
            queue: queue.into(),
            consumer_tag: consumer_tag.into(),
            no_local: random.chance(5),
            no_ack: random.chance(if self.theme == Theme::ChannelPrefetch { 0 } else { 25 }),
            exclusive: random.chance(8),
            nowait: random.chance(8) && !consumer_tag.is_empty(),
            arguments: values::consumer_arguments(random, self.features),
        }))
    }

    pub fn cancel(&mut self) -> Operation {
        basic_method(basic::AMQPMethod::Cancel(basic::Cancel {
            consumer_tag: values::tag(&mut self.random).into(),
            nowait: self.random.chance(15),
        }))
    }

    pub fn get(&mut self) -> Operation {
        basic_method(basic::AMQPMethod::Get(basic::Get {
            queue: self.queue_to_consume().into(),
            no_ack: self.random.chance(25),
        }))
    }

    pub fn settle(&mut self) -> Operation {
        let random = &mut self.random;
        let verb = match random.below(8) {
            0..=3 => Verb::Ack,
            4 | 5 => Verb::Nack {
                requeue: random.chance(70),
            },
            _ => Verb::Reject {
                requeue: random.chance(70),
            },
        };
        let pick = match random.below(40) {
            0 => Pick::Unknown,
            1 => Pick::Again,
            2 | 3 => Pick::Zero,
            _ => Pick::Unacked(random.below(6)),
        };
        let multiple = random.chance(35) || (pick == Pick::Zero && random.chance(80));
        Operation::Settle(Settle { verb, pick, multiple })
    }

    pub fn recover(&mut self) -> Operation {
        let requeue = !self.random.chance(5);
        basic_method(if self.random.chance(20) {
            basic::AMQPMethod::RecoverAsync(basic::RecoverAsync { requeue })
        } else {
            basic::AMQPMethod::Recover(basic::Recover { requeue })
        })
    }

    pub fn prefetch(&mut self) -> Operation {
        self.qos(false)
    }

    pub fn channel_prefetch(&mut self) -> Operation {
        self.qos(true)
    }

    fn qos(&mut self, global: bool) -> Operation {
        let prefetch_count = any(&mut self.random, &[0, 1, 1, 2, 3]);
        basic_method(basic::AMQPMethod::Qos(basic::Qos { prefetch_count, global }))
    }

    // Confirms and transactions

    pub fn confirm_select(&mut self) -> Operation {
        let nowait = self.random.chance(10);
        Operation::Method(AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select {
            nowait,
        })))
    }

    pub fn tx_select(&mut self) -> Operation {
        Operation::Method(AMQPClass::Tx(tx::AMQPMethod::Select(tx::Select {})))
    }

    pub fn tx_commit(&mut self) -> Operation {
        Operation::Method(AMQPClass::Tx(tx::AMQPMethod::Commit(tx::Commit {})))
    }

    pub fn tx_rollback(&mut self) -> Operation {
        Operation::Method(AMQPClass::Tx(tx::AMQPMethod::Rollback(tx::Rollback {})))
    }

    // Direct reply-to

    pub fn consume_replies(&mut self) -> Operation {
        basic_method(basic::AMQPMethod::Consume(basic::Consume {
            queue: "amq.rabbitmq.reply-to".into(),
            consumer_tag: if self.random.chance(50) {
                "replies".into()
            } else {
                Default::default()
            },
            no_ack: !self.random.chance(5),
            ..Default::default()
        }))
    }

    pub fn request(&mut self) -> Operation {
        let properties = BasicProperties::default().with_reply_to("amq.rabbitmq.reply-to".into());
        let key = any(&mut self.random, &QUEUES);
        self.message("", key, properties)
    }

    pub fn reply(&mut self) -> Operation {
        let key = any(
            &mut self.random,
            &["reply:0", "reply:0", "reply:1", "amq.rabbitmq.reply-to.none"],
        );
        let properties = values::properties(&mut self.random, self.features);
        self.message("", key, properties)
    }

    /// Uses the pseudo queue as if it were one.
    pub fn touch_reply_queue(&mut self) -> Operation {
        const NAME: &str = "amq.rabbitmq.reply-to";
        let method = match self.random.below(6) {
            0 => queue::AMQPMethod::Declare(make::queue_declare_passive(NAME)),
            1 => queue::AMQPMethod::Declare(queue::Declare {
                queue: NAME.into(),
                ..Default::default()
            }),
            2 => queue::AMQPMethod::Bind(make::queue_bind(NAME, "amq.direct", "a")),
            3 => queue::AMQPMethod::Delete(make::queue_delete(NAME)),
            4 => queue::AMQPMethod::Purge(make::queue_purge(NAME)),
            _ => return basic_method(basic::AMQPMethod::Get(make::basic_get(NAME))),
        };
        queue_method(method)
    }

    // Time and policies

    pub fn rest(&mut self) -> Operation {
        Operation::Rest
    }

    pub fn set_policy(&mut self) -> Operation {
        policies::set(&mut self.random)
    }

    pub fn set_ttl_policy(&mut self) -> Operation {
        policies::set_ttl(&mut self.random)
    }

    pub fn clear_policy(&mut self) -> Operation {
        policies::clear(&mut self.random)
    }

    // Ends and errors

    pub fn close_channel(&mut self) -> Operation {
        Operation::CloseChannel
    }

    pub fn close_connection(&mut self) -> Operation {
        Operation::CloseConnection
    }

    pub fn odd(&mut self) -> Operation {
        odd::operation(&mut self.random)
    }

    /// Methods that are well-formed and rarely of use.
    pub fn misplaced(&mut self) -> Operation {
        match self.random.below(7) {
            0 => self.tx_commit(),
            1 => self.tx_rollback(),
            2 => self.tx_select(),
            3 => self.confirm_select(),
            4 => Operation::Method(AMQPClass::Channel(channel::AMQPMethod::Flow(channel::Flow {
                active: true,
            }))),
            5 => Operation::Method(AMQPClass::Access(access::AMQPMethod::Request(
                access::Request::default(),
            ))),
            _ => self.recover(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Theme; Theme::ALL.len()] = {
        let mut all = [Theme::Topology; Theme::ALL.len()];
        let mut at = 0;
        while at < all.len() {
            all[at] = Theme::ALL[at].1;
            at += 1;
        }
        all
    };

    fn titles(seed: u64) -> Vec<String> {
        let steps = generate(seed, &ALL);
        steps.iter().map(Step::to_string).collect()
    }

    #[test]
    fn a_seed_gives_the_same_sequence_again() {
        for seed in 0..50 {
            assert_eq!(titles(seed), titles(seed));
        }
    }

    #[test]
    fn neighbouring_seeds_give_different_sequences() {
        let all: std::collections::BTreeSet<Vec<String>> = (0..200).map(titles).collect();
        assert_eq!(all.len(), 200);
    }

    #[test]
    fn some_sequence_has_each_kind_of_step() {
        let all: Vec<String> = (0..400).flat_map(titles).collect();
        for wanted in [
            "queue.declare",
            "queue.bind",
            "queue.unbind",
            "queue.purge",
            "queue.delete",
            "exchange.declare",
            "exchange.delete",
            "exchange.bind",
            "exchange.unbind",
            "basic.publish",
            "basic.consume",
            "basic.cancel",
            "basic.get",
            "basic.ack",
            "basic.nack",
            "basic.reject",
            "basic.recover",
            "basic.recover-async",
            "basic.qos",
            "confirm.select",
            "tx.select",
            "tx.commit",
            "tx.rollback",
            "channel.close",
            "connection.close",
            "channel.flow",
            "reply-to",
            "x-match",
            "a body that is too long",
            "x-message-ttl=LongInt(0)",
            "x-max-priority",
            "x-overflow=\"reject-publish-dlx\"",
            "x-expires=LongInt(1000)",
            "BCC",
            "PUT /api/policies",
            "DELETE /api/operator-policies",
            "rest",
        ] {
            assert!(all.iter().any(|title| title.contains(wanted)), "no step with {wanted}");
        }
    }

    #[test]
    fn a_sequence_is_about_one_of_the_themes_it_may_have() {
        let mut steps = (0..50).flat_map(|seed| generate(seed, &[Theme::Policies]));
        assert!(steps.any(|step| matches!(step.operation, Operation::Request(_))));
        let mut others = (0..50).flat_map(|seed| generate(seed, &[Theme::Limits]));
        assert!(!others.any(|step| matches!(step.operation, Operation::Request(_))));
    }

    #[test]
    fn what_expires_is_not_behind_what_does_not() {
        for seed in 0..100 {
            for step in generate(seed, &[Theme::MessageTtl]) {
                if let Operation::Publish {
                    publish, properties, ..
                } = step.operation
                {
                    assert!(properties.expiration().is_some() && publish.routing_key.as_str() != "q2");
                }
            }
        }
    }

    #[test]
    fn channels_that_share_a_prefetch_consume_from_one_queue() {
        for seed in 0..400 {
            let steps = generate(seed, &ALL);
            let shares = steps
                .iter()
                .any(|step| step.to_string().contains("basic.qos") && step.to_string().contains("global"));
            for step in steps.iter().filter(|_| shares) {
                if let Operation::Method(AMQPClass::Basic(basic::AMQPMethod::Consume(consume))) = &step.operation {
                    assert_eq!(consume.queue.as_str(), QUEUES[usize::from(step.channel) % QUEUES.len()]);
                }
            }
        }
    }
}
