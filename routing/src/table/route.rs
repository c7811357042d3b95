//! From an exchange and a message to queues.

use std::{fmt::Debug, hash::Hash, slice};

use super::{DEFAULT_EXCHANGE, DEFAULT_EXCHANGE_ID, RoutingTable};
use crate::{
    buffer::{MessageHeaders, Routable, RouteBuffer},
    error::RoutingError,
    exchange::{Exchange, ExchangeKind, ExchangeRef},
};

impl<Q: Copy + Eq + Hash + Ord + Debug> RoutingTable<Q> {
    /// Appends to the buffer the queues that a message published to `exchange` goes to.
    ///
    /// Bindings to exchanges are followed with the same routing key and headers; an exchange is
    /// passed once. An exchange whose bindings match nothing hands the message to its alternate
    /// exchange, as in RabbitMQ. If in the end no queue has been found, the alternate exchanges of
    /// the exchanges that matched other exchanges only are tried too, in the order in which the
    /// message came by, until one leads to a queue; RabbitMQ would drop the message. A missing
    /// alternate exchange is passed over. Whether the exchange is internal is the caller's to
    /// check.
    ///
    /// # Errors
    /// [`RoutingError::NotFound`] if there is no such exchange.
    #[inline]
    pub fn route(&self, exchange: &str, message: &Routable<'_>, out: &mut RouteBuffer<Q>) -> Result<(), RoutingError> {
        self.route_by_keys(exchange, slice::from_ref(&message.routing_key), message.headers, out)
    }

    /// As [`RoutingTable::route`], for a message with several routing keys: its own and those of
    /// its headers CC and BCC. An alternate exchange comes in if none of the keys has matched.
    ///
    /// # Errors
    /// [`RoutingError::NotFound`] if there is no such exchange.
    pub fn route_by_keys(
        &self,
        exchange: &str,
        routing_keys: &[&str],
        headers: &dyn MessageHeaders,
        out: &mut RouteBuffer<Q>,
    ) -> Result<(), RoutingError> {
        if exchange == DEFAULT_EXCHANGE {
            self.route_by_names(routing_keys, out);
            return Ok(());
        }
        let first = self.existing_exchange_id(exchange)?;
        out.found.exchanges.clear();
        out.found.exchanges.insert(first);
        out.found.queue_matched = false;
        let mut passed = 0;
        self.follow(&mut passed, routing_keys, headers, out);
        let mut asked = 0;
        while !out.found.queue_matched {
            let Some(id) = out.found.exchanges.get(asked) else {
                break;
            };
            asked += 1;
            if let Some(alternate) = self.exchanges.get(id).and_then(Exchange::alternate) {
                self.reach_exchange(alternate, out);
                self.follow(&mut passed, routing_keys, headers, out);
            }
        }
        Ok(())
    }

    /// The recent-history exchanges that the message routed last has passed.
    pub fn histories<'a>(&'a self, buffer: &'a RouteBuffer<Q>) -> impl Iterator<Item = ExchangeRef<'a>> {
        let reached = buffer.keeps_history().then_some(&buffer.found.exchanges);
        let reached = reached
            .into_iter()
            .flat_map(|reached| (0..).map_while(|position| reached.get(position)));
        reached
            .filter_map(|id| self.exchanges.get(id))
            .filter(|exchange| exchange.options.routing_kind() == ExchangeKind::RecentHistory)
            .map(Exchange::view)
    }

    /// The delayed exchanges that keep the message routed last until later. It has gone nowhere through them; when its
    /// time has come it is to be routed again, from there.
    pub fn delays<'a>(&'a self, buffer: &'a RouteBuffer<Q>) -> impl Iterator<Item = ExchangeRef<'a>> {
        let delayed = buffer.found.delayed.iter();
        delayed.filter_map(|id| self.exchanges.get(*id)).map(Exchange::view)
    }

    /// Passes the message through every exchange reached from the position `passed` on, and those
    /// reached from there.
    fn follow(
        &self,
        passed: &mut usize,
        routing_keys: &[&str],
        headers: &dyn MessageHeaders,
        out: &mut RouteBuffer<Q>,
    ) {
        while let Some(id) = out.found.exchanges.get(*passed) {
            *passed += 1;
            if id == DEFAULT_EXCHANGE_ID {
                self.route_by_names(routing_keys, out);
                continue;
            }
            let Some(exchange) = self.exchanges.get(id) else {
                continue;
            };
            if exchange.delays() {
                out.found.varies = true;
                if headers.is_delayed() {
                    out.found.delayed.push(id);
                    out.found.queue_matched = true;
                    continue;
                }
            }
            out.found.matched = false;
            let RouteBuffer { found, topic } = out;
            exchange.matcher.matches(routing_keys, headers, topic, found);
            if !out.found.matched
                && let Some(alternate) = exchange.alternate()
            {
                self.reach_exchange(alternate, out);
            }
        }
    }

    fn reach_exchange(&self, name: &str, out: &mut RouteBuffer<Q>) {
        if let Some(id) = self.exchange_id(name) {
            out.found.exchanges.insert(id);
        }
    }

    /// The default exchange: queues by their names.
    #[inline]
    fn route_by_names(&self, routing_keys: &[&str], out: &mut RouteBuffer<Q>) {
        for name in routing_keys {
            if let Some(queue) = self.queue_ids.get(name) {
                out.found.reach_queue(*queue);
            }
        }
    }
}
