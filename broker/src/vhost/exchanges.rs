//! Declaring, deleting and binding exchanges.

use amq_protocol::types::FieldTable;
use leveret_routing::{Declared, Destination, ExchangeKind, ExchangeOptions};
use leveret_storage::{Definition, DefinitionKey, ExchangeRecord};

use super::error::routing_error;
use super::{Actor, Durable, OperationError, Vhost, stripped};
use crate::auth::permissions::Operation;
use crate::protocol::field_table::encode_table;

/// What `exchange.declare` asks for.
pub struct ExchangeDeclaration<'a> {
    /// The exchange's name.
    pub name: &'a str,
    /// Its type as the client wrote it.
    pub kind: &'a str,
    /// Only ask whether it exists.
    pub passive: bool,
    /// Survives a restart.
    pub durable: bool,
    /// Deleted when its last source binding goes.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// Further arguments; only `alternate-exchange` matters to equivalence.
    pub arguments: FieldTable,
}

impl Vhost {
    /// `exchange.declare`.
    pub fn declare_exchange(
        &self,
        actor: &Actor,
        declaration: ExchangeDeclaration<'_>,
    ) -> Result<Durable, OperationError> {
        let name = stripped(declaration.name);
        if declaration.passive {
            return self.declare_exchange_passively(actor, &name);
        }
        let kind = ExchangeKind::parse(declaration.kind)
            .ok_or_else(|| OperationError::UnknownExchangeType(declaration.kind.to_owned()))?;
        if name.is_empty() {
            return Err(OperationError::DefaultExchange);
        }
        actor.require(Operation::Configure, &name, || self.exchange_resource(&name))?;
        let mut topology = self.topology.write();
        self.check_exists(&topology)?;
        if topology.routing.exchange(&name).is_none() && name.starts_with("amq.") {
            return Err(OperationError::ReservedName { kind: "exchange", name });
        }
        let options = ExchangeOptions {
            durable: declaration.durable,
            auto_delete: declaration.auto_delete,
            internal: declaration.internal,
            ..ExchangeOptions::new(kind)
        };
        let arguments = &declaration.arguments;
        let options = match options.clone().with_arguments(arguments.clone()) {
            Ok(options) => options,
            Err(error) => {
                // What exists is compared, not checked: of its arguments only the alternate exchange counts then.
                let Some(existing) = topology.routing.exchange(&name) else {
                    return Err(routing_error(&error, &name, &self.name));
                };
                let difference = existing.options.difference_with_wrong_arguments(&options, arguments);
                return difference.map_or(Ok(None), |difference| {
                    let explanation = difference.explanation(&self.exchange_resource(&name).to_string());
                    Err(OperationError::Inequivalent(explanation))
                });
            }
        };
        if let Some(alternate) = &options.alternate_exchange {
            actor.require(Operation::Read, &name, || self.exchange_resource(&name))?;
            actor.require(Operation::Write, alternate, || self.exchange_resource(alternate))?;
        }
        self.check_store()?;
        let existing = topology.routing.exchange(&name).map(|it| it.options);
        if let Some(current) = existing.filter(|current| current.differences(&options).next().is_some()) {
            let current = current.clone();
            return self.redeclare_exchange(actor, topology, &name, &current, &options);
        }
        let record = options.durable.then(|| exchange_record(&self.name, &name, &options));
        let declared = topology
            .routing
            .declare_exchange(&name, options)
            .map_err(|error| routing_error(&error, &name, &self.name))?;
        if declared == Declared::Existed {
            return Ok(None);
        }
        topology.apply_to_exchange(&name);
        self.invalidate_routes();
        Ok(record.map(|record| {
            let mut writer = self.store.writer();
            writer.put(&Definition::Exchange(record));
            writer.submit()
        }))
    }

    fn declare_exchange_passively(&self, actor: &Actor, name: &str) -> Result<Durable, OperationError> {
        if name.is_empty() {
            return Err(OperationError::DefaultExchange);
        }
        actor.require_any(name, || self.exchange_resource(name))?;
        match self.topology.read().routing.exchange(name) {
            Some(_) => Ok(None),
            None => Err(OperationError::NotFound(self.exchange_resource(name))),
        }
    }

    /// `exchange.delete`. A missing exchange is as good as deleted.
    pub fn delete_exchange(&self, actor: &Actor, name: &str, if_unused: bool) -> Result<Durable, OperationError> {
        let name = stripped(name);
        if name.is_empty() {
            return Err(OperationError::DefaultExchange);
        }
        if name.starts_with("amq.") {
            return Err(OperationError::SystemExchange(self.exchange_resource(&name)));
        }
        actor.require(Operation::Configure, &name, || self.exchange_resource(&name))?;
        self.check_store()?;
        let mut topology = self.topology.write();
        let removed = topology
            .routing
            .delete_exchange(&name, if_unused)
            .map_err(|error| routing_error(&error, &name, &self.name))?;
        Ok(self.forget(&topology, &removed, None))
    }

    /// `exchange.bind`: messages that reach `source` under the routing key also go to `destination`.
    pub fn bind_exchange(
        &self,
        actor: &Actor,
        destination: &str,
        source: &str,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<Durable, OperationError> {
        self.check_exchange_binding(actor, destination, source, routing_key)?;
        let mut topology = self.topology.write();
        let destination = Destination::Exchange(destination);
        let (durable, replay) = self.bind(&mut topology, source, destination, routing_key, arguments)?;
        drop(topology);
        Ok(durable.max(self.send(replay)))
    }

    /// `exchange.unbind`. Whatever is missing is as good as unbound.
    pub fn unbind_exchange(
        &self,
        actor: &Actor,
        destination: &str,
        source: &str,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<Durable, OperationError> {
        self.check_exchange_binding(actor, destination, source, routing_key)?;
        self.unbind(
            &mut self.topology.write(),
            source,
            Destination::Exchange(destination),
            routing_key,
            arguments,
        )
    }

    fn check_exchange_binding(
        &self,
        actor: &Actor,
        destination: &str,
        source: &str,
        routing_key: &str,
    ) -> Result<(), OperationError> {
        actor.require(Operation::Write, exchange_permission_name(destination), || {
            self.exchange_resource(destination)
        })?;
        if destination.is_empty() || source.is_empty() {
            return Err(OperationError::DefaultExchange);
        }
        actor.require(Operation::Read, source, || self.exchange_resource(source))?;
        self.check_topics(actor, Operation::Read, source, [routing_key])
    }

    pub(super) fn exchange_key(&self, name: &str) -> DefinitionKey {
        DefinitionKey::Exchange {
            vhost: self.name.to_string(),
            name: name.to_owned(),
        }
    }
}

/// An exchange as it is stored.
pub(super) fn exchange_record(vhost: &str, name: &str, options: &ExchangeOptions) -> ExchangeRecord {
    let mut arguments = Vec::new();
    encode_table(&options.arguments, &mut arguments);
    ExchangeRecord {
        vhost: vhost.to_owned(),
        name: name.to_owned(),
        kind: options.kind.as_str().to_owned(),
        auto_delete: options.auto_delete,
        internal: options.internal,
        arguments,
    }
}

/// The name by which permissions know an exchange.
pub fn exchange_permission_name(name: &str) -> &str {
    if name.is_empty() {
        super::error::DEFAULT_EXCHANGE_ALIAS
    } else {
        name
    }
}
