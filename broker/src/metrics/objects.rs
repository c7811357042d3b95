//! What `/metrics/per-object` and `/metrics/detailed` tell of each queue, channel, connection, exchange and virtual host.
//!
//! Every object is locked for as long as it takes to copy its counts; nothing is locked while they are written.

mod clients;
mod queues;

pub use queues::of_all_queues;

use std::collections::HashMap;
use std::sync::Arc;

use super::families::{Family, Selection};
use super::text::Kind::{Counter, Gauge};
use super::text::{Kind, Metric, Text, labels};
use crate::broker::Broker;
use crate::metrics::Publishes;
use crate::metrics::routed::routed;
use crate::vhost::Vhost;
use crate::vhost::traffic::Routed;

/// The prefix of what is the same on every node of a cluster.
const CLUSTER_PREFIX: &str = "rabbitmq_cluster_";
/// The prefix of what RabbitMQ has no name for.
const OWN_PREFIX: &str = "leveret_";

/// What was published to an exchange, by one channel or by all.
struct PublishRow {
    labels: String,
    published: Publishes<u64>,
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

const EXCHANGE: [Metric<PublishRow>; 4] = [
    metric(
        "exchange_messages_published_total",
        Counter,
        "Messages published into an exchange",
        |row| row.published.received,
    ),
    metric(
        "exchange_messages_confirmed_total",
        Counter,
        "Messages published into an exchange and confirmed",
        |row| row.published.confirmed,
    ),
    metric(
        "exchange_messages_unroutable_returned_total",
        Counter,
        "Messages that no queue took and their publisher got back",
        |row| row.published.returned,
    ),
    metric(
        "exchange_messages_unroutable_dropped_total",
        Counter,
        "Messages that no queue took",
        |row| row.published.dropped,
    ),
];

const EXCHANGE_ROUTED: Metric<PublishRow> = metric(
    "exchange_messages_routed_total",
    Counter,
    "Messages that went on to queues, once per queue",
    |row| row.published.routed,
);

const QUEUE_EXCHANGE: Metric<Row> = metric(
    "queue_exchange_messages_published_total",
    Counter,
    "Messages published into a queue through an exchange",
    |row| row.value,
);

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
    queues::queues(&vhosts, selection, prefix, text);
    clients::channels(broker, selection, prefix, text);
    clients::connections(broker, selection, prefix, text);
    if selection.has(Family::Exchange) {
        let rows = published_rows(&vhosts);
        for metric in &EXCHANGE {
            text.write(prefix, metric, &rows, |row| &row.labels);
        }
        text.write(OWN_PREFIX, &EXCHANGE_ROUTED, &rows, |row| &row.labels);
    }
    if selection.has(Family::QueueExchange) {
        let row = |routed: &Routed| {
            let (exchange, queue) = (&routed.exchange.name, &routed.queue);
            let pairs = [("vhost", &*queue.vhost), ("exchange", exchange), ("queue", &queue.name)];
            Row::of(&pairs, routed.count)
        };
        let rows: Vec<Row> = routed(broker, &vhosts).iter().map(row).collect();
        text.write(prefix, &QUEUE_EXCHANGE, &rows, Row::labels);
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

/// The exchanges that somebody published to.
fn published_rows(vhosts: &[Arc<Vhost>]) -> Vec<PublishRow> {
    let mut rows = Vec::new();
    for vhost in vhosts {
        let mut traffic = vhost.traffic();
        traffic.sort_by(|a, b| a.name.cmp(&b.name));
        rows.extend(traffic.iter().map(|exchange| PublishRow {
            labels: labels(&[("vhost", &vhost.name), ("exchange", &exchange.name)]),
            published: exchange.counts(),
        }));
    }
    rows
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
