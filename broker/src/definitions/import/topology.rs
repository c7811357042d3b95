//! The virtual hosts of a definitions file, with their exchanges, queues and bindings.

use amq_protocol::types::FieldTable;
use leveret_routing::ExchangeKind;
use serde_json::{Map, Value};

use super::{Fate, ImportError, Plan};
use crate::broker::{AdminError, Broker};
use crate::definitions::document::{BindingDefinition, ExchangeDefinition, QueueDefinition, VhostDefinition};
use crate::definitions::export::is_predeclared;
use crate::definitions::snapshot::{BindingIdentity, Snapshots};
use crate::json::{NotATable, table_from_json, table_json};
use crate::vhost::About;

impl Plan {
    pub(super) fn vhost(&mut self, broker: &Broker, vhost: VhostDefinition) -> Result<(), ImportError> {
        let what = format!("vhost '{}'", vhost.name);
        if vhost.name.is_empty() || vhost.name.len() > 255 {
            return Err(ImportError::object(what, AdminError::VhostNameLength));
        }
        match broker.vhost(&vhost.name).map(|existing| existing.about()) {
            Some(about) if about == vhost.about(Some(&about)) => return Ok(()),
            // A file that says nothing about it does not take away what somebody said.
            Some(_) if vhost.about(None) == About::default() && !vhost.says_of_protection() => return Ok(()),
            Some(_) => self.note(Fate::Changed, what),
            None => self.note(Fate::Made, what),
        }
        self.vhosts.push(vhost);
        Ok(())
    }

    pub(super) fn exchange(
        &mut self,
        snapshots: &mut Snapshots<'_>,
        exchange: ExchangeDefinition,
    ) -> Result<(), ImportError> {
        let vhost = snapshots.of(exchange.vhost.as_deref(), "exchange", &exchange.name)?;
        let what = format!("exchange '{}' in vhost '{}'", exchange.name, vhost.name);
        let arguments = table(&what, &exchange.arguments)?;
        if is_predeclared(&exchange.name) {
            return Ok(());
        }
        let kind = ExchangeKind::parse(&exchange.kind)
            .ok_or_else(|| ImportError::object(&what, format!("unknown exchange type '{}'", exchange.kind)))?;
        let existing = vhost
            .vhost
            .as_ref()
            .and_then(|vhost| vhost.find_exchange(&exchange.name));
        vhost.exchanges.insert(exchange.name.clone());
        if let Some(existing) = existing {
            let same = (existing.kind, existing.durable, existing.auto_delete, existing.internal)
                == (kind, exchange.durable, exchange.auto_delete, exchange.internal)
                && table_json(&existing.arguments) == table_json(&arguments);
            if !same {
                self.note(Fate::Kept, what);
            }
            return Ok(());
        }
        self.note(Fate::Made, what);
        self.exchanges.push((exchange, arguments));
        Ok(())
    }

    pub(super) fn queue(&mut self, snapshots: &mut Snapshots<'_>, queue: QueueDefinition) -> Result<(), ImportError> {
        let vhost = snapshots.of(queue.vhost.as_deref(), "queue", &queue.name)?;
        let what = format!("queue '{}' in vhost '{}'", queue.name, vhost.name);
        if queue.name.is_empty() || queue.name.len() > 255 {
            return Err(ImportError::object(what, "a queue's name must have 1 to 255 bytes"));
        }
        let arguments = table(&what, &queue.arguments)?;
        crate::queue::QueueArguments::parse(arguments.clone())
            .map_err(|error| ImportError::object(&what, error.explain(&queue.name, &vhost.name)))?;
        vhost.queues.insert(queue.name.clone());
        let existing = vhost.vhost.as_ref().and_then(|vhost| vhost.find_queue(&queue.name));
        if let Some(existing) = existing {
            let properties = &existing.properties;
            let same = (properties.durable, properties.auto_delete) == (queue.durable, queue.auto_delete)
                && table_json(existing.arguments().table()) == table_json(&arguments);
            if !same {
                self.note(Fate::Kept, what);
            }
            return Ok(());
        }
        self.note(Fate::Made, what);
        self.queues.push((queue, arguments));
        Ok(())
    }

    pub(super) fn binding(
        &mut self,
        snapshots: &mut Snapshots<'_>,
        binding: BindingDefinition,
    ) -> Result<(), ImportError> {
        let vhost = snapshots.of(binding.vhost.as_deref(), "binding of exchange", &binding.source)?;
        let BindingDefinition {
            source,
            destination,
            destination_type,
            routing_key,
            ..
        } = &binding;
        let what = format!(
            "binding of {destination_type} '{destination}' to exchange '{source}' under '{routing_key}' in vhost '{}'",
            vhost.name
        );
        let arguments = table(&what, &binding.arguments)?;
        // Every queue is bound to the default exchange.
        if source.is_empty() {
            return Ok(());
        }
        if routing_key.len() > 255 {
            return Err(ImportError::object(what, "the routing key is longer than 255 bytes"));
        }
        let ends = match destination_type.as_str() {
            "queue" => vhost.queues.contains(destination),
            "exchange" => vhost.has_exchange(destination),
            other => {
                return Err(ImportError::object(
                    &what,
                    format!("unknown destination_type '{other}'"),
                ));
            }
        };
        if !ends || !vhost.has_exchange(source) {
            return Err(ImportError::object(what, "one of its ends does not exist"));
        }
        if !vhost.bindings.insert(BindingIdentity::of(&binding, &arguments)) {
            return Ok(());
        }
        self.note(Fate::Made, what);
        self.bindings.push((binding, arguments));
        Ok(())
    }
}

fn table(what: &str, arguments: &Map<String, Value>) -> Result<FieldTable, ImportError> {
    table_from_json(arguments).map_err(|error: NotATable| ImportError::object(what, error))
}
