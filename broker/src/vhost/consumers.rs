//! Consuming and getting: who may, and how a consumer enters its queue.

use std::sync::Arc;

use super::{Actor, OperationError, QueueHandle, Vhost};
use crate::auth::permissions::Operation;
use crate::queue::{ConsumeError, ConsumerKey, ConsumerSpec, QueueType};
use crate::session::outbox::Consumer;

impl Vhost {
    /// The queue that this user may read from.
    pub fn readable_queue(&self, actor: &Actor, name: &str) -> Result<Arc<QueueHandle>, OperationError> {
        actor.require(Operation::Read, name, || self.queue_resource(name))?;
        self.usable_queue(actor, name)
    }

    /// The queue that this user may read from with basic.get.
    pub fn gettable_queue(&self, actor: &Actor, name: &str) -> Result<Arc<QueueHandle>, OperationError> {
        let queue = self.readable_queue(actor, name)?;
        let arguments = &queue.properties.arguments;
        if arguments.single_active_consumer && arguments.queue_type == QueueType::Quorum {
            return Err(OperationError::NoGet(self.queue_resource(name)));
        }
        Ok(queue)
    }

    /// Starts a consumer; `started` runs before its first delivery.
    pub fn consume(
        &self,
        queue: &QueueHandle,
        spec: ConsumerSpec<Consumer>,
        started: impl FnOnce(ConsumerKey),
    ) -> Result<(), OperationError> {
        queue.consume(spec, started).map_err(|error| match error {
            ConsumeError::InExclusiveUse => OperationError::InExclusiveUse(self.queue_resource(&queue.name)),
            ConsumeError::Gone(_) => OperationError::NotFound(self.queue_resource(&queue.name)),
        })
    }

    /// Ends a consumer, and with the last one an auto-delete queue.
    pub fn cancel(&self, queue: &Arc<QueueHandle>, key: ConsumerKey) {
        if queue.cancel(key) {
            self.delete_queue_without_consumers(queue);
        }
    }
}
