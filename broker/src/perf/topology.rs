//! What a measurement declares: queues, one exchange, bindings. Made at the beginning, deleted at the end.

use amq_protocol::protocol::{exchange, queue};
use amq_protocol::types::{AMQPValue, FieldTable};
use clap::ValueEnum;
use serde::Serialize;

use super::connection::{CHANNEL, Connection, unexpected};
use super::error::PerfError;
use crate::protocol::AMQPClass;
use crate::protocol::wire::short_string;

/// Methods that are sent before the first answer is read.
const PIPELINE_METHODS: usize = 200;

/// Where messages are published to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExchangeKind {
    /// The default exchange: routing key is the queue's name.
    #[default]
    Default,
    Direct,
    /// Every queue gets every message.
    Fanout,
    Topic,
    /// Every queue gets every message: its binding asks for no header.
    Headers,
}

impl ExchangeKind {
    fn name(self) -> &'static str {
        match self {
            ExchangeKind::Default | ExchangeKind::Direct => "direct",
            ExchangeKind::Fanout => "fanout",
            ExchangeKind::Topic => "topic",
            ExchangeKind::Headers => "headers",
        }
    }
}

/// Names and kinds of what is declared.
#[derive(Clone, Debug)]
pub struct Topology {
    prefix: String,
    pub exchange: ExchangeKind,
    pub queues: usize,
    /// Routing keys that reach each queue; more than one only where the exchange routes by key.
    routing_keys: usize,
    /// Bindings beyond those, none of which matches what is published.
    extra_bindings: usize,
    pub durable: bool,
}

impl Topology {
    /// Names are made of this process's id, so that measurements do not meet.
    pub fn new(exchange: ExchangeKind, queues: usize, durable: bool) -> Topology {
        let prefix = format!("perf-{}", std::process::id());
        Topology {
            prefix,
            exchange,
            queues,
            routing_keys: 1,
            extra_bindings: 0,
            durable,
        }
    }

    /// The same with more routing keys for each queue, and with bindings that match nothing.
    pub fn with_keys(self, routing_keys: usize, extra_bindings: usize) -> Topology {
        Topology {
            routing_keys,
            extra_bindings,
            ..self
        }
    }

    pub fn queue_name(&self, index: usize) -> String {
        format!("{}-{index:05}", self.prefix)
    }

    /// Empty for the default exchange.
    pub fn exchange_name(&self) -> &str {
        if self.exchange == ExchangeKind::Default {
            ""
        } else {
            &self.prefix
        }
    }

    /// One of the routing keys that reach a queue. All are of one length.
    fn routing_key(&self, queue: usize, number: usize) -> String {
        match self.exchange {
            ExchangeKind::Default => self.queue_name(queue),
            ExchangeKind::Topic => format!("perf.{queue:05}.message-{number:05}"),
            ExchangeKind::Direct => format!("perf.{queue:05}-{number:05}"),
            ExchangeKind::Fanout | ExchangeKind::Headers => "perf".to_owned(),
        }
    }

    /// How many queues get a message.
    pub fn copies(&self) -> usize {
        match self.exchange {
            ExchangeKind::Fanout | ExchangeKind::Headers => self.queues,
            ExchangeKind::Default | ExchangeKind::Direct | ExchangeKind::Topic => 1,
        }
    }

    /// The routing keys one of several publishers takes in turn: together they reach every queue.
    pub fn keys_of_publisher(&self, publisher: usize, publishers: usize) -> Vec<String> {
        if self.copies() > 1 || self.queues == 0 {
            return vec![self.routing_key(0, 0)];
        }
        let queues: Vec<usize> = share(publisher, publishers, self.queues).collect();
        (0..self.routing_keys)
            .flat_map(|number| queues.iter().map(move |queue| self.routing_key(*queue, number)))
            .collect()
    }

    /// The queues one of several consumers consumes from: together they empty every queue.
    pub fn queues_of_consumer(&self, consumer: usize, consumers: usize) -> Vec<String> {
        share(consumer, consumers, self.queues)
            .map(|queue| self.queue_name(queue))
            .collect()
    }

    pub fn declare(&self, connection: &mut Connection) -> Result<(), PerfError> {
        let mut methods = Vec::new();
        if self.exchange != ExchangeKind::Default {
            methods.push(self.declare_exchange());
        }
        methods.extend((0..self.queues).map(|index| declare_queue(&self.queue_name(index), self.durable, false)));
        if self.exchange != ExchangeKind::Default {
            for queue in 0..self.queues {
                let keys = self.binding_keys(queue).into_iter();
                methods.extend(keys.map(|key| self.bind(queue, &key, FieldTable::default())));
            }
            methods.extend((0..self.extra_bindings).map(|index| self.extra_binding(index)));
        }
        call_many(connection, &methods)
    }

    pub fn delete(&self, connection: &mut Connection) -> Result<(), PerfError> {
        let mut methods: Vec<AMQPClass> = (0..self.queues)
            .map(|index| delete_queue(&self.queue_name(index)))
            .collect();
        if self.exchange != ExchangeKind::Default {
            let delete = exchange::Delete {
                exchange: short_string(&self.prefix),
                if_unused: false,
                nowait: false,
            };
            methods.push(AMQPClass::Exchange(exchange::AMQPMethod::Delete(delete)));
        }
        call_many(connection, &methods)
    }

    /// Messages ready in all queues together.
    pub fn messages(&self, connection: &mut Connection) -> Result<u64, PerfError> {
        let mut sum = 0;
        for index in 0..self.queues {
            match connection.call(CHANNEL, &declare_queue(&self.queue_name(index), self.durable, true))? {
                AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) => sum += u64::from(ok.message_count),
                other => return Err(unexpected(&other)),
            }
        }
        Ok(sum)
    }

    fn declare_exchange(&self) -> AMQPClass {
        AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
            exchange: short_string(&self.prefix),
            kind: short_string(self.exchange.name()),
            passive: false,
            durable: self.durable,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: FieldTable::default(),
        }))
    }

    fn binding_keys(&self, queue: usize) -> Vec<String> {
        if self.exchange == ExchangeKind::Topic {
            return vec![format!("perf.{queue:05}.*")];
        }
        (0..self.routing_keys)
            .map(|number| self.routing_key(queue, number))
            .collect()
    }

    fn extra_binding(&self, index: usize) -> AMQPClass {
        let mut arguments = FieldTable::default();
        if self.exchange == ExchangeKind::Headers {
            arguments.insert(short_string("number"), AMQPValue::LongLongInt(index as i64));
        }
        // A third each: no wildcard at the front, one there, and one of unknown length.
        let key = match index % 3 {
            0 => format!("idle.{index}.*"),
            1 => format!("*.idle.{index}"),
            _ => format!("idle.{index}.#"),
        };
        self.bind(index % self.queues.max(1), &key, arguments)
    }

    fn bind(&self, queue: usize, routing_key: &str, arguments: FieldTable) -> AMQPClass {
        AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
            queue: short_string(&self.queue_name(queue)),
            exchange: short_string(&self.prefix),
            routing_key: short_string(routing_key),
            nowait: false,
            arguments,
        }))
    }
}

/// Sends many methods, each with an answer, some at a time.
pub fn call_many(connection: &mut Connection, methods: &[AMQPClass]) -> Result<(), PerfError> {
    for some in methods.chunks(PIPELINE_METHODS) {
        connection.call_all(CHANNEL, some)?;
    }
    Ok(())
}

pub fn declare_queue(name: &str, durable: bool, passive: bool) -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
        queue: short_string(name),
        passive,
        durable,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: FieldTable::default(),
    }))
}

pub fn delete_queue(name: &str) -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::Delete(queue::Delete {
        queue: short_string(name),
        if_unused: false,
        if_empty: false,
        nowait: false,
    }))
}

/// What falls to one of `workers` when they share `items`: some items each, or some workers per item.
fn share(worker: usize, workers: usize, items: usize) -> impl Iterator<Item = usize> {
    let workers = workers.max(1);
    let first = if workers > items { worker % items.max(1) } else { worker };
    (first..items).step_by(workers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(workers: usize, items: usize) -> Vec<Vec<usize>> {
        (0..workers)
            .map(|worker| share(worker, workers, items).collect())
            .collect()
    }

    #[test]
    fn workers_share_queues_evenly() {
        assert_eq!(shares(2, 5), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(shares(5, 2), [[0], [1], [0], [1], [0]]);
        assert_eq!(shares(2, 2), [[0], [1]]);
        assert_eq!(shares(1, 0), [Vec::<usize>::new()]);
    }

    #[test]
    fn routing_keys_are_of_one_length() {
        for exchange in [ExchangeKind::Default, ExchangeKind::Direct, ExchangeKind::Topic] {
            let topology = Topology::new(exchange, 20_000, false);
            let keys = topology.keys_of_publisher(0, 1);
            assert_eq!(keys.len(), 20_000);
            assert!(keys.iter().all(|key| key.len() == keys[0].len()));
        }
        assert_eq!(
            Topology::new(ExchangeKind::Fanout, 10, false).keys_of_publisher(0, 1),
            ["perf"]
        );
    }

    #[test]
    fn the_queues_take_turns_before_their_routing_keys_do() {
        let topology = Topology::new(ExchangeKind::Direct, 2, false).with_keys(2, 0);
        let keys = topology.keys_of_publisher(0, 1);
        assert_eq!(
            keys,
            [
                "perf.00000-00000",
                "perf.00001-00000",
                "perf.00000-00001",
                "perf.00001-00001"
            ]
        );
        assert_eq!(topology.binding_keys(1), [keys[1].clone(), keys[3].clone()]);
        let by_pattern = Topology {
            exchange: ExchangeKind::Topic,
            ..topology
        };
        assert_eq!(by_pattern.binding_keys(1), ["perf.00001.*"]);
    }
}
