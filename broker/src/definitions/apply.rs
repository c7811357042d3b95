//! Carrying a plan out, through the operations that everybody uses.

use std::sync::Arc;

use leveret_storage::Ticket;

use super::document::{BindingDefinition, PermissionDefinition};
use super::import::{ImportError, Plan};
use crate::broker::Broker;
use crate::vhost::exchanges::ExchangeDeclaration;
use crate::vhost::queues::QueueDeclaration;
use crate::vhost::{Actor, OperationError, Vhost};

impl Plan {
    /// Makes it so; it is on disk when this returns.
    pub fn apply(self, broker: &Broker) -> Result<(), ImportError> {
        let mut ticket = None;
        for vhost in &self.vhosts {
            let added = match broker.vhost(&vhost.name) {
                Some(_) => broker.describe_vhost(&vhost.name, |about| *about = vhost.about(Some(about))),
                None => broker.add_vhost_with(&vhost.name, vhost.about(None)),
            };
            let added = added.map_err(|error| ImportError::object(format!("vhost '{}'", vhost.name), error))?;
            ticket = ticket.max(Some(added));
        }
        ticket = ticket.max(self.apply_users(broker)?);
        ticket = ticket.max(self.apply_settings(broker)?);
        ticket = ticket.max(self.apply_topology(broker)?);
        if let Some(ticket) = ticket {
            broker.store.wait(ticket)?;
        }
        Ok(())
    }

    /// All users and permissions in one edit.
    fn apply_users(&self, broker: &Broker) -> Result<Option<Ticket>, ImportError> {
        if self.users.is_empty() && self.permissions.is_empty() && self.topic_permissions.is_empty() {
            return Ok(None);
        }
        let mut edit = broker.users.edit();
        for user in &self.users {
            edit.put_user(user.clone())
                .map_err(|error| ImportError::object(format!("user '{}'", user.name), error))?;
        }
        for PermissionDefinition {
            user,
            vhost,
            configure,
            write,
            read,
        } in &self.permissions
        {
            edit.set_permissions(user, vhost, configure, write, read)
                .map_err(|error| ImportError::object(format!("permissions of user '{user}'"), error))?;
        }
        for record in &self.topic_permissions {
            edit.set_topic_permissions(record.clone())
                .map_err(|error| ImportError::object(format!("topic permissions of user '{}'", record.user), error))?;
        }
        let committed = broker.commit_users(edit);
        committed.map(Some).map_err(|error| ImportError::object("users", error))
    }

    /// Policies and limits.
    fn apply_settings(&self, broker: &Broker) -> Result<Option<Ticket>, ImportError> {
        let mut ticket = None;
        for parameter in &self.global_parameters {
            let set = broker.set_global_parameter(&parameter.name, parameter.value.clone());
            let failed = |error| ImportError::object(format!("global parameter '{}'", parameter.name), error);
            ticket = ticket.max(Some(set.map_err(failed)?));
        }
        for (user, limits) in &self.user_limits {
            let set = broker.set_user_limits(user, *limits);
            ticket =
                ticket.max(Some(set.map_err(|error| {
                    ImportError::object(format!("limits of user '{user}'"), error)
                })?));
        }
        for (vhost, kind, spec) in &self.policies {
            let set = find(broker, Some(vhost), &spec.name)?.set_policy(*kind, spec.clone());
            ticket = ticket.max(Some(set.map_err(|error| refused("policy", &spec.name, &error))?));
        }
        for (vhost, limits) in &self.vhost_limits {
            let set = find(broker, Some(vhost), vhost)?.set_limits(*limits);
            ticket = ticket.max(Some(set.map_err(|error| refused("limits of vhost", vhost, &error))?));
        }
        Ok(ticket)
    }

    /// Exchanges and queues first, then what connects them.
    fn apply_topology(self, broker: &Broker) -> Result<Option<Ticket>, ImportError> {
        let operator = Actor::operator();
        let mut ticket = None;
        for (exchange, arguments) in self.exchanges {
            let vhost = find(broker, exchange.vhost.as_deref(), &exchange.name)?;
            let declared = vhost.declare_exchange(
                &operator,
                ExchangeDeclaration {
                    name: &exchange.name,
                    kind: &exchange.kind,
                    passive: false,
                    durable: exchange.durable,
                    auto_delete: exchange.auto_delete,
                    internal: exchange.internal,
                    arguments,
                },
            );
            ticket = ticket.max(declared.map_err(|error| refused("exchange", &exchange.name, &error))?);
        }
        for (queue, arguments) in self.queues {
            let vhost = find(broker, queue.vhost.as_deref(), &queue.name)?;
            let declared = vhost.declare_queue(
                &operator,
                QueueDeclaration {
                    name: &queue.name,
                    // A name that some broker made up is kept.
                    server_named: true,
                    passive: false,
                    durable: queue.durable,
                    exclusive: false,
                    auto_delete: queue.auto_delete,
                    arguments,
                },
            );
            ticket = ticket.max(declared.map_err(|error| refused("queue", &queue.name, &error))?.durable);
        }
        for (binding, arguments) in self.bindings {
            let BindingDefinition {
                source,
                destination,
                routing_key,
                ..
            } = &binding;
            let vhost = find(broker, binding.vhost.as_deref(), source)?;
            let bound = match binding.destination_type.as_str() {
                "queue" => vhost.bind_queue(&operator, destination, source, routing_key, &arguments),
                _ => vhost.bind_exchange(&operator, destination, source, routing_key, &arguments),
            };
            ticket = ticket.max(bound.map_err(|error| refused("binding of exchange", source, &error))?);
        }
        Ok(ticket)
    }
}

fn refused(what: &str, name: &str, error: &OperationError) -> ImportError {
    ImportError::object(format!("{what} '{name}'"), error)
}

fn find(broker: &Broker, vhost: Option<&str>, name: &str) -> Result<Arc<Vhost>, ImportError> {
    let found = vhost.and_then(|vhost| broker.vhost(vhost));
    found.ok_or_else(|| ImportError::object(format!("'{name}'"), "its virtual host does not exist"))
}
