//! From stored definitions and messages back to a live virtual host, at start.

use leveret_routing::{Destination, ExchangeKind, ExchangeOptions};
use leveret_storage::{BindingRecord, ExchangeRecord, QueueId, QueueRecord, StorageError};

use super::Vhost;
use super::queue_handle::QueueProperties;
use crate::protocol::field_table::decode_table;
use crate::protocol::message::Message;
use crate::queue::{Position, Recovered};

/// Why a stored definition cannot come back.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The store cannot be read.
    #[error("{0}")]
    Storage(#[from] StorageError),
    /// A stored record makes no sense to this version.
    #[error("the stored {what} '{name}' in vhost '{vhost}' cannot be used: {reason}")]
    Definition {
        /// exchange, queue, binding or message of a queue.
        what: &'static str,
        /// Its name.
        name: String,
        /// Its virtual host.
        vhost: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Vhost {
    fn unusable(&self, what: &'static str, name: &str, reason: impl ToString) -> RecoveryError {
        let (name, vhost) = (name.to_owned(), self.name.to_string());
        RecoveryError::Definition {
            what,
            name,
            vhost,
            reason: reason.to_string(),
        }
    }

    /// Brings back an exchange.
    pub fn recover_exchange(&self, record: &ExchangeRecord) -> Result<(), RecoveryError> {
        let unusable = |reason: String| self.unusable("exchange", &record.name, reason);
        let arguments = decode_table(&record.arguments).map_err(|error| unusable(error.to_string()))?;
        let kind = ExchangeKind::parse(&record.kind)
            .ok_or_else(|| unusable(format!("unknown exchange type '{}'", record.kind)))?;
        let options = ExchangeOptions {
            durable: true,
            auto_delete: record.auto_delete,
            internal: record.internal,
            ..ExchangeOptions::new(kind)
        };
        let options = options
            .with_arguments(arguments)
            .map_err(|error| unusable(error.to_string()))?;
        let mut topology = self.topology.write();
        topology
            .routing
            .declare_exchange(&record.name, options)
            .map_err(|error| unusable(error.to_string()))?;
        topology.apply_to_exchange(&record.name);
        Ok(())
    }

    /// Brings back a queue with its messages; the number of messages.
    pub fn recover_queue(&self, record: &QueueRecord) -> Result<usize, RecoveryError> {
        let unusable = |reason: String| self.unusable("queue", &record.name, reason);
        let arguments = decode_table(&record.arguments).map_err(|error| unusable(error.to_string()))?;
        let arguments = self
            .parse_arguments(&record.name, &arguments)
            .map_err(|error| unusable(error.to_string()))?;
        let properties = QueueProperties {
            durable: true,
            exclusive_owner: None,
            auto_delete: record.auto_delete,
            arguments,
        };
        let id = leveret_storage::QueueId(record.id.0);
        let handle = self.add_queue(&mut self.topology.write(), id, &record.name, properties);
        // The messages stay where they are until somebody wants them.
        let contents = self.store.contents(record.id);
        let mut recovered = Recovered {
            from: Position(contents.first.0),
            until: Position(contents.next.0),
            count: contents.messages as usize,
            body_bytes: contents.body_bytes,
            delivered_up_to: contents.delivered.0.checked_sub(1).map(Position),
            priority: 0,
        };
        let max_priority = handle.properties.arguments.max_priority.unwrap_or(0);
        let mut queue = handle.lock();
        if max_priority > 0 && recovered.count > 0 {
            for priority in self.stored_priorities(record.id, max_priority) {
                queue.recover(priority);
            }
            recovered.count = 0;
        }
        queue.recover(recovered);
        Ok(queue.counts().ready)
    }

    /// What there is of each priority. The index of the store does not tell it, so all messages are read once.
    fn stored_priorities(&self, queue: QueueId, max_priority: u8) -> impl Iterator<Item = Recovered> {
        let mut found = vec![Recovered::default(); usize::from(max_priority) + 1];
        let result = self.store.recover_queue(queue, &mut |stored| {
            let Ok(message) = Message::from_stored(stored.payload) else {
                return;
            };
            let priority = message.priority().min(max_priority);
            if let Some(part) = found.get_mut(usize::from(priority)) {
                if part.count == 0 {
                    part.from = Position(stored.position.0);
                }
                part.until = Position(stored.position.0 + 1);
                part.count += 1;
                part.body_bytes += message.body_len() as u64;
                part.priority = priority;
            }
        });
        if let Err(error) = result {
            tracing::error!(queue = queue.0, vhost = %self.name, %error, "messages cannot be read; the others are there");
        }
        found.into_iter().filter(|part| part.count > 0)
    }

    /// Brings back a binding, once its exchanges and queues are there.
    pub fn recover_binding(&self, record: &BindingRecord) -> Result<(), RecoveryError> {
        let unusable = |reason: String| self.unusable("binding of exchange", &record.source, reason);
        let arguments = decode_table(&record.arguments).map_err(|error| unusable(error.to_string()))?;
        let mut topology = self.topology.write();
        let destination = if record.destination_is_queue {
            match topology.by_name.get(record.destination.as_str()) {
                Some(queue) => Destination::Queue(queue.index),
                None => return Err(unusable(format!("its queue '{}' is missing", record.destination))),
            }
        } else {
            Destination::Exchange(record.destination.as_str())
        };
        topology
            .routing
            .bind(&record.source, destination, &record.routing_key, &arguments)
            .map_err(|error| unusable(error.to_string()))?;
        Ok(())
    }
}
