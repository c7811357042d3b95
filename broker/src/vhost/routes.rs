//! From exchange and routing key to queues.

use std::cell::OnceCell;
use std::sync::Arc;

use amq_protocol::types::FieldTable;
use leveret_routing::{ExchangeRef, MessageHeaders, RouteBuffer};

use super::deduplication::{Claim, claims};
use super::delay::{Delay, due_millis};
use super::exchanges::exchange_permission_name;
use super::{Actor, OperationError, QueueHandle, Topology, Vhost};
use crate::auth::permissions::Operation;
use crate::protocol::content::Properties;
use crate::protocol::field_table::decode_table;
use crate::protocol::message::Message;
use crate::timer::unix_millis;

/// A message on its way to queues.
pub struct Publication<'a> {
    /// The exchange it was published to.
    pub exchange: &'a str,
    /// Its own routing key and those of its headers CC and BCC.
    pub routing_keys: &'a [&'a str],
    /// Its properties.
    pub properties: Properties<'a>,
    /// The message, for exchanges that keep some.
    pub message: &'a Message,
}

/// Where a message goes.
#[derive(Default)]
pub struct Targets {
    /// Each queue once.
    pub queues: Vec<Arc<QueueHandle>>,
    /// The next message of the same exchange and keys must be asked for again: headers, properties or chance had a say,
    /// or an exchange wants to keep the message, or duplicates are dropped, or somebody traces.
    pub varies: bool,
    /// The delayed exchanges that are to keep it.
    pub delays: Vec<Delay>,
    /// Who of them wants it only if it is no duplicate: the exchange it is published to first.
    pub claims: Vec<Claim>,
}

/// What exchanges may ask of a message: its properties, and its headers, which are decoded when one of them does.
struct MessageFacts<'a> {
    properties: Properties<'a>,
    headers: OnceCell<Option<FieldTable>>,
    due_millis: OnceCell<Option<u64>>,
}

impl<'a> MessageFacts<'a> {
    fn new(properties: Properties<'a>) -> MessageFacts<'a> {
        MessageFacts {
            properties,
            headers: OnceCell::new(),
            due_millis: OnceCell::new(),
        }
    }

    /// When the message asks to be delivered, if that is later than now.
    fn due_millis(&self) -> Option<u64> {
        let header = |name: &str| self.field_table()?.inner().get(name).cloned();
        *self.due_millis.get_or_init(|| due_millis(header, unix_millis()))
    }
}

impl MessageHeaders for MessageFacts<'_> {
    fn field_table(&self) -> Option<&FieldTable> {
        let decode = || decode_table(self.properties.headers?).ok();
        self.headers.get_or_init(decode).as_ref()
    }

    fn correlation_id(&self) -> Option<&[u8]> {
        self.properties.correlation_id
    }

    fn message_id(&self) -> Option<&[u8]> {
        self.properties.message_id
    }

    fn is_delayed(&self) -> bool {
        self.due_millis().is_some()
    }

    fn timestamp(&self) -> Option<u64> {
        self.properties.timestamp
    }
}

impl Vhost {
    /// May this user publish to this exchange, and does it take messages from clients?
    pub fn check_publish(&self, actor: &Actor, exchange: &str) -> Result<(), OperationError> {
        actor.require(Operation::Write, exchange_permission_name(exchange), || {
            self.exchange_resource(exchange)
        })?;
        match self.topology.read().routing.exchange(exchange) {
            None => Err(OperationError::NotFound(self.exchange_resource(exchange))),
            Some(found) if found.options.internal => {
                Err(OperationError::InternalExchange(self.exchange_resource(exchange)))
            }
            Some(_) => Ok(()),
        }
    }

    /// The queues for a message, each once.
    pub fn route(
        &self,
        publication: &Publication<'_>,
        buffer: &mut RouteBuffer<u32>,
    ) -> Result<Targets, OperationError> {
        self.route_in(&self.topology.read(), publication, buffer)
    }

    /// The same, for who has locked the topology.
    pub(super) fn route_in(
        &self,
        topology: &Topology,
        publication: &Publication<'_>,
        buffer: &mut RouteBuffer<u32>,
    ) -> Result<Targets, OperationError> {
        let facts = MessageFacts::new(publication.properties);
        buffer.clear();
        topology
            .routing
            .route_by_keys(publication.exchange, publication.routing_keys, &facts, buffer)
            .map_err(|_| OperationError::NotFound(self.exchange_resource(publication.exchange)))?;
        for exchange in topology.routing.histories(buffer) {
            self.histories.record(&exchange, &facts, publication);
        }
        let queues: Vec<Arc<QueueHandle>> = buffer
            .queues()
            .iter()
            .filter_map(|index| topology.queues.get(*index as usize).cloned())
            .collect();
        let exchange = topology.routing.exchange(publication.exchange);
        let deduplication = exchange.and_then(|exchange| Some((exchange, exchange.options.deduplication.as_ref()?)));
        let drops_duplicates = deduplication.is_some()
            || queues
                .iter()
                .any(|queue| queue.properties.arguments.deduplication().is_some());
        let claims = if drops_duplicates {
            claims(deduplication, &queues, &facts)
        } else {
            Vec::new()
        };
        let delay = |exchange: ExchangeRef<'_>| {
            Some(Delay {
                exchange: exchange.name.into(),
                durable: exchange.options.durable,
                due_millis: facts.due_millis()?,
                routing_keys: publication.routing_keys.iter().map(|key| (*key).to_owned()).collect(),
            })
        };
        let delays = topology.routing.delays(buffer).filter_map(delay).collect();
        Ok(Targets {
            queues,
            delays,
            claims,
            varies: drops_duplicates || self.is_traced() || buffer.varies() || buffer.keeps_history(),
        })
    }
}
