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
use super::routes::{Publication, Targets};
use super::{Durable, Topology, Vhost};
use crate::protocol::content::{ContentHeader, Properties};
use crate::protocol::message::Message;

/// Memory that the history of one exchange keeps alive; the newest message stays whatever its size.
const HISTORY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A header that keeps its message out of the history.
const NO_STORE: &str = "x-recent-history-no-store";

/// The histories of a virtual host, by exchange. The lock is a leaf: nothing is called under it.
#[derive(Default)]
pub struct Histories {
    by_exchange: Mutex<HashMap<String, History>>,
}

/// A message that passed, with its routing keys: its own and those of its headers CC and BCC.
#[derive(Clone)]
struct Kept {
    message: Message,
    routing_keys: Arc<[String]>,
}

impl Kept {
    fn memory_size(&self) -> usize {
        self.message.memory_size() + self.routing_keys.iter().map(String::len).sum::<usize>()
    }
}

/// Oldest first.
#[derive(Default)]
struct History {
    messages: VecDeque<Kept>,
    bytes: usize,
}

impl History {
    fn push(&mut self, kept: Kept, length: u64) {
        self.bytes += kept.memory_size();
        self.messages.push_back(kept);
        while self.messages.len() as u64 > length || (self.bytes > HISTORY_BYTES_MAX && self.messages.len() > 1) {
            if let Some(oldest) = self.messages.pop_front() {
                self.bytes -= oldest.memory_size();
            }
        }
    }
}

impl Histories {
    /// Remembers a message that passed the exchange, unless its headers say otherwise.
    pub(super) fn record(
        &self,
        exchange: &ExchangeRef<'_>,
        headers: &dyn MessageHeaders,
        publication: &Publication<'_>,
    ) {
        let no_store = headers.field_table().and_then(|table| table.inner().get(NO_STORE));
        if let Some(AMQPValue::Boolean(true)) = no_store {
            return;
        }
        let mut histories = self.by_exchange.lock();
        if !histories.contains_key(exchange.name) {
            histories.insert(exchange.name.to_owned(), History::default());
        }
        if let Some(history) = histories.get_mut(exchange.name) {
            let kept = Kept {
                message: publication.message.clone(),
                routing_keys: publication.routing_keys.iter().map(|key| (*key).to_owned()).collect(),
            };
            history.push(kept, exchange.options.history_length);
        }
    }

    /// Forgets the history of an exchange that is gone.
    pub(super) fn forget(&self, exchange: &str) {
        self.by_exchange.lock().remove(exchange);
    }

    fn of(&self, exchange: &str) -> Vec<Kept> {
        let histories = self.by_exchange.lock();
        let history = histories.get(exchange).map(|history| history.messages.iter().cloned());
        history.into_iter().flatten().collect()
    }
}

/// Messages of a history on their way to what was just bound, to be sent when the topology is free.
#[derive(Default)]
#[must_use = "a replay that is dropped was never sent"]
pub struct Replay(Vec<(Message, Targets)>);

impl Vhost {
    /// What a new binding gets of its source's history. Through an exchange it goes as if it were published now.
    pub(super) fn replay(&self, topology: &Topology, source: &str, destination: Destination<u32, &str>) -> Replay {
        let kind = topology.routing.exchange(source).map(|exchange| exchange.kind());
        if kind != Some(ExchangeKind::RecentHistory) {
            return Replay::default();
        }
        let mut buffer = RouteBuffer::new();
        let kept = self.histories.of(source).into_iter().map(|kept| {
            let targets = match destination {
                Destination::Queue(index) => Targets {
                    queues: topology.queues.get(index as usize).cloned().into_iter().collect(),
                    ..Targets::default()
                },
                Destination::Exchange(exchange) => self.route_again(topology, exchange, &kept, &mut buffer),
            };
            (kept.message, targets)
        });
        Replay(kept.collect())
    }

    /// Routes a message of the history through an exchange, with the routing keys and properties that it had.
    fn route_again(&self, topology: &Topology, exchange: &str, kept: &Kept, buffer: &mut RouteBuffer<u32>) -> Targets {
        let header = ContentHeader::parse(kept.message.view().header);
        let properties = header.and_then(|header| Properties::parse(header.properties));
        let routing_keys: Vec<&str> = kept.routing_keys.iter().map(String::as_str).collect();
        let publication = Publication {
            exchange,
            routing_keys: &routing_keys,
            properties: properties.unwrap_or_default(),
            message: &kept.message,
        };
        self.route_in(topology, &publication, buffer).unwrap_or_default()
    }

    /// Hands a replay over as if it were published now; the commit that makes it durable.
    pub(super) fn send(&self, replay: Replay) -> Durable {
        let mut scratch = Scratch::default();
        let mut ticket = None;
        for (message, Targets { queues, delays, .. }) in replay.0 {
            let delivered = self.hand_over(&queues, &delays, &message, &mut scratch, |_, _| {});
            self.counters.routed.inc_by(delivered.taken_by as u64);
            ticket = ticket.max(delivered.ticket);
        }
        ticket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &[u8]) -> Kept {
        let mut header = vec![0, 60, 0, 0];
        header.extend_from_slice(&(body.len() as u64).to_be_bytes());
        header.extend_from_slice(&[0, 0]);
        Kept {
            message: Message::new(&[0, 0], &header, body),
            routing_keys: Arc::default(),
        }
    }

    fn bodies(history: &History) -> Vec<usize> {
        history
            .messages
            .iter()
            .map(|kept| kept.message.view().body.len())
            .collect()
    }

    #[test]
    fn a_history_keeps_the_last_messages() {
        let mut history = History::default();
        for length in 1..=5 {
            history.push(message(&vec![0; length]), 3);
        }
        assert_eq!(bodies(&history), [3, 4, 5]);
    }

    #[test]
    fn a_history_of_large_messages_is_bounded_by_their_memory() {
        let mut history = History::default();
        let large = message(&vec![0; HISTORY_BYTES_MAX / 4]);
        for _ in 0..10 {
            history.push(large.clone(), 1000);
        }
        assert_eq!(history.messages.len(), 3);
        let huge = message(&vec![0; HISTORY_BYTES_MAX + 1]);
        history.push(huge, 1000);
        assert_eq!(bodies(&history), [HISTORY_BYTES_MAX + 1]);
    }
}
