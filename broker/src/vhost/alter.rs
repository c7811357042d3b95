//! Altering a queue instead of deleting it and declaring it again.

use serde_json::{Map, Value};

use super::{Actor, Durable, OperationError, Vhost};
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
        let current = topology.by_name.get(name);
        if !current.is_some_and(|current| std::sync::Arc::ptr_eq(current, &queue)) {
            return Err(OperationError::NotFound(self.queue_resource(name)));
        }
        let mut table = queue.arguments().table().clone();
        let mut set = Map::new();
        for (key, value) in changes {
            let key = key.strip_prefix("x-").unwrap_or(key);
            let argument = PolicyArgument::of_key(key)
                .ok_or_else(|| OperationError::Argument(format!("'{key}' cannot be altered")))?;
            if value.is_null() {
                table = table
                    .into_iter()
                    .filter(|(name, _)| name.as_str() != argument.name())
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect::<std::collections::BTreeMap<_, _>>()
                    .into();
            } else {
                set.insert(argument.name().to_owned(), value.clone());
            }
        }
        let set = table_from_json(&set).map_err(|error| OperationError::Argument(error.to_string()))?;
        for (name, value) in &set {
            table.insert(name.clone(), value.clone());
        }
        self.check_dead_letter_exchange(actor, name, &table)?;
        let arguments = self.parse_arguments(name, &table)?;
        self.check_store()?;
        queue.alter(arguments);
        topology.apply_to_queue(&queue);
        tracing::info!(queue = name, vhost = %self.name, user = %actor.user, "queue altered");
        let record = queue.properties.durable.then(|| self.queue_record(&queue));
        let durable = record.map(|record| {
            let mut writer = self.store.writer();
            writer.put(&Definition::Queue(record));
            writer.submit()
        });
        drop(topology);
        Ok(durable)
    }
}
