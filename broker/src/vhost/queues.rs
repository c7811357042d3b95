//! Declaring, purging and deleting queues.

use std::sync::Arc;

use amq_protocol::types::FieldTable;
use leveret_storage::{Definition, DefinitionKey, QueueRecord};

use super::queue_handle::{QueueProperties, notify_cancelled};
use super::{Actor, Durable, OperationError, QueueHandle, Topology, Vhost, stripped};
use crate::auth::permissions::Operation;
use crate::broker::ConnectionId;
use crate::protocol::field_table::encode_table;
use crate::protocol::message::Message;
use crate::queue::{self, Counts, Queue, QueueArguments};
use crate::session::outbox::Consumer;

/// What `queue.declare` asks for.
pub struct QueueDeclaration<'a> {
    /// The queue's name; the caller has replaced an empty one.
    pub name: &'a str,
    /// The broker made the name up, so it may have the reserved prefix.
    pub server_named: bool,
    /// Only ask whether it exists.
    pub passive: bool,
    /// Survives a restart.
    pub durable: bool,
    /// Only for the declaring connection, and ends with it.
    pub exclusive: bool,
    /// Deleted when its last consumer leaves.
    pub auto_delete: bool,
    /// Further arguments.
    pub arguments: FieldTable,
}

/// What `queue.declare-ok` says.
pub struct DeclaredQueue {
    /// The queue's name.
    pub name: Arc<str>,
    /// Ready messages.
    pub message_count: u32,
    /// Consumers.
    pub consumer_count: u32,
    /// What to wait for before saying so.
    pub durable: Durable,
}

impl DeclaredQueue {
    pub(super) fn of(queue: &QueueHandle, durable: Durable) -> DeclaredQueue {
        queue.renew_lease();
        let counts = queue.counts();
        DeclaredQueue {
            name: queue.name.clone(),
            message_count: saturating_u32(counts.ready),
            consumer_count: saturating_u32(counts.consumers),
            durable,
        }
    }
}

/// Conditions of `queue.delete`.
#[derive(Clone, Copy, Default)]
pub struct DeleteConditions {
    /// Only without consumers.
    pub if_unused: bool,
    /// Only without ready messages.
    pub if_empty: bool,
}

impl Vhost {
    /// `queue.declare`.
    pub fn declare_queue(
        &self,
        actor: &Actor,
        declaration: QueueDeclaration<'_>,
    ) -> Result<DeclaredQueue, OperationError> {
        let name = stripped(declaration.name);
        if declaration.passive {
            actor.require_any(&name, || self.queue_resource(&name))?;
            let queue = self.usable_queue(actor, &name)?;
            return Ok(DeclaredQueue::of(&queue, None));
        }
        let existing = self.find_queue(&name);
        if existing.is_none() && name.starts_with("amq.") && !declaration.server_named {
            return Err(OperationError::ReservedName { kind: "queue", name });
        }
        actor.require(Operation::Configure, &name, || self.queue_resource(&name))?;
        if let Some(queue) = existing {
            let declared = self.redeclare_queue(actor, &queue, &declaration)?;
            self.counters.queues_declared.inc();
            return Ok(declared);
        }
        self.check_dead_letter_exchange(actor, &name, &declaration.arguments)?;
        let arguments = self.parse_arguments(&name, &declaration.arguments)?;
        self.check_store()?;
        self.create_queue(actor, &name, &declaration, arguments)
    }

    fn create_queue(
        &self,
        actor: &Actor,
        name: &str,
        declaration: &QueueDeclaration<'_>,
        arguments: QueueArguments,
    ) -> Result<DeclaredQueue, OperationError> {
        let mut topology = self.topology.write();
        if let Some(queue) = topology.by_name.get(name).cloned() {
            drop(topology);
            return self.redeclare_queue(actor, &queue, declaration);
        }
        self.check_queue_limit(&topology, name)?;
        self.check_exists(&topology)?;
        let properties = QueueProperties {
            // An exclusive queue ends with its connection, so it is never durable.
            durable: declaration.durable && !declaration.exclusive,
            exclusive_owner: if declaration.exclusive { actor.connection } else { None },
            auto_delete: declaration.auto_delete,
            arguments,
        };
        let queue = self.add_queue(&mut topology, self.store.allocate_queue_id(), name, properties);
        self.counters.queues_declared.inc();
        self.counters.queues_created.inc();
        let durable = queue.properties.durable.then(|| {
            let mut writer = self.store.writer();
            writer.put(&Definition::Queue(self.queue_record(&queue)));
            writer.submit()
        });
        Ok(DeclaredQueue {
            name: queue.name.clone(),
            message_count: 0,
            consumer_count: 0,
            durable,
        })
    }

    /// Enters a queue into the topology.
    pub(super) fn add_queue(
        &self,
        topology: &mut Topology,
        id: leveret_storage::QueueId,
        name: &str,
        properties: QueueProperties,
    ) -> Arc<QueueHandle> {
        let index = topology.queues.vacant_key() as u32;
        let queue = QueueHandle::new(id, index, name.into(), properties, self);
        topology.apply_to_queue(&queue);
        topology.queues.insert(queue.clone());
        topology.by_name.insert(queue.name.clone(), queue.clone());
        if let Some(owner) = queue.properties.exclusive_owner {
            topology.exclusive.entry(owner).or_default().insert(index);
        }
        topology.routing.add_queue(name, index);
        self.invalidate_routes();
        queue
    }

    pub(super) fn queue_record(&self, queue: &QueueHandle) -> QueueRecord {
        let mut arguments = Vec::new();
        encode_table(queue.arguments().table(), &mut arguments);
        QueueRecord {
            id: queue.id,
            vhost: self.name.to_string(),
            name: queue.name.to_string(),
            auto_delete: queue.properties.auto_delete,
            arguments,
        }
    }

    pub(super) fn parse_arguments(&self, name: &str, arguments: &FieldTable) -> Result<QueueArguments, OperationError> {
        QueueArguments::parse(arguments.clone())
            .map_err(|error| OperationError::Argument(error.explain(name, &self.name)))
    }

    pub(super) fn check_dead_letter_exchange(
        &self,
        actor: &Actor,
        name: &str,
        arguments: &FieldTable,
    ) -> Result<(), OperationError> {
        let exchange = queue::dead_letter_exchange(arguments)
            .map_err(|error| OperationError::Argument(error.explain(name, &self.name)))?;
        let Some(exchange) = exchange else { return Ok(()) };
        actor.require(Operation::Read, name, || self.queue_resource(name))?;
        let permission_name = super::exchanges::exchange_permission_name(&exchange);
        actor.require(Operation::Write, permission_name, || self.exchange_resource(&exchange))
    }

    /// The queue, if it exists and is not exclusive to another connection.
    pub fn usable_queue(&self, actor: &Actor, name: &str) -> Result<Arc<QueueHandle>, OperationError> {
        let queue = self
            .find_queue(name)
            .ok_or_else(|| OperationError::NotFound(self.queue_resource(name)))?;
        self.check_exclusive(actor, &queue)?;
        Ok(queue)
    }

    pub(super) fn check_exclusive(&self, actor: &Actor, queue: &QueueHandle) -> Result<(), OperationError> {
        match queue.properties.exclusive_owner {
            Some(owner) if actor.connection != Some(owner) => {
                Err(OperationError::ResourceLocked(self.queue_resource(&queue.name)))
            }
            _ => Ok(()),
        }
    }

    /// `queue.purge`: drops ready messages and says how many.
    pub fn purge_queue(&self, actor: &Actor, name: &str) -> Result<(u32, Durable), OperationError> {
        actor.require(Operation::Read, name, || self.queue_resource(name))?;
        let queue = self.usable_queue(actor, name)?;
        let (count, durable) = queue.purge();
        Ok((saturating_u32(count), durable))
    }

    /// `queue.delete`: the number of ready messages dropped. A missing queue is as good as deleted.
    pub fn delete_queue(
        &self,
        actor: &Actor,
        name: &str,
        conditions: DeleteConditions,
    ) -> Result<(u32, Durable), OperationError> {
        actor.require(Operation::Configure, name, || self.queue_resource(name))?;
        let Some(queue) = self.find_queue(name) else {
            return Ok((0, None));
        };
        self.check_exclusive(actor, &queue)?;
        self.check_store()?;
        let DeleteConditions { if_unused, if_empty } = conditions;
        let is_kept = |counts: &Counts| (if_unused && counts.consumers > 0) || (if_empty && counts.ready > 0);
        match self.remove_queue(&queue, |queue| !is_kept(&queue.counts())) {
            Ok((ready, durable)) => Ok((saturating_u32(ready), durable)),
            Err(counts) if if_empty && counts.ready > 0 => Err(OperationError::NotEmpty(self.queue_resource(name))),
            Err(_) => Err(OperationError::InUse(self.queue_resource(name))),
        }
    }

    /// Deletes an exclusive queue whose connection ends, or an auto-delete queue whose last consumer left.
    pub fn delete_queue_unconditionally(&self, queue: &Arc<QueueHandle>) {
        let _ = self.remove_queue(queue, |_| true);
    }

    /// Deletes an auto-delete queue unless somebody consumes from it again.
    pub fn delete_queue_without_consumers(&self, queue: &Arc<QueueHandle>) {
        let _ = self.remove_queue(queue, |queue| queue.counts().consumers == 0);
    }

    /// Deletes a queue if nobody has used it for as long as it may be unused. Its messages are nobody's dead letters.
    pub(super) fn delete_queue_if_abandoned(&self, queue: &Arc<QueueHandle>) -> bool {
        let now_millis = self.deadlines.now_millis();
        let deleted = self.remove_queue(queue, |queue| queue.is_abandoned(now_millis)).is_ok();
        if deleted {
            tracing::info!(queue = %queue.name, vhost = %self.name, "unused for as long as it may be: deleted");
        }
        deleted
    }

    /// Deletes the exclusive queues of a connection that ends.
    pub fn delete_queues_of(&self, connection: ConnectionId) {
        let topology = self.topology.read();
        let Some(owned) = topology.exclusive.get(&connection) else {
            return;
        };
        let queues: Vec<_> = owned
            .iter()
            .filter_map(|index| topology.queues.get(*index as usize).cloned())
            .collect();
        drop(topology);
        for queue in queues {
            self.delete_queue_unconditionally(&queue);
        }
    }

    /// Deletes all queues, exchanges and bindings, when the virtual host itself is deleted.
    pub fn delete_everything(&self) {
        self.topology.write().deleted = true;
        for queue in self.queues() {
            self.delete_queue_unconditionally(&queue);
        }
        let mut topology = self.topology.write();
        self.delete_settings(&mut topology);
        let exchanges: Vec<String> = topology
            .routing
            .exchanges()
            .map(|exchange| exchange.name.to_owned())
            .collect();
        for name in exchanges {
            // The predeclared ones refuse to go and are not stored; bindings between them are.
            let removed = topology.routing.delete_exchange(&name, false).unwrap_or_default();
            self.forget(&topology, &removed, None);
        }
        let left: Vec<_> = topology.routing.bindings().collect();
        let removed = leveret_routing::Removed {
            exchanges: Vec::new(),
            bindings: left,
        };
        self.forget(&topology, &removed, None);
    }

    fn remove_queue(
        &self,
        queue: &Arc<QueueHandle>,
        condition: impl FnOnce(&Queue<Message, Consumer>) -> bool,
    ) -> Result<(usize, Durable), Counts> {
        self.publish_letters_before_deletion(queue);
        let mut topology = self.topology.write();
        if !topology.has(queue) {
            return Ok((0, None));
        }
        let deleted = queue.delete_if(condition)?;
        topology.by_name.remove(&queue.name);
        let removed = topology.routing.remove_queue(queue.index);
        let durable = self.forget(&topology, &removed, Some(queue));
        topology.queues.remove(queue.index as usize);
        if let Some(owner) = queue.properties.exclusive_owner
            && let Some(owned) = topology.exclusive.get_mut(&owner)
        {
            owned.remove(&queue.index);
            if owned.is_empty() {
                topology.exclusive.remove(&owner);
            }
        }
        self.invalidate_routes();
        drop(topology);
        self.counters.queues_deleted.inc();
        notify_cancelled(queue.id, deleted.consumers);
        Ok((deleted.ready, durable))
    }

    pub(super) fn queue_key(&self, name: &str) -> DefinitionKey {
        DefinitionKey::Queue {
            vhost: self.name.to_string(),
            name: name.to_owned(),
        }
    }
}

/// Counts on the wire have 32 bits.
pub fn saturating_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use leveret_storage::{Store, StoreOptions};
    use prometheus::Registry;

    use super::*;
    use crate::broker::Broker;
    use crate::config::Config;
    use crate::vhost::exchanges::ExchangeDeclaration;

    fn broker() -> Arc<Broker> {
        crate::startup::start(
            Config::default(),
            Store::in_memory(StoreOptions::default()),
            &Registry::new(),
        )
        .unwrap()
    }

    fn declaration(name: &str, exclusive: bool) -> QueueDeclaration<'_> {
        QueueDeclaration {
            name,
            server_named: false,
            passive: false,
            durable: !exclusive,
            exclusive,
            auto_delete: false,
            arguments: FieldTable::default(),
        }
    }

    #[test]
    fn a_deleted_virtual_host_takes_nothing_from_connections_that_are_about_to_close() {
        let broker = broker();
        let vhost = broker.vhost("/").unwrap();
        broker.delete_vhost("/").unwrap();
        let actor = Actor::operator();
        let queue = vhost.declare_queue(&actor, declaration("late", false)).map(drop);
        let exchange = ExchangeDeclaration {
            name: "late",
            kind: "direct",
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: FieldTable::default(),
        };
        let exchange = vhost.declare_exchange(&actor, exchange).map(drop);
        let (arguments, from, to) = (FieldTable::default(), "amq.direct", "amq.fanout");
        let binding = vhost.bind_exchange(&actor, to, from, "key", &arguments).map(drop);
        for result in [queue, exchange, binding] {
            assert!(matches!(result, Err(OperationError::VhostDeleted(_))));
        }
        assert!(vhost.queues().is_empty());
    }

    #[test]
    fn exclusive_queues_end_with_their_own_connection() {
        let broker = broker();
        let vhost = broker.vhost("/").unwrap();
        let owner = |id| Actor {
            connection: Some(ConnectionId(id)),
            ..Actor::operator()
        };
        for (name, id) in [("a", 1), ("b", 1), ("c", 2)] {
            vhost.declare_queue(&owner(id), declaration(name, true)).unwrap();
        }
        vhost.declare_queue(&owner(1), declaration("d", false)).unwrap();
        vhost.delete_queue(&owner(1), "b", DeleteConditions::default()).unwrap();
        assert_eq!(vhost.topology.read().exclusive.len(), 2);
        vhost.delete_queues_of(ConnectionId(1));
        let mut left: Vec<_> = vhost.queues().iter().map(|queue| queue.name.to_string()).collect();
        left.sort();
        assert_eq!(left, ["c", "d"]);
        vhost.delete_queues_of(ConnectionId(2));
        assert!(vhost.topology.read().exclusive.is_empty());
    }
}
