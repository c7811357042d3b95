//! Bindings to queues and exchanges, and forgetting what an edit of the topology took with it.

use amq_protocol::types::FieldTable;
use leveret_routing::{BindingRef, Destination, Removed};
use leveret_storage::{BindingRecord, Definition, DefinitionKey, QueueId, Writer};

use super::error::routing_error;
use super::{Actor, Durable, OperationError, Topology, Vhost};
use crate::auth::permissions::Operation;
use crate::protocol::field_table::encode_table;
use crate::session::reply_to;

impl Vhost {
    /// `queue.bind`.
    pub fn bind_queue(
        &self,
        actor: &Actor,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: FieldTable,
    ) -> Result<Durable, OperationError> {
        self.check_queue_binding(actor, queue, exchange)?;
        let destination = self.binding_queue(actor, queue, exchange)?;
        self.bind(exchange, Destination::Queue(destination), routing_key, arguments)
    }

    /// `queue.unbind`. Whatever is missing is as good as unbound.
    pub fn unbind_queue(
        &self,
        actor: &Actor,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<Durable, OperationError> {
        self.check_queue_binding(actor, queue, exchange)?;
        match self.binding_queue(actor, queue, exchange) {
            Ok(destination) => self.unbind(exchange, Destination::Queue(destination), routing_key, arguments),
            Err(OperationError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn check_queue_binding(&self, actor: &Actor, queue: &str, exchange: &str) -> Result<(), OperationError> {
        if reply_to::is_pseudo_queue(queue) {
            return Err(OperationError::ReplyQueueBinding);
        }
        actor.require(Operation::Write, queue, || self.queue_resource(queue))?;
        if exchange.is_empty() {
            return Err(OperationError::DefaultExchange);
        }
        actor.require(Operation::Read, exchange, || self.exchange_resource(exchange))
    }

    /// The queue to bind; when the exchange is missing too, that is what the answer names.
    fn binding_queue(&self, actor: &Actor, queue: &str, exchange: &str) -> Result<u32, OperationError> {
        let topology = self.topology.read();
        if topology.routing.exchange(exchange).is_none() {
            return Err(OperationError::NotFound(self.exchange_resource(exchange)));
        }
        let handle = topology.by_name.get(queue).ok_or_else(|| OperationError::NotFound(self.queue_resource(queue)))?;
        self.check_exclusive(actor, handle)?;
        Ok(handle.index)
    }

    pub(super) fn bind(
        &self,
        source: &str,
        destination: Destination<'_, u32>,
        routing_key: &str,
        arguments: FieldTable,
    ) -> Result<Durable, OperationError> {
        self.check_store()?;
        let mut topology = self.topology.write();
        let record = self.binding_record(&topology, source, &destination, routing_key, &arguments);
        let is_new = topology
            .routing
            .bind(source, destination, routing_key, arguments)
            .map_err(|error| routing_error(error, source, &self.name))?;
        if !is_new {
            return Ok(None);
        }
        self.invalidate_routes();
        let Some(record) = record else { return Ok(None) };
        let mut writer = self.store.writer();
        writer.put(&Definition::Binding(record));
        Ok(Some(writer.submit()))
    }

    pub(super) fn unbind(
        &self,
        source: &str,
        destination: Destination<'_, u32>,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<Durable, OperationError> {
        self.check_store()?;
        let mut topology = self.topology.write();
        let record = self.binding_record(&topology, source, &destination, routing_key, arguments);
        let removed = topology
            .routing
            .unbind(source, destination, routing_key, arguments)
            .map_err(|error| routing_error(error, source, &self.name))?;
        if removed.is_empty() {
            return Ok(None);
        }
        let _ = record;
        Ok(self.forget(&topology, &removed, None))
    }
}
