//! Bindings to queues and exchanges, and forgetting what an edit of the topology took with it.

use amq_protocol::types::FieldTable;
use leveret_routing::{Binding, Destination, Removed};
use leveret_storage::{BindingRecord, Definition, DefinitionKey};

use super::error::routing_error;
use super::history::Replay;
use super::{Actor, Durable, OperationError, QueueHandle, Topology, Vhost};
use crate::auth::permissions::Operation;
use crate::protocol::field_table::encode_table;
use crate::session::reply_to;
use crate::settings::{self, DeduplicationOwner};

impl Vhost {
    /// `queue.bind`.
    pub fn bind_queue(
        &self,
        actor: &Actor,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<Durable, OperationError> {
        self.check_queue_binding(actor, queue, exchange, routing_key)?;
        let mut topology = self.topology.write();
        let destination = Destination::Queue(self.binding_queue(&topology, actor, queue, exchange)?);
        let (durable, replay) = self.bind(&mut topology, exchange, destination, routing_key, arguments)?;
        drop(topology);
        Ok(durable.max(self.send(replay)))
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
        self.check_queue_binding(actor, queue, exchange, routing_key)?;
        let mut topology = self.topology.write();
        let Some(handle) = topology.by_name.get(queue).cloned() else {
            return Ok(None);
        };
        let destination = Destination::Queue(handle.index);
        // Whose queue it is matters only if there is something to unbind, as in RabbitMQ.
        if !topology
            .routing
            .has_binding(exchange, destination, routing_key, arguments)
        {
            return Ok(None);
        }
        self.check_exclusive(actor, &handle)?;
        self.unbind(&mut topology, exchange, destination, routing_key, arguments)
    }

    fn check_queue_binding(
        &self,
        actor: &Actor,
        queue: &str,
        exchange: &str,
        routing_key: &str,
    ) -> Result<(), OperationError> {
        if reply_to::is_pseudo_queue(queue) {
            return Err(OperationError::ReplyQueueBinding);
        }
        actor.require(Operation::Write, queue, || self.queue_resource(queue))?;
        if exchange.is_empty() {
            return Err(OperationError::DefaultExchange);
        }
        actor.require(Operation::Read, exchange, || self.exchange_resource(exchange))?;
        self.check_topics(actor, Operation::Read, exchange, [routing_key])
    }

    /// The queue to bind; when the exchange is missing too, that is what the answer names.
    ///
    /// Its index is good as long as the topology stays locked: another queue may have it later.
    fn binding_queue(
        &self,
        topology: &Topology,
        actor: &Actor,
        queue: &str,
        exchange: &str,
    ) -> Result<u32, OperationError> {
        if topology.routing.exchange(exchange).is_none() {
            return Err(OperationError::NotFound(self.exchange_resource(exchange)));
        }
        let handle = topology
            .by_name
            .get(queue)
            .ok_or_else(|| OperationError::NotFound(self.queue_resource(queue)))?;
        self.check_exclusive(actor, handle)?;
        Ok(handle.index)
    }

    /// Binds; the replay is to be sent when the topology is free.
    pub(super) fn bind(
        &self,
        topology: &mut Topology,
        source: &str,
        destination: Destination<u32, &str>,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<(Durable, Replay), OperationError> {
        self.check_exists(topology)?;
        self.check_store()?;
        let is_new = topology
            .routing
            .bind(source, destination, routing_key, arguments)
            .map_err(|error| routing_error(&error, source, &self.name))?;
        if !is_new {
            return Ok((None, Replay::default()));
        }
        self.invalidate_routes();
        let replay = self.replay(topology, source, destination);
        let Some(destination) = topology.durable_destination(source, destination) else {
            return Ok((None, replay));
        };
        let record = self.binding_record(source, destination, routing_key, arguments);
        let mut writer = self.store.writer();
        writer.put(&Definition::Binding(record));
        Ok((Some(writer.submit()), replay))
    }

    pub(super) fn unbind(
        &self,
        topology: &mut Topology,
        source: &str,
        destination: Destination<u32, &str>,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<Durable, OperationError> {
        self.check_store()?;
        let removed = topology.routing.unbind(source, destination, routing_key, arguments);
        Ok(self.forget(topology, &removed, None))
    }

    /// Deletes the stored definitions of what an edit removed, and those of `queue` with its messages.
    ///
    /// The topology is still locked, so that the store sees definitions in the order of the edits.
    pub(super) fn forget(&self, topology: &Topology, removed: &Removed<u32>, queue: Option<&QueueHandle>) -> Durable {
        if removed.is_empty() && queue.is_none() {
            return None;
        }
        self.invalidate_routes();
        let (mut logs, mut schedules) = (Vec::new(), Vec::new());
        for exchange in &removed.exchanges {
            self.histories.forget(&exchange.name);
            self.traffic.forget(&exchange.name);
            let schedule = self.delayed.forget(&exchange.name);
            schedules.extend(schedule.map(|id| (id, settings::delayed_log(&self.name, &exchange.name))));
            let owner = DeduplicationOwner::Exchange(exchange.name.to_string());
            logs.extend(self.forget_deduplication(&owner));
        }
        if let Some(queue) = queue.filter(|queue| queue.properties.arguments.deduplication().is_some()) {
            let owner = DeduplicationOwner::Queue(queue.name.to_string());
            logs.extend(self.forget_deduplication(&owner));
        }
        let mut keys: Vec<DefinitionKey> = removed
            .bindings
            .iter()
            .filter_map(|binding| self.stored_binding_key(topology, binding, removed, queue))
            .collect();
        let durable_exchanges = removed.exchanges.iter().filter(|exchange| exchange.options.durable);
        keys.extend(durable_exchanges.map(|exchange| self.exchange_key(&exchange.name)));
        let durable_queue = queue.filter(|queue| queue.properties.durable);
        keys.extend(durable_queue.map(|queue| self.queue_key(&queue.name)));
        keys.extend(logs.iter().chain(&schedules).map(|(_, key)| key.clone()));
        if keys.is_empty() {
            return None;
        }
        let mut writer = self.store.writer();
        for key in &keys {
            writer.delete(key);
        }
        if let Some(queue) = durable_queue {
            writer.delete_queue(queue.id);
        }
        for (log, _) in logs {
            writer.delete_queue(log);
        }
        for (schedule, _) in schedules {
            writer.delete_schedule(schedule);
        }
        Some(writer.submit())
    }

    /// The key of a removed binding, if it is stored: both its ends are durable.
    fn stored_binding_key(
        &self,
        topology: &Topology,
        binding: &Binding<u32>,
        removed: &Removed<u32>,
        removed_queue: Option<&QueueHandle>,
    ) -> Option<DefinitionKey> {
        // An end may have gone with the binding.
        let is_durable = |name: &str| {
            let gone = removed.exchanges.iter().find(|exchange| *exchange.name == *name);
            gone.map_or_else(|| topology.is_durable(name), |exchange| exchange.options.durable)
        };
        if !is_durable(&binding.source) {
            return None;
        }
        let destination = match &binding.destination {
            Destination::Exchange(name) if !is_durable(name) => return None,
            Destination::Exchange(name) => (name.to_string(), false),
            Destination::Queue(index) => {
                let queue = match removed_queue {
                    Some(queue) if queue.index == *index => queue,
                    _ => topology.queues.get(*index as usize)?.as_ref(),
                };
                if !queue.properties.durable {
                    return None;
                }
                (queue.name.to_string(), true)
            }
        };
        let record = self.binding_record(&binding.source, destination, &binding.routing_key, &binding.arguments);
        Some(Definition::Binding(record).key())
    }

    fn binding_record(
        &self,
        source: &str,
        (destination, destination_is_queue): (String, bool),
        routing_key: &str,
        arguments: &FieldTable,
    ) -> BindingRecord {
        let mut encoded = Vec::new();
        encode_table(arguments, &mut encoded);
        BindingRecord {
            vhost: self.name.to_string(),
            source: source.to_owned(),
            destination,
            destination_is_queue,
            routing_key: routing_key.to_owned(),
            arguments: encoded,
        }
    }
}

impl Topology {
    fn is_durable(&self, exchange: &str) -> bool {
        let exchange = self.routing.exchange(exchange);
        exchange.is_some_and(|exchange| exchange.options.durable)
    }

    /// The destination's name and whether it is a queue, if a binding between the two is durable: both ends are.
    fn durable_destination(&self, source: &str, destination: Destination<u32, &str>) -> Option<(String, bool)> {
        if !self.is_durable(source) {
            return None;
        }
        match destination {
            Destination::Exchange(name) => self.is_durable(name).then(|| (name.to_owned(), false)),
            Destination::Queue(index) => {
                let queue = self.queues.get(index as usize)?;
                queue.properties.durable.then(|| (queue.name.to_string(), true))
            }
        }
    }
}
