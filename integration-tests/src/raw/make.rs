//! Methods with the arguments that tests care about; everything else is empty or off.

use super::{FieldTable, basic, exchange, queue};

/// An exclusive queue, so that nothing stays behind.
pub fn queue_declare(name: &str) -> queue::Declare {
    queue::Declare {
        queue: name.into(),
        exclusive: true,
        ..Default::default()
    }
}

/// An exclusive queue with arguments.
pub fn queue_declare_with(name: &str, arguments: FieldTable) -> queue::Declare {
    queue::Declare {
        arguments,
        ..queue_declare(name)
    }
}

/// Only asks whether the queue exists.
pub fn queue_declare_passive(name: &str) -> queue::Declare {
    queue::Declare {
        queue: name.into(),
        passive: true,
        ..Default::default()
    }
}

pub fn queue_bind(queue: &str, exchange: &str, routing_key: &str) -> queue::Bind {
    queue::Bind {
        queue: queue.into(),
        exchange: exchange.into(),
        routing_key: routing_key.into(),
        ..Default::default()
    }
}

pub fn queue_unbind(queue: &str, exchange: &str, routing_key: &str) -> queue::Unbind {
    queue::Unbind {
        queue: queue.into(),
        exchange: exchange.into(),
        routing_key: routing_key.into(),
        ..Default::default()
    }
}

pub fn queue_purge(name: &str) -> queue::Purge {
    queue::Purge {
        queue: name.into(),
        nowait: false,
    }
}

pub fn queue_delete(name: &str) -> queue::Delete {
    queue::Delete {
        queue: name.into(),
        ..Default::default()
    }
}

pub fn exchange_declare(name: &str, kind: &str) -> exchange::Declare {
    exchange::Declare {
        exchange: name.into(),
        kind: kind.into(),
        ..Default::default()
    }
}

pub fn exchange_delete(name: &str) -> exchange::Delete {
    exchange::Delete {
        exchange: name.into(),
        ..Default::default()
    }
}

pub fn exchange_bind(destination: &str, source: &str) -> exchange::Bind {
    exchange::Bind {
        destination: destination.into(),
        source: source.into(),
        ..Default::default()
    }
}

pub fn exchange_unbind(destination: &str, source: &str) -> exchange::Unbind {
    exchange::Unbind {
        destination: destination.into(),
        source: source.into(),
        ..Default::default()
    }
}

pub fn basic_publish(exchange: &str, routing_key: &str) -> basic::Publish {
    basic::Publish {
        exchange: exchange.into(),
        routing_key: routing_key.into(),
        ..Default::default()
    }
}

/// A consumer that acknowledges by hand.
pub fn basic_consume(queue: &str) -> basic::Consume {
    basic::Consume {
        queue: queue.into(),
        ..Default::default()
    }
}

/// Gets one message that is to be acknowledged by hand.
pub fn basic_get(queue: &str) -> basic::Get {
    basic::Get {
        queue: queue.into(),
        no_ack: false,
    }
}

/// Acknowledges one delivery.
pub fn basic_ack(delivery_tag: u64) -> basic::Ack {
    basic::Ack {
        delivery_tag,
        multiple: false,
    }
}
