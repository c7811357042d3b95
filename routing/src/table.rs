//! The exchanges and bindings of one virtual host.

mod bindings;
mod listing;
mod route;

use std::{fmt::Debug, hash::Hash, sync::Arc};

use amq_protocol_types::FieldTable;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};

use crate::{
    arena::Arena,
    binding::{BindingRecord, Removed, RemovedExchange},
    error::RoutingError,
    exchange::{Declared, Exchange, ExchangeKind, ExchangeOptions, ExchangePolicy},
    key::KeyMap,
};

/// The name of the default exchange.
pub const DEFAULT_EXCHANGE: &str = "";

/// What every virtual host has, with kind and whether it is internal; all of it durable.
const PREDECLARED: [(&str, ExchangeKind, bool); 7] = [
    (DEFAULT_EXCHANGE, ExchangeKind::Direct, false),
    ("amq.direct", ExchangeKind::Direct, false),
    ("amq.fanout", ExchangeKind::Fanout, false),
    ("amq.topic", ExchangeKind::Topic, false),
    ("amq.headers", ExchangeKind::Headers, false),
    ("amq.match", ExchangeKind::Headers, false),
    ("amq.rabbitmq.trace", ExchangeKind::Topic, true),
];

/// The default exchange is declared first.
const DEFAULT_EXCHANGE_ID: u32 = 0;

/// Whether every virtual host has an exchange of this name, which cannot be deleted. The default
/// exchange is one of them.
#[must_use]
pub fn is_predeclared(name: &str) -> bool {
    PREDECLARED.iter().any(|(predeclared, ..)| *predeclared == name)
}

/// The exchanges and bindings of one virtual host, and the queues they lead to.
///
/// `Q` is the id of a queue, any small copyable value; the table never learns what a queue is. A
/// queue enters the table by [`RoutingTable::add_queue`] (for the default exchange) or by its
/// first binding, and leaves it by [`RoutingTable::remove_queue`].
///
/// What stays true: an exchange that a binding names exists; no two bindings are the same; an
/// auto-delete exchange that has had a binding as source has one still; an edit that fails has
/// changed nothing.
#[derive(Debug)]
pub struct RoutingTable<Q> {
    exchanges: Arena<Exchange<Q>>,
    exchange_ids: KeyMap<u32>,
    bindings: Arena<BindingRecord<Q>>,
    /// Ids of bindings under the hash of their identity.
    identities: HashTable<u32>,
    /// What the default exchange reaches.
    queue_ids: KeyMap<Q>,
    queues: HashMap<Q, QueueRecord, RandomState>,
    /// Shared by all bindings that have no arguments.
    no_arguments: Arc<FieldTable>,
    hasher: RandomState,
}

/// What the table knows of a queue.
#[derive(Debug, Default)]
struct QueueRecord {
    /// Its name, once it has been added by name.
    name: Option<Arc<str>>,
    /// Ids of the bindings that have it as destination.
    bindings: Vec<u32>,
}

impl<Q: Copy + Eq + Hash + Ord + Debug> RoutingTable<Q> {
    /// A table with the default exchange and the predeclared ones, without queues and bindings.
    #[must_use]
    pub fn new() -> Self {
        let mut table = Self {
            exchanges: Arena::new(),
            exchange_ids: KeyMap::new(),
            bindings: Arena::new(),
            identities: HashTable::new(),
            queue_ids: KeyMap::new(),
            queues: HashMap::default(),
            no_arguments: Arc::new(FieldTable::default()),
            hasher: RandomState::default(),
        };
        for (name, kind, internal) in PREDECLARED {
            let options = ExchangeOptions {
                durable: true,
                internal,
                ..ExchangeOptions::new(kind)
            };
            table.insert_exchange(name, options);
        }
        table
    }

    /// Declares an exchange; declaring it again with equivalent options changes nothing.
    ///
    /// Equivalent are, as in RabbitMQ, options with the same kind, flags and alternate exchange.
    /// Whether a name may be taken (prefix `amq.`, characters) is the caller's to decide.
    ///
    /// # Errors
    /// [`RoutingError::Inequivalent`] with the first difference, [`RoutingError::DefaultExchange`].
    pub fn declare_exchange(&mut self, name: &str, options: ExchangeOptions) -> Result<Declared, RoutingError> {
        if name == DEFAULT_EXCHANGE {
            return Err(RoutingError::DefaultExchange);
        }
        let Some(existing) = self.exchange_id(name).and_then(|id| self.exchanges.get(id)) else {
            self.insert_exchange(name, options);
            return Ok(Declared::Created);
        };
        match existing.options.first_difference(&options) {
            None => Ok(Declared::Existed),
            Some(difference) => Err(RoutingError::Inequivalent {
                exchange: name.to_owned(),
                difference: Box::new(difference),
            }),
        }
    }

    /// Deletes an exchange with the bindings at either end of it. Deleting a missing exchange
    /// succeeds and removes nothing.
    ///
    /// # Errors
    /// [`RoutingError::InUse`] if `if_unused` is set and the exchange is the source of a binding,
    /// [`RoutingError::DefaultExchange`] and [`RoutingError::Predeclared`].
    pub fn delete_exchange(&mut self, name: &str, if_unused: bool) -> Result<Removed<Q>, RoutingError> {
        if name == DEFAULT_EXCHANGE {
            return Err(RoutingError::DefaultExchange);
        }
        if is_predeclared(name) {
            return Err(RoutingError::Predeclared(name.to_owned()));
        }
        let mut removed = Removed::default();
        if let Some(id) = self.exchange_id(name) {
            let in_use = self.exchanges.get(id).is_some_and(|e| !e.bindings_from.is_empty());
            if if_unused && in_use {
                return Err(RoutingError::InUse(name.to_owned()));
            }
            self.remove_exchanges(vec![id], &mut removed);
        }
        Ok(removed)
    }

    /// Gives an exchange another alternate exchange than it was declared with.
    ///
    /// # Errors
    /// [`RoutingError::NotFound`], [`RoutingError::Predeclared`], [`RoutingError::DefaultExchange`].
    pub fn set_alternate_exchange(
        &mut self,
        name: &str,
        alternate_exchange: Option<String>,
    ) -> Result<(), RoutingError> {
        if name != DEFAULT_EXCHANGE && is_predeclared(name) {
            return Err(RoutingError::Predeclared(name.to_owned()));
        }
        let exchange = self.named_exchange_mut(name)?;
        exchange.options = exchange.options.with_alternate(alternate_exchange);
        Ok(())
    }

    /// Sets what a policy gives an exchange, in place of what one gave it before. An alternate exchange named by the exchange's own
    /// arguments goes before it.
    ///
    /// # Errors
    /// [`RoutingError::NotFound`], [`RoutingError::DefaultExchange`].
    pub fn set_policy(&mut self, name: &str, policy: ExchangePolicy) -> Result<(), RoutingError> {
        self.named_exchange_mut(name)?.policy = policy;
        Ok(())
    }

    /// Makes a queue known to the default exchange under its name. Returns `false`, and changes
    /// nothing, if the name belongs to another queue or the queue has another name.
    pub fn add_queue(&mut self, name: &str, queue: Q) -> bool {
        if let Some(owner) = self.queue_ids.get(name) {
            return *owner == queue;
        }
        let record = self.queues.entry(queue).or_default();
        if record.name.is_some() {
            return false;
        }
        record.name = Some(name.into());
        self.queue_ids.get_or_insert_with(name, || queue);
        true
    }

    /// Forgets a queue and all bindings to it, at a cost that depends on their number only.
    pub fn remove_queue(&mut self, queue: Q) -> Removed<Q> {
        let mut removed = Removed::default();
        let mut emptied = Vec::new();
        while let Some(id) = self.queues.get(&queue).and_then(|q| q.bindings.last().copied()) {
            self.remove_binding(id, &mut removed, &mut emptied);
        }
        if let Some(name) = self.queues.remove(&queue).and_then(|record| record.name) {
            self.queue_ids.remove(&name);
        }
        self.remove_exchanges(emptied, &mut removed);
        removed
    }

    /// Removes exchanges and, in turn, the auto-delete exchanges that lose their last source
    /// binding by that. A list of work rather than a recursion: chains may be long.
    fn remove_exchanges(&mut self, mut doomed: Vec<u32>, removed: &mut Removed<Q>) {
        let mut next = 0;
        while let Some(&id) = doomed.get(next) {
            next += 1;
            while let Some(binding) = self.exchanges.get(id).and_then(Exchange::last_binding) {
                self.remove_binding(binding, removed, &mut doomed);
            }
            let Some(exchange) = self.exchanges.remove(id) else {
                continue;
            };
            self.exchange_ids.remove(&exchange.name);
            removed.exchanges.push(RemovedExchange {
                name: exchange.name,
                options: exchange.options,
            });
        }
    }

    fn insert_exchange(&mut self, name: &str, options: ExchangeOptions) {
        let id = self.exchanges.insert(Exchange::new(name.into(), options));
        self.exchange_ids.get_or_insert_with(name, || id);
    }

    #[inline]
    fn exchange_id(&self, name: &str) -> Option<u32> {
        self.exchange_ids.get(name).copied()
    }

    /// An exchange that may be changed: any but the default one.
    fn named_exchange_mut(&mut self, name: &str) -> Result<&mut Exchange<Q>, RoutingError> {
        if name == DEFAULT_EXCHANGE {
            return Err(RoutingError::DefaultExchange);
        }
        let id = self.existing_exchange_id(name)?;
        let found = self.exchanges.get_mut(id);
        found.ok_or_else(|| RoutingError::NotFound(name.to_owned()))
    }

    fn existing_exchange_id(&self, name: &str) -> Result<u32, RoutingError> {
        self.exchange_id(name)
            .ok_or_else(|| RoutingError::NotFound(name.to_owned()))
    }
}

impl<Q: Copy + Eq + Hash + Ord + Debug> Default for RoutingTable<Q> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RouteBuffer;

    #[test]
    fn a_table_can_be_shared_and_a_buffer_can_be_sent_between_threads() {
        fn can_be_shared<T: Send + Sync>() {}
        fn can_be_sent<T: Send>() {}
        can_be_shared::<RoutingTable<u32>>();
        can_be_sent::<RouteBuffer<u32>>();
    }
}
