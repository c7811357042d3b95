//! Reading a table: what exists, for listings and checks. Nothing here is on a message's path.

use std::{fmt::Debug, hash::Hash};

use super::RoutingTable;
use crate::{
    binding::{Binding, Destination},
    exchange::{Exchange, ExchangeRef},
};

impl<Q: Copy + Eq + Hash + Ord + Debug> RoutingTable<Q> {
    /// The exchange of that name.
    #[must_use]
    pub fn exchange(&self, name: &str) -> Option<ExchangeRef<'_>> {
        self.find_exchange(name).map(Exchange::view)
    }

    /// All exchanges, the default and the predeclared ones included, in no particular order.
    pub fn exchanges(&self) -> impl Iterator<Item = ExchangeRef<'_>> {
        self.exchanges.values().map(Exchange::view)
    }

    /// Number of exchanges, the default and the predeclared ones included.
    #[must_use]
    pub fn exchange_count(&self) -> usize {
        self.exchanges.len()
    }

    /// All bindings, in no particular order. The default exchange's are not among them: they are
    /// the [`RoutingTable::queues`], each bound by its name.
    pub fn bindings(&self) -> impl Iterator<Item = Binding<Q>> {
        self.bindings.values().filter_map(|record| self.describe(record))
    }

    /// Number of bindings, the default exchange's not counted.
    #[must_use]
    pub fn binding_count(&self) -> usize {
        self.bindings.len()
    }

    /// The bindings that have the exchange as source; none if there is no such exchange.
    pub fn bindings_from(&self, source: &str) -> impl Iterator<Item = Binding<Q>> {
        let exchange = self.find_exchange(source);
        self.described(exchange.map_or(&[], |exchange| &exchange.bindings_from))
    }

    /// The bindings that lead to a queue or an exchange; none if the table does not know it.
    pub fn bindings_to(&self, destination: Destination<Q, &str>) -> impl Iterator<Item = Binding<Q>> {
        let ids = match destination {
            Destination::Queue(queue) => self.queues.get(&queue).map(|queue| &queue.bindings),
            Destination::Exchange(name) => self.find_exchange(name).map(|e| &e.bindings_to),
        };
        self.described(ids.map_or(&[], Vec::as_slice))
    }

    /// The queue that the default exchange reaches by this name.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<Q> {
        self.queue_ids.get(name).copied()
    }

    /// The name under which a queue was added.
    #[must_use]
    pub fn queue_name(&self, queue: Q) -> Option<&str> {
        self.queues.get(&queue)?.name.as_deref()
    }

    /// The queues added by name, in no particular order.
    pub fn queues(&self) -> impl Iterator<Item = (&str, Q)> {
        self.queues
            .iter()
            .filter_map(|(queue, record)| Some((record.name.as_deref()?, *queue)))
    }

    /// Number of queues added by name.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.queue_ids.len()
    }

    fn find_exchange(&self, name: &str) -> Option<&Exchange<Q>> {
        self.exchanges.get(self.exchange_id(name)?)
    }

    fn described<'a>(&'a self, ids: &'a [u32]) -> impl Iterator<Item = Binding<Q>> + 'a {
        ids.iter().filter_map(|id| self.describe(self.bindings.get(*id)?))
    }
}
