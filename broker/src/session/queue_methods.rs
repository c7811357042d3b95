//! Class queue.

use std::sync::Arc;

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::queue::{
    AMQPMethod, Bind, BindOk, Declare, DeclareOk, Delete, DeleteOk, Purge, PurgeOk, Unbind, UnbindOk,
};

use super::channel::server_only;
use super::{Session, reply_to, short};
use crate::protocol::error::AmqpError;
use crate::vhost::queues::{DeleteConditions, QueueDeclaration};
use crate::vhost::{OperationError, Resource};

impl Session {
    pub(super) fn queue_method(&mut self, channel: u16, method: AMQPMethod) -> Result<(), AmqpError> {
        match method {
            AMQPMethod::Declare(declare) => self.declare_queue(channel, declare),
            AMQPMethod::Bind(bind) => self.bind_queue(channel, bind),
            AMQPMethod::Purge(purge) => self.purge_queue(channel, &purge),
            AMQPMethod::Delete(delete) => self.delete_queue(channel, &delete),
            AMQPMethod::Unbind(unbind) => self.unbind_queue(channel, &unbind),
            AMQPMethod::DeclareOk(_)
            | AMQPMethod::BindOk(_)
            | AMQPMethod::PurgeOk(_)
            | AMQPMethod::DeleteOk(_)
            | AMQPMethod::UnbindOk(_) => Err(server_only()),
        }
    }

    /// The queue a method means: an empty name is the one this channel declared last.
    pub(super) fn queue_name(&mut self, channel: u16, name: &str) -> Result<Arc<str>, AmqpError> {
        if !name.is_empty() {
            return Ok(name.into());
        }
        let last = self
            .channel_slot(channel)
            .and_then(|channel| channel.last_queue.clone());
        last.ok_or_else(|| OperationError::NoPreviousQueue.into())
    }

    fn remember_queue(&mut self, channel: u16, name: &Arc<str>) {
        if let Some(channel) = self.channel_slot(channel) {
            channel.last_queue = Some(name.clone());
        }
    }

    fn declare_queue(&mut self, channel: u16, declare: Declare) -> Result<(), AmqpError> {
        if reply_to::is_pseudo_queue(declare.queue.as_str()) {
            return self.declare_reply_queue(channel, &declare);
        }
        let name: Arc<str> = match declare.queue.as_str() {
            // Asked for passively, the empty name is a name like others, and no queue has it.
            "" if !declare.passive => self.broker.names.server_queue().into(),
            name => name.into(),
        };
        let Some(opened) = &self.open else { return Ok(()) };
        let declaration = QueueDeclaration {
            name: &name,
            server_named: declare.queue.as_str().is_empty(),
            passive: declare.passive,
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments: declare.arguments,
        };
        let declared = opened.vhost.declare_queue(&opened.actor, declaration)?;
        self.remember_queue(channel, &declared.name);
        let ok = DeclareOk {
            queue: short(&declared.name),
            message_count: declared.message_count,
            consumer_count: declared.consumer_count,
        };
        let ok = (!declare.nowait).then_some(AMQPClass::Queue(AMQPMethod::DeclareOk(ok)));
        self.reply_when_durable(channel, ok, declared.durable);
        Ok(())
    }

    /// Repliers ask whether a requester still lives by declaring its reply queue.
    fn declare_reply_queue(&mut self, channel: u16, declare: &Declare) -> Result<(), AmqpError> {
        let name = declare.queue.as_str();
        let lives = name == reply_to::PSEUDO_QUEUE
            || reply_to::token(name).is_some_and(|token| self.broker.reply_targets.contains(token));
        if !lives {
            return Err(OperationError::NotFound(Resource::queue(name, &self.info.vhost())).into());
        }
        self.remember_queue(channel, &name.into());
        let ok = DeclareOk {
            queue: declare.queue.clone(),
            message_count: 0,
            consumer_count: 1,
        };
        if !declare.nowait {
            self.reply(channel, AMQPClass::Queue(AMQPMethod::DeclareOk(ok)));
        }
        Ok(())
    }

    fn bind_queue(&mut self, channel: u16, bind: Bind) -> Result<(), AmqpError> {
        let (queue, routing_key) = self.binding_names(channel, bind.queue.as_str(), bind.routing_key.as_str())?;
        let Some(opened) = &self.open else { return Ok(()) };
        let exchange = bind.exchange.as_str();
        let durable = opened
            .vhost
            .bind_queue(&opened.actor, &queue, exchange, &routing_key, &bind.arguments)?;
        let ok = (!bind.nowait).then_some(AMQPClass::Queue(AMQPMethod::BindOk(BindOk {})));
        self.reply_when_durable(channel, ok, durable);
        Ok(())
    }

    fn unbind_queue(&mut self, channel: u16, unbind: &Unbind) -> Result<(), AmqpError> {
        let (queue, routing_key) = self.binding_names(channel, unbind.queue.as_str(), unbind.routing_key.as_str())?;
        let Some(opened) = &self.open else { return Ok(()) };
        let exchange = unbind.exchange.as_str();
        let durable = opened
            .vhost
            .unbind_queue(&opened.actor, &queue, exchange, &routing_key, &unbind.arguments)?;
        self.reply_when_durable(
            channel,
            Some(AMQPClass::Queue(AMQPMethod::UnbindOk(UnbindOk {}))),
            durable,
        );
        Ok(())
    }

    /// Queue and routing key of a binding; with both empty, both are the queue declared last.
    fn binding_names(
        &mut self,
        channel: u16,
        queue: &str,
        routing_key: &str,
    ) -> Result<(Arc<str>, Arc<str>), AmqpError> {
        let name = self.queue_name(channel, queue)?;
        let routing_key = if queue.is_empty() && routing_key.is_empty() {
            name.clone()
        } else {
            routing_key.into()
        };
        Ok((name, routing_key))
    }

    fn purge_queue(&mut self, channel: u16, purge: &Purge) -> Result<(), AmqpError> {
        let name = self.queue_name(channel, purge.queue.as_str())?;
        let Some(opened) = &self.open else { return Ok(()) };
        let (message_count, durable) = opened.vhost.purge_queue(&opened.actor, &name)?;
        let ok = AMQPClass::Queue(AMQPMethod::PurgeOk(PurgeOk { message_count }));
        self.reply_when_durable(channel, (!purge.nowait).then_some(ok), durable);
        Ok(())
    }

    fn delete_queue(&mut self, channel: u16, delete: &Delete) -> Result<(), AmqpError> {
        let name = self.queue_name(channel, delete.queue.as_str())?;
        let Some(opened) = &self.open else { return Ok(()) };
        let conditions = DeleteConditions {
            if_unused: delete.if_unused,
            if_empty: delete.if_empty,
        };
        let (message_count, durable) = opened.vhost.delete_queue(&opened.actor, &name, conditions)?;
        let ok = AMQPClass::Queue(AMQPMethod::DeleteOk(DeleteOk { message_count }));
        self.reply_when_durable(channel, (!delete.nowait).then_some(ok), durable);
        Ok(())
    }
}
