//! Altering a queue instead of deleting it and declaring it again.

use amq_protocol::types::FieldTable;
use serde_json::{Map, Value};

use super::{Actor, Durable, OperationError, QueueHandle, Topology, Vhost};
use crate::auth::permissions::Operation;
use crate::json::table_from_json;
use crate::queue::PolicyArgument;
use leveret_storage::Definition;

impl Vhost {
    /// Changes arguments of a queue, as if it had been declared with the new ones; its messages and consumers stay. Takes the arguments
    /// that can be set by policy, with or without `x-`; null removes one. The commit to wait for, if the queue is durable.
    pub fn alter_queue(
        &self,
        actor: &Actor,
        name: &str,
        changes: &Map<String, Value>,
    ) -> Result<Durable, OperationError> {
        actor.require(Operation::Configure, name, || self.queue_resource(name))?;
        let queue = self.usable_queue(actor, name)?;
        let topology = self.topology.write();
        if !topology.has(&queue) {
            return Err(OperationError::NotFound(self.queue_resource(name)));
        }
        let mut table = queue.arguments().table().inner().clone();
        let mut set = Map::new();
        for (key, value) in changes {
            let key = key.strip_prefix("x-").unwrap_or(key);
            let argument = PolicyArgument::of_key(key)
                .ok_or_else(|| OperationError::Argument(format!("'{key}' cannot be altered")))?;
            if value.is_null() {
                table.remove(argument.name());
            } else {
                set.insert(argument.name().to_owned(), value.clone());
            }
        }
        let set = table_from_json(&set).map_err(|error| OperationError::Argument(error.to_string()))?;
        table.extend(set.inner().clone());
        let table = table.into();
        self.check_dead_letter_exchange(actor, name, &table)?;
        let durable = self.replace_arguments(&topology, &queue, table)?;
        tracing::info!(queue = name, vhost = %self.name, user = %actor.user, "queue altered");
        Ok(durable)
    }

    /// Gives a queue of this topology other arguments; the commit to wait for, if it is durable.
    pub(super) fn replace_arguments(
        &self,
        topology: &Topology,
        queue: &QueueHandle,
        table: FieldTable,
    ) -> Result<Durable, OperationError> {
        let arguments = self.parse_arguments(&queue.name, &table)?;
        self.check_store()?;
        queue.alter(arguments);
        topology.apply_to_queue(queue);
        Ok(queue.properties.durable.then(|| {
            let mut writer = self.store.writer();
            writer.put(&Definition::Queue(self.queue_record(queue)));
            writer.submit()
        }))
    }
}
