//! What is told of queues.

use std::sync::Arc;

use super::{OWN_PREFIX, Row, metric};
use crate::metrics::families::{Family, Selection};
use crate::metrics::text::Kind::{Counter, Gauge};
use crate::metrics::text::{Metric, Text, labels};
use crate::queue::{Counts, Totals};
use crate::vhost::Vhost;

/// A queue at one moment.
struct QueueRow {
    labels: String,
    counts: Counts,
    totals: Totals,
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

const QUEUE_DELIVERY: [Metric<QueueRow>; 7] = [
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
    metric("queue_get_empty_total", Counter, "basic.get on an empty queue", |row| {
        row.totals.got_nothing
    }),
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

const QUEUE_INFO: Metric<Row> = metric("queue_info", Gauge, "1, with the queue's type", |row| row.value);
/// Writes the families of queues that are selected.
pub(super) fn queues(vhosts: &[Arc<Vhost>], selection: &Selection, prefix: &str, text: &mut Text) {
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
