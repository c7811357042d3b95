//! What `/metrics/per-object` and `/metrics/detailed` tell of each queue, channel, connection, exchange and virtual host.
//!
//! Every object is locked for as long as it takes to copy its counts; nothing is locked while they are written.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::families::{Family, Selection};
use super::text::Kind::{Counter, Gauge};
use super::text::{Kind, Metric, Text, labels};
use crate::broker::{Broker, ConnectionInfo};
use crate::queue::{Counts, Totals};
use crate::session::outbox::ChannelSummary;
use crate::vhost::Vhost;

/// The prefix of what is the same on every node of a cluster.
const CLUSTER_PREFIX: &str = "rabbitmq_cluster_";
/// The prefix of what RabbitMQ has no name for.
const OWN_PREFIX: &str = "leveret_";

/// A queue at one moment.
struct QueueRow {
    labels: String,
    counts: Counts,
    totals: Totals,
}

/// A channel at one moment.
struct ChannelRow {
    labels: String,
    channel: ChannelSummary,
}

/// Anything with one figure.
struct Row {
    labels: String,
    value: u64,
}

const fn metric<R>(name: &'static str, kind: Kind, help: &'static str, value: fn(&R) -> u64) -> Metric<R> {
    Metric {
        name,
        kind,
        help,
        value,
    }
}

const QUEUE_COARSE: [Metric<QueueRow>; 3] = [
    metric("queue_messages_ready", Gauge, "Messages ready for delivery", |row| {
        row.counts.ready as u64
    }),
    metric(
        "queue_messages_unacked",
        Gauge,
        "Messages delivered and not acknowledged",
        |row| row.counts.unacked as u64,
    ),
    metric("queue_messages", Gauge, "Messages ready or unacknowledged", |row| {
        (row.counts.ready + row.counts.unacked) as u64
    }),
];

const QUEUE_CONSUMERS: [Metric<QueueRow>; 1] = [metric("queue_consumers", Gauge, "Consumers", |row| {
    row.counts.consumers as u64
})];

const QUEUE: [Metric<QueueRow>; 7] = [
    metric(
        "queue_consumer_capacity",
        Gauge,
        "1 while its consumers take at once what arrives",
        |row| u64::from(row.counts.consumers_keep_up()),
    ),
    metric(
        "queue_consumer_utilisation",
        Gauge,
        "The same as the consumer capacity",
        |row| u64::from(row.counts.consumers_keep_up()),
    ),
    metric(
        "queue_process_memory_bytes",
        Gauge,
        "Memory that its messages take",
        |row| row.counts.memory_bytes,
    ),
    metric(
        "queue_messages_paged_out",
        Gauge,
        "Ready messages that are on disk only",
        |row| row.counts.paged as u64,
    ),
    metric(
        "queue_messages_bytes",
        Gauge,
        "Bytes of bodies of ready and unacknowledged messages",
        |row| row.counts.ready_bytes + row.counts.unacked_bytes,
    ),
    metric(
        "queue_messages_ready_bytes",
        Gauge,
        "Bytes of bodies of ready messages",
        |row| row.counts.ready_bytes,
    ),
    metric(
        "queue_messages_unacked_bytes",
        Gauge,
        "Bytes of bodies of unacknowledged messages",
        |row| row.counts.unacked_bytes,
    ),
];

const QUEUE_DELIVERY: [Metric<QueueRow>; 6] = [
    metric(
        "queue_get_ack_total",
        Counter,
        "Messages fetched by basic.get with acknowledgement",
        |row| row.totals.got,
    ),
    metric(
        "queue_get_total",
        Counter,
        "Messages fetched by basic.get without acknowledgement",
        |row| row.totals.got_no_ack,
    ),
    metric(
        "queue_messages_delivered_ack_total",
        Counter,
        "Messages delivered to consumers that acknowledge",
        |row| row.totals.delivered,
    ),
    metric(
        "queue_messages_delivered_total",
        Counter,
        "Messages delivered to consumers that do not acknowledge",
        |row| row.totals.delivered_no_ack,
    ),
    metric(
        "queue_messages_redelivered_total",
        Counter,
        "Messages delivered or fetched again",
        |row| row.totals.redelivered,
    ),
    metric(
        "queue_messages_acked_total",
        Counter,
        "Messages acknowledged by consumers",
        |row| row.totals.acked,
    ),
];

const QUEUE_FATE: [Metric<QueueRow>; 6] = [
    metric(
        "queue_messages_published_total",
        Counter,
        "Messages that came in",
        |row| row.totals.published,
    ),
    metric("queue_messages_requeued_total", Counter, "Messages given back", |row| {
        row.totals.requeued
    }),
    metric(
        "queue_messages_rejected_total",
        Counter,
        "Messages given up because consumers rejected them or failed too often",
        |row| row.totals.rejected,
    ),
    metric(
        "queue_messages_expired_total",
        Counter,
        "Messages whose time to live was over",
        |row| row.totals.expired,
    ),
    metric(
        "queue_messages_overflowed_total",
        Counter,
        "Messages that left because the queue was too long",
        |row| row.totals.overflowed,
    ),
    metric("queue_messages_purged_total", Counter, "Messages purged", |row| {
        row.totals.purged
    }),
];

const CHANNEL: [Metric<ChannelRow>; 5] = [
    metric("channel_consumers", Gauge, "Consumers", |row| {
        row.channel.consumers as u64
    }),
    metric(
        "channel_messages_unacked",
        Gauge,
        "Deliveries not acknowledged yet",
        |row| row.channel.unacked as u64,
    ),
    metric(
        "channel_messages_unconfirmed",
        Gauge,
        "Publishes not confirmed yet",
        |row| {
            let unconfirmed = row.channel.shown.unconfirmed.as_ref();
            unconfirmed.map_or(0, |count| count.load(Ordering::Relaxed))
        },
    ),
    metric(
        "consumer_prefetch",
        Gauge,
        "Most unacknowledged deliveries to each new consumer, 0 for any number",
        |row| row.channel.shown.prefetch_count.into(),
    ),
    metric(
        "channel_prefetch",
        Gauge,
        "Most unacknowledged deliveries to all consumers together, 0 for any number",
        |row| row.channel.prefetch_global.into(),
    ),
];

const QUEUE_INFO: Metric<Row> = metric("queue_info", Gauge, "1, with the queue's type", |row| row.value);
const CONNECTION_CHANNELS: Metric<Row> = metric("connection_channels", Gauge, "Open channels", |row| row.value);
const VHOST_STATUS: Metric<Row> = metric("vhost_status", Gauge, "1 while the virtual host runs", |row| row.value);
const EXCHANGE_NAME: Metric<Row> = metric("exchange_name", Gauge, "1 for each exchange", |row| row.value);
const EXCHANGE_BINDINGS: Metric<Row> = metric(
    "exchange_bindings",
    Gauge,
    "Bindings with the exchange as source",
    |row| row.value,
);

/// Writes what is selected; `prefix` is that of RabbitMQ's names.
pub fn write(broker: &Broker, selection: &Selection, prefix: &str, text: &mut Text) {
    let mut vhosts = broker.vhosts();
    vhosts.retain(|vhost| selection.takes(vhost));
    queues(&vhosts, selection, prefix, text);
    if selection.has(Family::Channel) {
        let rows = channel_rows(broker);
        for metric in &CHANNEL {
            text.write(prefix, metric, &rows, |row| &row.labels);
        }
    }
    if selection.has(Family::Connection) {
        text.write(prefix, &CONNECTION_CHANNELS, &connection_rows(broker), Row::labels);
    }
    if selection.has(Family::VhostStatus) {
        let row = |vhost: &Arc<Vhost>| Row::of(&[("vhost", &vhost.name)], 1);
        let rows: Vec<Row> = vhosts.iter().map(row).collect();
        text.write(CLUSTER_PREFIX, &VHOST_STATUS, &rows, Row::labels);
    }
    if selection.has(Family::ExchangeBindings) {
        let rows = exchange_rows(&vhosts, bindings_by_source);
        text.write(CLUSTER_PREFIX, &EXCHANGE_BINDINGS, &rows, Row::labels);
    }
    if selection.has(Family::ExchangeNames) {
        let rows = exchange_rows(&vhosts, |_| |_: &str| 1);
        text.write(CLUSTER_PREFIX, &EXCHANGE_NAME, &rows, Row::labels);
    }
}

impl Row {
    fn of(pairs: &[(&str, &str)], value: u64) -> Row {
        Row {
            labels: labels(pairs),
            value,
        }
    }

    fn labels(&self) -> &str {
        &self.labels
    }
}

fn queues(vhosts: &[Arc<Vhost>], selection: &Selection, prefix: &str, text: &mut Text) {
    let families = selection.families().iter();
    let tables = families.flat_map(|family| -> Vec<(&str, &[Metric<QueueRow>])> {
        match family {
            Family::QueueCoarse => vec![(prefix, &QUEUE_COARSE)],
            Family::QueueConsumerCount => vec![(prefix, &QUEUE_CONSUMERS)],
            Family::Queue => vec![(prefix, &QUEUE_CONSUMERS), (prefix, &QUEUE)],
            Family::QueueDelivery => vec![(prefix, &QUEUE_DELIVERY)],
            Family::QueueFate => vec![(OWN_PREFIX, &QUEUE_FATE)],
            _ => Vec::new(),
        }
    });
    let tables: Vec<_> = tables.collect();
    if tables.is_empty() {
        return;
    }
    let (mut rows, mut info) = (Vec::new(), Vec::new());
    for vhost in vhosts {
        let mut queues = vhost.queues();
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        for queue in queues {
            let (counts, totals) = queue.counts_and_totals();
            let labels = labels(&[("vhost", &queue.vhost), ("queue", &queue.name)]);
            let queue_type = queue.properties.arguments.queue_type.module_name();
            info.push(Row {
                labels: format!("{labels},queue_type=\"{queue_type}\",membership=\"leader\""),
                value: 1,
            });
            rows.push(QueueRow { labels, counts, totals });
        }
    }
    for (prefix, metrics) in tables {
        for metric in metrics {
            text.write(prefix, metric, &rows, |row| &row.labels);
        }
    }
    text.write(prefix, &QUEUE_INFO, &info, Row::labels);
}

fn channel_rows(broker: &Broker) -> Vec<ChannelRow> {
    let mut connections = broker.connections();
    connections.sort_by_key(|info| info.id);
    let mut rows = Vec::new();
    for info in connections {
        let channels = info.outbox.lock().channel_summaries();
        rows.extend(channels.into_iter().map(|channel| ChannelRow {
            labels: labels(&[("channel", &info.channel_name(channel.number))]),
            channel,
        }));
    }
    rows
}

fn connection_rows(broker: &Broker) -> Vec<Row> {
    let mut connections = broker.connections();
    connections.sort_by_key(|info| info.id);
    let row = |info: &Arc<ConnectionInfo>| Row::of(&[("connection", &info.name)], info.channels().into());
    connections.iter().map(row).collect()
}

/// All exchanges but the default one and those that nobody publishes to, as in RabbitMQ.
fn exchange_rows<V: Fn(&str) -> u64>(vhosts: &[Arc<Vhost>], values: impl Fn(&Vhost) -> V) -> Vec<Row> {
    let mut rows = Vec::new();
    for vhost in vhosts {
        let value = values(vhost);
        for (name, options) in vhost.exchanges() {
            if !name.is_empty() && !options.internal {
                let pairs = [
                    ("vhost", &*vhost.name),
                    ("exchange", &name),
                    ("type", options.kind.as_str()),
                ];
                rows.push(Row::of(&pairs, value(&name)));
            }
        }
    }
    rows
}

fn bindings_by_source(vhost: &Vhost) -> impl Fn(&str) -> u64 + use<> {
    let mut counts: HashMap<Arc<str>, u64> = HashMap::new();
    for binding in vhost.bindings() {
        *counts.entry(binding.source).or_default() += 1;
    }
    move |exchange| counts.get(exchange).copied().unwrap_or(0)
}
