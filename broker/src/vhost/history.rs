//! What recent-history exchanges remember: their last messages, for queues and exchanges that are bound later.
//!
//! A history is memory only and ends with its exchange or with the process. Whether a message belongs to it and whether
//! a new binding gets it is decided while the topology is locked, so that a binding gets each message once: from the
//! history or by being routed there.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use amq_protocol::types::AMQPValue;
use leveret_routing::{Destination, ExchangeKind, ExchangeRef, MessageHeaders, RouteBuffer};
use parking_lot::Mutex;

use super::effects::Scratch;
use super::routes::MessageFacts;
use super::{Durable, QueueHandle, Topology, Vhost};
use crate::protocol::content::{ContentHeader, Properties};
use crate::protocol::message::Message;
use crate::protocol::wire::Reader;

/// Memory that the history of one exchange keeps alive; the newest message stays whatever its size.
const HISTORY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A header that keeps its message out of the history.
const NO_STORE: &str = "x-recent-history-no-store";

/// The histories of a virtual host, by exchange. The lock is a leaf: nothing is called under it.
#[derive(Default)]
pub struct Histories {
    by_exchange: Mutex<HashMap<String, History>>,
}

/// Oldest first.
#[derive(Default)]
struct History {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl History {
    fn push(&mut self, message: &Message, length: u64) {
        self.bytes += message.memory_size();
        self.messages.push_back(message.clone());
        while self.messages.len() as u64 > length || (self.bytes > HISTORY_BYTES_MAX && self.messages.len() > 1) {
            if let Some(oldest) = self.messages.pop_front() {
                self.bytes -= oldest.memory_size();
            }
        }
    }
}

impl Histories {
    /// Remembers a message that passed the exchange, unless its headers say otherwise.
    pub(super) fn record(&self, exchange: &ExchangeRef<'_>, headers: &dyn MessageHeaders, message: &Message) {
        let no_store = headers.field_table().and_then(|table| table.inner().get(NO_STORE));
        if let Some(AMQPValue::Boolean(true)) = no_store {
            return;
        }
        let mut histories = self.by_exchange.lock();
        if !histories.contains_key(exchange.name) {
            histories.insert(exchange.name.to_owned(), History::default());
        }
        if let Some(history) = histories.get_mut(exchange.name) {
            history.push(message, exchange.options.history_length);
        }
    }

    /// Forgets the history of an exchange that is gone.
    pub(super) fn forget(&self, exchange: &str) {
        self.by_exchange.lock().remove(exchange);
    }

    fn of(&self, exchange: &str) -> Vec<Message> {
        let histories = self.by_exchange.lock();
        let history = histories.get(exchange).map(|history| history.messages.iter().cloned());
        history.into_iter().flatten().collect()
    }
}

/// Messages of a history on their way to what was just bound, to be sent when the topology is free.
#[derive(Default)]
#[must_use = "a replay that is dropped was never sent"]
pub struct Replay(Vec<(Arc<QueueHandle>, Vec<Message>)>);

impl Replay {
    /// Hands each queue its messages; the commit that makes them durable.
    pub(super) fn send(self) -> Durable {
        let mut scratch = Scratch::default();
        let mut ticket = None;
        for (queue, mut messages) in self.0 {
            ticket = ticket.max(queue.publish(&mut messages, &mut scratch).ticket);
        }
        ticket
    }

    fn add(&mut self, queue: &Arc<QueueHandle>, message: Message) {
        match self.0.iter_mut().find(|(known, _)| Arc::ptr_eq(known, queue)) {
            Some((_, messages)) => messages.push(message),
            None => self.0.push((queue.clone(), vec![message])),
        }
    }
}

impl Vhost {
    /// What a new binding gets of its source's history.
    pub(super) fn replay(&self, topology: &Topology, source: &str, destination: Destination<u32, &str>) -> Replay {
        let mut replay = Replay::default();
        let kind = topology.routing.exchange(source).map(|exchange| exchange.kind());
        if kind != Some(ExchangeKind::RecentHistory) {
            return replay;
        }
        let mut buffer = RouteBuffer::new();
        for message in self.histories.of(source) {
            match destination {
                Destination::Queue(index) => {
                    if let Some(queue) = topology.queues.get(index as usize) {
                        replay.add(queue, message);
                    }
                }
                Destination::Exchange(exchange) => {
                    self.route_again(topology, exchange, &message, &mut buffer);
                    for queue in buffer
                        .queues()
                        .iter()
                        .filter_map(|index| topology.queues.get(*index as usize))
                    {
                        replay.add(queue, message.clone());
                    }
                }
            }
        }
        replay
    }

    /// Routes a message of the history through an exchange, with its own routing key and properties.
    fn route_again(&self, topology: &Topology, exchange: &str, message: &Message, buffer: &mut RouteBuffer<u32>) {
        buffer.clear();
        let view = message.view();
        let mut names = Reader::new(view.exchange_and_key);
        let routing_key = names.shortstr().and_then(|_| names.shortstr()).unwrap_or_default();
        let properties = ContentHeader::parse(view.header).and_then(|header| Properties::parse(header.properties));
        let facts = MessageFacts::new(properties.unwrap_or_default());
        let routed = topology.routing.route_by_keys(exchange, &[routing_key], &facts, buffer);
        if routed.is_ok() {
            for exchange in topology.routing.histories(buffer) {
                self.histories.record(&exchange, &facts, message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &[u8]) -> Message {
        let mut header = vec![0, 60, 0, 0];
        header.extend_from_slice(&(body.len() as u64).to_be_bytes());
        header.extend_from_slice(&[0, 0]);
        Message::new(&[0, 0], &header, body)
    }

    fn bodies(history: &History) -> Vec<usize> {
        history
            .messages
            .iter()
            .map(|message| message.view().body.len())
            .collect()
    }

    #[test]
    fn a_history_keeps_the_last_messages() {
        let mut history = History::default();
        for length in 1..=5 {
            history.push(&message(&vec![0; length]), 3);
        }
        assert_eq!(bodies(&history), [3, 4, 5]);
    }

    #[test]
    fn a_history_of_large_messages_is_bounded_by_their_memory() {
        let mut history = History::default();
        let large = message(&vec![0; HISTORY_BYTES_MAX / 4]);
        for _ in 0..10 {
            history.push(&large, 1000);
        }
        assert_eq!(history.messages.len(), 3);
        let huge = message(&vec![0; HISTORY_BYTES_MAX + 1]);
        history.push(&huge, 1000);
        assert_eq!(bodies(&history), [HISTORY_BYTES_MAX + 1]);
    }
}
