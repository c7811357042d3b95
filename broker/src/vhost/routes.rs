//! From exchange and routing key to queues.

use std::cell::Cell;
use std::sync::Arc;

use amq_protocol::types::FieldTable;
use leveret_routing::{MessageHeaders, RouteBuffer};

use super::exchanges::exchange_permission_name;
use super::{Actor, OperationError, QueueHandle, Vhost};
use crate::auth::permissions::Operation;
use crate::protocol::field_table::decode_table;

/// Where messages of one exchange and routing key go.
pub struct Targets {
    /// Each queue once.
    pub queues: Vec<Arc<QueueHandle>>,
    /// True when the message's headers had a say, so that the next message may go elsewhere.
    pub by_headers: bool,
}

/// Headers of a message as they came, decoded when an exchange asks for them.
struct LazyHeaders<'a> {
    encoded: Option<&'a [u8]>,
    decoded: std::cell::OnceCell<Option<FieldTable>>,
    asked: Cell<bool>,
}

impl MessageHeaders for LazyHeaders<'_> {
    fn field_table(&self) -> Option<&FieldTable> {
        self.asked.set(true);
        self.decoded.get_or_init(|| decode_table(self.encoded?).ok()).as_ref()
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

    /// The queues for these routing keys (the message's own and its CC and BCC keys), each once.
    ///
    /// `headers` are the bytes of the message's headers table without its length.
    pub fn route(
        &self,
        exchange: &str,
        routing_keys: &[&str],
        headers: Option<&[u8]>,
        buffer: &mut RouteBuffer<u32>,
    ) -> Result<Targets, OperationError> {
        let headers = LazyHeaders {
            encoded: headers,
            decoded: Default::default(),
            asked: Cell::new(false),
        };
        buffer.clear();
        let topology = self.topology.read();
        topology
            .routing
            .route_by_keys(exchange, routing_keys, &headers, buffer)
            .map_err(|_| OperationError::NotFound(self.exchange_resource(exchange)))?;
        let queues = buffer
            .queues()
            .iter()
            .filter_map(|index| topology.queues.get(*index as usize).cloned())
            .collect();
        Ok(Targets {
            queues,
            by_headers: headers.asked.get(),
        })
    }
}
