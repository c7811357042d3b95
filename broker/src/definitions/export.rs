//! What there is, as a definitions file.

use std::collections::HashMap;

use leveret_routing::Destination;
use serde_json::{Map, Value};

use super::document::{
    BindingDefinition, Document, ExchangeDefinition, GlobalParameterDefinition, OPERATOR_POLICY, ParameterDefinition,
    PermissionDefinition, PolicyDefinition, QueueDefinition, TopicPermissionDefinition, UserDefinition, VHOST_LIMITS,
    VhostDefinition,
};
use crate::broker::Broker;
use crate::json::table_json;
use crate::limits::VhostLimits;
use crate::metrics::COMPATIBLE_VERSION;
use crate::policy::PolicyKind;
use crate::vhost::Vhost;

/// Everything that was declared, but what ends with a connection or is there anyway.
pub fn export(broker: &Broker) -> Document {
    let mut document = Document {
        rabbit_version: COMPATIBLE_VERSION.to_owned(),
        rabbitmq_version: Some(COMPATIBLE_VERSION.to_owned()),
        product_name: Some(broker.config.product.clone()),
        product_version: Some(broker.config.product_version.clone()),
        users: Some(users(broker)),
        vhosts: Some(Vec::new()),
        permissions: Some(permissions(broker)),
        topic_permissions: Some(topic_permissions(broker)),
        global_parameters: Some(global_parameters(broker)),
        ..Document::default()
    };
    for vhost in broker.vhosts() {
        let vhosts = document.vhosts.get_or_insert_default();
        vhosts.push(VhostDefinition::of(&vhost.name, vhost.about()));
        add_vhost(&mut document, &vhost, Some(&vhost.name));
    }
    document
}

/// What was declared in one virtual host, without its name, so that it can be imported into another.
pub fn export_vhost(vhost: &Vhost) -> Document {
    let mut document = Document {
        rabbit_version: COMPATIBLE_VERSION.to_owned(),
        ..Document::default()
    };
    add_vhost(&mut document, vhost, None);
    document
}

fn users(broker: &Broker) -> Vec<UserDefinition> {
    let users = broker.users.list().into_iter().map(|user| UserDefinition {
        name: user.name.clone(),
        password_hash: user.password.encoded(),
        hashing_algorithm: Some(user.password.algorithm().name().to_owned()),
        password: None,
        tags: user.tags.clone(),
        limits: serde_json::to_value(broker.user_limits(&user.name)).unwrap_or_default(),
    });
    users.collect()
}

fn permissions(broker: &Broker) -> Vec<PermissionDefinition> {
    let records = broker.users.list_permissions().into_iter();
    let permissions = records.map(|record| PermissionDefinition {
        user: record.user,
        vhost: record.vhost,
        configure: record.configure,
        write: record.write,
        read: record.read,
    });
    permissions.collect()
}

fn topic_permissions(broker: &Broker) -> Vec<TopicPermissionDefinition> {
    let records = broker.users.list_topic_permissions().into_iter();
    let permissions = records.map(|record| TopicPermissionDefinition {
        user: record.user,
        vhost: record.vhost,
        exchange: record.exchange,
        write: record.write,
        read: record.read,
    });
    permissions.collect()
}

fn global_parameters(broker: &Broker) -> Vec<GlobalParameterDefinition> {
    let parameters = broker.global_parameters().into_iter();
    parameters
        .map(|(name, value)| GlobalParameterDefinition { name, value })
        .collect()
}

fn add_vhost(document: &mut Document, vhost: &Vhost, name: Option<&str>) {
    let vhost_name = name.map(str::to_owned);
    let mut queues = vhost.queues();
    queues.retain(|queue| queue.properties.exclusive_owner.is_none());
    queues.sort_by(|a, b| a.name.cmp(&b.name));
    let names: HashMap<u32, &str> = queues.iter().map(|queue| (queue.index, &*queue.name)).collect();
    add_policies(document, vhost, &vhost_name);
    document.queues.extend(queues.iter().map(|queue| QueueDefinition {
        name: queue.name.to_string(),
        vhost: vhost_name.clone(),
        durable: queue.properties.durable,
        auto_delete: queue.properties.auto_delete,
        arguments: object(table_json(queue.arguments().table())),
    }));
    let mut exchanges = vhost.exchanges();
    exchanges.retain(|(name, _)| !is_predeclared(name));
    document
        .exchanges
        .extend(exchanges.into_iter().map(|(name, options)| ExchangeDefinition {
            name,
            vhost: vhost_name.clone(),
            kind: options.kind.as_str().to_owned(),
            durable: options.durable,
            auto_delete: options.auto_delete,
            internal: options.internal,
            arguments: object(table_json(&options.arguments)),
        }));
    document.bindings.extend(vhost.bindings().iter().filter_map(|binding| {
        let (destination, destination_type) = match &binding.destination {
            Destination::Exchange(name) => (name.to_string(), "exchange"),
            Destination::Queue(index) => ((*names.get(index)?).to_owned(), "queue"),
        };
        Some(BindingDefinition {
            source: binding.source.to_string(),
            vhost: vhost_name.clone(),
            destination,
            destination_type: destination_type.to_owned(),
            routing_key: binding.routing_key.to_string(),
            arguments: object(table_json(&binding.arguments)),
        })
    }));
}

/// Policies, and what RabbitMQ keeps as parameters.
fn add_policies(document: &mut Document, vhost: &Vhost, vhost_name: &Option<String>) {
    let sorted = |kind| {
        let mut specs: Vec<_> = vhost.policies(kind).iter().map(|policy| policy.spec.clone()).collect();
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        specs
    };
    let policies = sorted(PolicyKind::User).into_iter().map(|spec| PolicyDefinition {
        vhost: vhost_name.clone(),
        spec,
    });
    document.policies.extend(policies);
    let parameter = |component: &str, name: &str, value: Value| ParameterDefinition {
        vhost: vhost_name.clone(),
        component: component.to_owned(),
        name: name.to_owned(),
        value,
    };
    for spec in sorted(PolicyKind::Operator) {
        let value = spec.to_parameter();
        document.parameters.push(parameter(OPERATOR_POLICY, &spec.name, value));
    }
    let limits = vhost.limits();
    if limits != VhostLimits::default() {
        let value = serde_json::to_value(limits).unwrap_or_default();
        document
            .parameters
            .push(parameter(VHOST_LIMITS.0, VHOST_LIMITS.1, value));
    }
}

/// The default exchange and those that every virtual host begins with.
pub(super) fn is_predeclared(exchange: &str) -> bool {
    exchange.is_empty() || exchange.starts_with("amq.")
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
