//! The rows of the `list_` commands, copied from the live broker.

use std::collections::HashMap;

use amq_protocol::types::FieldTable;
use leveret_routing::Destination;
use serde_json::Value;

use super::error::CtlError;
use super::handler::operation_error;
use super::protocol::Table;
use super::rows::{
    BindingRow, ChannelRow, ConnectionRow, ConsumerRow, DelayedRow, ExchangeRow, QueueRow, VhostRow, tabulate,
};
use crate::broker::{Broker, ConnectionId, ConnectionInfo};
use crate::clock;
use crate::json::table_json;
use crate::queue::Activity;
use crate::vhost::{QueueHandle, Vhost};

pub fn vhosts(broker: &Broker, columns: &[String]) -> Result<Table, CtlError> {
    let vhosts = broker.vhosts();
    let rows = vhosts.iter().map(|vhost| {
        let about = vhost.about();
        VhostRow {
            name: vhost.name.to_string(),
            description: about.description,
            tags: about.tags,
            default_queue_type: about.default_queue_type,
            redeclare_rule: vhost.redeclare_rule().name().to_owned(),
            protected_from_deletion: about.protected_from_deletion,
            tracing: vhost.is_traced(),
        }
    });
    tabulate(rows, columns)
}

pub fn queues(broker: &Broker, vhost: &Vhost, columns: &[String]) -> Result<Table, CtlError> {
    let names: HashMap<ConnectionId, String> = broker
        .connections()
        .iter()
        .map(|info| (info.id, info.name.clone()))
        .collect();
    let mut queues = vhost.queues();
    queues.sort_by(|a, b| a.name.cmp(&b.name));
    tabulate(queues.iter().map(|queue| queue_row(queue, &names)), columns)
}

fn queue_row(queue: &QueueHandle, connection_names: &HashMap<ConnectionId, String>) -> QueueRow {
    let moment = queue.moment();
    let (counts, totals, whereabouts) = (moment.counts, moment.totals, moment.whereabouts);
    let properties = &queue.properties;
    let policies = queue.in_force().policies.clone();
    let (policy, operator_policy) = policies.names();
    let owner = properties
        .exclusive_owner
        .and_then(|owner| connection_names.get(&owner).cloned());
    QueueRow {
        name: queue.name.to_string(),
        durable: properties.durable,
        auto_delete: properties.auto_delete,
        exclusive: properties.exclusive_owner.is_some(),
        arguments: table_json(queue.arguments().table()),
        kind: properties.arguments.queue_type.name().to_owned(),
        state: "running".to_owned(),
        messages: (counts.ready + counts.unacked) as u64,
        messages_ready: counts.ready as u64,
        messages_unacknowledged: counts.unacked as u64,
        messages_ready_ram: whereabouts.ready_in_memory.messages as u64,
        messages_unacknowledged_ram: whereabouts.unacked_in_memory.messages as u64,
        messages_ram: whereabouts.in_memory().messages as u64,
        messages_persistent: whereabouts.persistent.messages as u64,
        messages_paged_out: whereabouts.paged_out.messages as u64,
        message_bytes: counts.ready_bytes + counts.unacked_bytes,
        message_bytes_ready: counts.ready_bytes,
        message_bytes_unacknowledged: counts.unacked_bytes,
        message_bytes_ram: whereabouts.in_memory().bytes,
        message_bytes_persistent: whereabouts.persistent.bytes,
        message_bytes_paged_out: whereabouts.paged_out.bytes,
        head_message_timestamp: moment.head_timestamp(),
        disk_reads: totals.disk_reads,
        disk_writes: totals.disk_writes,
        memory: counts.memory_bytes,
        consumers: counts.consumers as u64,
        owner: owner.unwrap_or_default(),
        policy,
        operator_policy,
        effective_policy_definition: Value::Object(policies.definition()),
    }
}

pub fn exchanges(vhost: &Vhost, columns: &[String]) -> Result<Table, CtlError> {
    let rows = vhost.exchanges().into_iter().map(|(name, options)| ExchangeRow {
        policy: vhost.policies_of_exchange(&name).names().0,
        messages_delayed: vhost.delayed_count(&name),
        name,
        kind: options.kind.as_str().to_owned(),
        durable: options.durable,
        auto_delete: options.auto_delete,
        internal: options.internal,
        arguments: table_json(&options.arguments),
    });
    tabulate(rows, columns)
}

pub fn delayed_messages(vhost: &Vhost, exchange: &str) -> Result<Table, CtlError> {
    let messages = vhost.delayed_messages(exchange).map_err(operation_error)?;
    let rows = messages.into_iter().map(|message| DelayedRow {
        id: message.id,
        due: message.due_millis,
        routing_key: message.routing_key,
        message_bytes: message.body_bytes as u64,
        durable: message.durable,
    });
    tabulate(rows, &[])
}

pub fn bindings(vhost: &Vhost, columns: &[String]) -> Result<Table, CtlError> {
    let mut names: HashMap<u32, String> = HashMap::new();
    let mut rows = Vec::new();
    let mut queues = vhost.queues();
    queues.sort_by(|a, b| a.name.cmp(&b.name));
    for queue in queues {
        names.insert(queue.index, queue.name.to_string());
        // Every queue is bound to the default exchange by its name.
        rows.push(binding_row(
            "",
            &queue.name,
            "queue",
            &queue.name,
            &FieldTable::default(),
        ));
    }
    for binding in vhost.bindings() {
        let (name, kind) = match &binding.destination {
            Destination::Exchange(name) => (name.to_string(), "exchange"),
            Destination::Queue(index) => match names.get(index) {
                Some(name) => (name.clone(), "queue"),
                None => continue,
            },
        };
        rows.push(binding_row(
            &binding.source,
            &name,
            kind,
            &binding.routing_key,
            &binding.arguments,
        ));
    }
    tabulate(rows, columns)
}

fn binding_row(source: &str, destination: &str, kind: &str, routing_key: &str, arguments: &FieldTable) -> BindingRow {
    BindingRow {
        source_name: source.to_owned(),
        source_kind: "exchange".to_owned(),
        destination_name: destination.to_owned(),
        destination_kind: kind.to_owned(),
        routing_key: routing_key.to_owned(),
        arguments: table_json(arguments),
    }
}

pub fn consumers(broker: &Broker, vhost: &Vhost, columns: &[String]) -> Result<Table, CtlError> {
    let connections = broker.connections();
    let mut rows = Vec::new();
    for queue in vhost.queues() {
        // Copied under the queue's lock; the outboxes are looked at after it is released.
        let specs: Vec<_> = queue
            .lock()
            .consumers()
            .map(|view| {
                let handle = &view.spec.handle;
                (
                    handle.outbox.clone(),
                    handle.channel,
                    handle.origin,
                    view.spec.no_ack,
                    view.spec.prefetch_count,
                    view.spec.exclusive,
                    view.spec.priority,
                    view.activity,
                )
            })
            .collect();
        for (outbox, channel, origin, no_ack, prefetch_count, exclusive, priority, activity) in specs {
            let (consumer_tag, arguments) = {
                let outbox = outbox.lock();
                let tag = outbox.consumer_tag(channel, origin).unwrap_or_default();
                (tag, outbox.consumer_arguments(channel, origin).unwrap_or_default())
            };
            let connection = connections.iter().find(|info| info.outbox.is(&outbox));
            let name = connection.map(|info| info.name.clone()).unwrap_or_default();
            rows.push(ConsumerRow {
                queue_name: queue.name.to_string(),
                channel: format!("{name} ({channel})"),
                consumer_tag,
                ack_required: !no_ack,
                prefetch_count,
                active: activity != Activity::Waiting,
                activity_status: activity.name().to_owned(),
                exclusive,
                priority: i64::from(priority),
                arguments: table_json(&arguments),
            });
        }
    }
    rows.sort_by(|a, b| (&a.queue_name, &a.consumer_tag).cmp(&(&b.queue_name, &b.consumer_tag)));
    tabulate(rows, columns)
}

pub fn connections(broker: &Broker, columns: &[String]) -> Result<Table, CtlError> {
    tabulate(
        broker.connections().iter().map(|info| connection_row(broker, info)),
        columns,
    )
}

fn connection_row(broker: &Broker, info: &ConnectionInfo) -> ConnectionRow {
    let identity = info.identity();
    let (frame_max, timeout) = info.tuning();
    let age = clock::now().saturating_duration_since(info.connected_at);
    let now = clock::unix_time();
    let state = match &*identity.vhost {
        "" => "starting",
        _ if info.is_in_flow(clock::now()) => "flow",
        _ => "running",
    };
    ConnectionRow {
        pid: broker.pid_of(info),
        name: info.name.clone(),
        user_provided_name: identity.connection_name.clone().unwrap_or_default(),
        user: identity.user.to_string(),
        vhost: identity.vhost.to_string(),
        peer_host: info.peer.ip().to_string(),
        peer_port: info.peer.port(),
        host: info.local.ip().to_string(),
        port: info.local.port(),
        state: state.to_owned(),
        channels: u64::from(info.channels()),
        channel_max: broker.config.channel_max,
        frame_max,
        timeout,
        connected_at: now.saturating_sub(age).as_millis() as u64,
        client_properties: Value::Object(identity.client_properties()),
    }
}

pub fn channels(broker: &Broker, columns: &[String]) -> Result<Table, CtlError> {
    let mut rows = Vec::new();
    for info in broker.connections() {
        let identity = info.identity();
        for channel in info.outbox.lock().channel_summaries() {
            rows.push(ChannelRow {
                name: format!("{} ({})", info.name, channel.number),
                connection: info.name.clone(),
                number: channel.number,
                user: identity.user.to_string(),
                vhost: identity.vhost.to_string(),
                consumer_count: channel.consumers as u64,
                messages_unacknowledged: channel.unacked as u64,
                global_prefetch_count: channel.prefetch_global,
            });
        }
    }
    tabulate(rows, columns)
}
