//! Class exchange.

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::exchange::{AMQPMethod, BindOk, DeclareOk, DeleteOk, UnbindOk};

use super::Session;
use super::channel::server_only;
use crate::protocol::error::AmqpError;
use crate::vhost::exchanges::ExchangeDeclaration;

impl Session {
    pub(super) fn exchange_method(&mut self, channel: u16, method: AMQPMethod) -> Result<(), AmqpError> {
        let Some(opened) = &self.open else { return Ok(()) };
        let (vhost, actor) = (&opened.vhost, &opened.actor);
        let (durable, nowait, ok) = match method {
            AMQPMethod::Declare(declare) => {
                let declaration = ExchangeDeclaration {
                    name: declare.exchange.as_str(),
                    kind: declare.kind.as_str(),
                    passive: declare.passive,
                    durable: declare.durable,
                    auto_delete: declare.auto_delete,
                    internal: declare.internal,
                    arguments: declare.arguments,
                };
                (
                    vhost.declare_exchange(actor, declaration)?,
                    declare.nowait,
                    AMQPMethod::DeclareOk(DeclareOk {}),
                )
            }
            AMQPMethod::Delete(delete) => {
                let durable = vhost.delete_exchange(actor, delete.exchange.as_str(), delete.if_unused)?;
                (durable, delete.nowait, AMQPMethod::DeleteOk(DeleteOk {}))
            }
            AMQPMethod::Bind(bind) => {
                let (destination, source) = (bind.destination.as_str(), bind.source.as_str());
                let durable =
                    vhost.bind_exchange(actor, destination, source, bind.routing_key.as_str(), &bind.arguments)?;
                (durable, bind.nowait, AMQPMethod::BindOk(BindOk {}))
            }
            AMQPMethod::Unbind(unbind) => {
                let (destination, source) = (unbind.destination.as_str(), unbind.source.as_str());
                let durable = vhost.unbind_exchange(
                    actor,
                    destination,
                    source,
                    unbind.routing_key.as_str(),
                    &unbind.arguments,
                )?;
                (durable, unbind.nowait, AMQPMethod::UnbindOk(UnbindOk {}))
            }
            AMQPMethod::DeclareOk(_) | AMQPMethod::DeleteOk(_) | AMQPMethod::BindOk(_) | AMQPMethod::UnbindOk(_) => {
                return Err(server_only());
            }
        };
        self.reply_when_durable(channel, (!nowait).then_some(AMQPClass::Exchange(ok)), durable);
        Ok(())
    }
}
