//! What is told of queues.

use std::sync::Arc;

use super::{OWN_PREFIX, Row, metric};
use crate::metrics::families::{Family, Selection};
use crate::metrics::text::Kind::{Counter, Gauge};
use crate::metrics::text::{Metric, Text, labels};
use crate::vhost::{QueueMoment, Vhost};

/// A queue at one moment, or all of them together.
pub struct QueueRow {
    labels: String,
    moment: QueueMoment,
}

static QUEUE_COARSE: [Metric<QueueRow>; 3] = [
    metric("queue_messages_ready", Gauge, "Messages ready for delivery", |row| {
        row.moment.counts.ready as u64
    }),
    metric(
        "queue_messages_unacked",
        Gauge,
        "Messages delivered and not acknowledged",
        |row| row.moment.counts.unacked as u64,
    ),
    metric("queue_messages", Gauge, "Messages ready or unacknowledged", |row| {
        (row.moment.counts.ready + row.moment.counts.unacked) as u64
    }),
];

static QUEUE_CONSUMERS: [Metric<QueueRow>; 1] = [metric("queue_consumers", Gauge, "Consumers", |row| {
    row.moment.counts.consumers as u64
})];

static QUEUE_CAPACITY: [Metric<QueueRow>; 2] = [
    metric(
        "queue_consumer_capacity",
        Gauge,
        "1 while its consumers take at once what arrives",
        |row| u64::from(row.moment.counts.consumers_keep_up()),
    ),
    metric(
        "queue_consumer_utilisation",
        Gauge,
        "The same as the consumer capacity",
        |row| u64::from(row.moment.counts.consumers_keep_up()),
    ),
];

static QUEUE: [Metric<QueueRow>; 12] = [
    metric(
        "queue_process_memory_bytes",
        Gauge,
        "Memory that its messages take",
        |row| row.moment.counts.memory_bytes,
    ),
    metric(
        "queue_messages_ram",
        Gauge,
        "Ready and unacknowledged messages in memory",
        |row| row.moment.whereabouts.in_memory().messages as u64,
    ),
    metric(
        "queue_messages_ram_bytes",
        Gauge,
        "Bytes of bodies of ready and unacknowledged messages in memory",
        |row| row.moment.whereabouts.in_memory().bytes,
    ),
    metric("queue_messages_ready_ram", Gauge, "Ready messages in memory", |row| {
        row.moment.whereabouts.ready_in_memory.messages as u64
    }),
    metric(
        "queue_messages_unacked_ram",
        Gauge,
        "Unacknowledged messages in memory",
        |row| row.moment.whereabouts.unacked_in_memory.messages as u64,
    ),
    metric(
        "queue_messages_persistent",
        Gauge,
        "Messages that outlive a restart",
        |row| row.moment.whereabouts.persistent.messages as u64,
    ),
    metric(
        "queue_messages_persistent_bytes",
        Gauge,
        "Bytes of bodies of messages that outlive a restart",
        |row| row.moment.whereabouts.persistent.bytes,
    ),
    metric(
        "queue_messages_paged_out",
        Gauge,
        "Ready messages that are on disk only",
        |row| row.moment.whereabouts.paged_out.messages as u64,
    ),
    metric(
        "queue_messages_paged_out_bytes",
        Gauge,
        "Bytes of bodies of ready messages that are on disk only",
        |row| row.moment.whereabouts.paged_out.bytes,
    ),
    metric(
        "queue_messages_bytes",
        Gauge,
        "Bytes of bodies of ready and unacknowledged messages",
        |row| row.moment.counts.ready_bytes + row.moment.counts.unacked_bytes,
    ),
    metric(
        "queue_messages_ready_bytes",
        Gauge,
        "Bytes of bodies of ready messages",
        |row| row.moment.counts.ready_bytes,
    ),
    metric(
        "queue_messages_unacked_bytes",
        Gauge,
        "Bytes of bodies of unacknowledged messages",
        |row| row.moment.counts.unacked_bytes,
    ),
];

static QUEUE_DISK: [Metric<QueueRow>; 2] = [
    metric(
        "queue_disk_reads_total",
        Counter,
        "Messages that the queue read from disk",
        |row| row.moment.totals.disk_reads,
    ),
    metric(
        "queue_disk_writes_total",
        Counter,
        "Messages that the queue wrote to disk",
        |row| row.moment.totals.disk_writes,
    ),
];

const HEAD_TIMESTAMP: Metric<Row> = metric(
    "queue_head_message_timestamp",
    Gauge,
    "Timestamp of the message that leaves next, if it is in memory and has one",
    |row| row.value,
);

static QUEUE_DELIVERY: [Metric<QueueRow>; 7] = [
    metric(
        "queue_get_ack_total",
        Counter,
        "Messages fetched by basic.get with acknowledgement",
        |row| row.moment.totals.got,
    ),
    metric(
        "queue_get_total",
        Counter,
        "Messages fetched by basic.get without acknowledgement",
        |row| row.moment.totals.got_no_ack,
    ),
    metric("queue_get_empty_total", Counter, "basic.get on an empty queue", |row| {
        row.moment.totals.got_nothing
    }),
    metric(
        "queue_messages_delivered_ack_total",
        Counter,
        "Messages delivered to consumers that acknowledge",
        |row| row.moment.totals.delivered,
    ),
    metric(
        "queue_messages_delivered_total",
        Counter,
        "Messages delivered to consumers that do not acknowledge",
        |row| row.moment.totals.delivered_no_ack,
    ),
    metric(
        "queue_messages_redelivered_total",
        Counter,
        "Messages delivered or fetched again",
        |row| row.moment.totals.redelivered,
    ),
    metric(
        "queue_messages_acked_total",
        Counter,
        "Messages acknowledged by consumers",
        |row| row.moment.totals.acked,
    ),
];

static QUEUE_FATE: [Metric<QueueRow>; 6] = [
    metric(
        "queue_messages_published_total",
        Counter,
        "Messages that came in",
        |row| row.moment.totals.published,
    ),
    metric("queue_messages_requeued_total", Counter, "Messages given back", |row| {
        row.moment.totals.requeued
    }),
    metric(
        "queue_messages_rejected_total",
        Counter,
        "Messages given up because consumers rejected them or failed too often",
        |row| row.moment.totals.rejected,
    ),
    metric(
        "queue_messages_expired_total",
        Counter,
        "Messages whose time to live was over",
        |row| row.moment.totals.expired,
    ),
    metric(
        "queue_messages_overflowed_total",
        Counter,
        "Messages that left because the queue was too long",
        |row| row.moment.totals.overflowed,
    ),
    metric("queue_messages_purged_total", Counter, "Messages purged", |row| {
        row.moment.totals.purged
    }),
];

const QUEUE_INFO: Metric<Row> = metric("queue_info", Gauge, "1, with the queue's type", |row| row.value);

/// The gauges that `/metrics` has of all queues together, with their values.
pub fn of_all_queues(sum: QueueMoment) -> impl Iterator<Item = (&'static Metric<QueueRow>, u64)> {
    let row = QueueRow {
        labels: String::new(),
        moment: sum,
    };
    let metrics = QUEUE_COARSE.iter().chain(&QUEUE_CONSUMERS).chain(&QUEUE);
    metrics.map(move |metric| (metric, (metric.value)(&row)))
}

/// Writes the families of queues that are selected.
pub(super) fn queues(vhosts: &[Arc<Vhost>], selection: &Selection, prefix: &str, text: &mut Text) {
    let families = selection.families().iter();
    let tables = families.flat_map(|family| -> Vec<(&str, &[Metric<QueueRow>])> {
        match family {
            Family::QueueCoarse => vec![(prefix, &QUEUE_COARSE)],
            Family::QueueConsumerCount => vec![(prefix, &QUEUE_CONSUMERS)],
            Family::Queue => [&QUEUE_CONSUMERS[..], &QUEUE_CAPACITY, &QUEUE, &QUEUE_DISK]
                .map(|metrics| (prefix, metrics))
                .to_vec(),
            Family::QueueDelivery => vec![(prefix, &QUEUE_DELIVERY)],
            Family::QueueFate => vec![(OWN_PREFIX, &QUEUE_FATE)],
            _ => Vec::new(),
        }
    });
    let tables: Vec<_> = tables.collect();
    if tables.is_empty() {
        return;
    }
    let (mut rows, mut info, mut heads) = (Vec::new(), Vec::new(), Vec::new());
    for vhost in vhosts {
        let mut queues = vhost.queues();
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        for queue in queues {
            let moment = queue.moment();
            let labels = labels(&[("vhost", &queue.vhost), ("queue", &queue.name)]);
            let queue_type = queue.properties.arguments.queue_type.module_name();
            info.push(Row {
                labels: format!("{labels},queue_type=\"{queue_type}\",membership=\"leader\""),
                value: 1,
            });
            heads.extend(moment.head_timestamp().map(|value| Row {
                labels: labels.clone(),
                value,
            }));
            rows.push(QueueRow { labels, moment });
        }
    }
    for (prefix, metrics) in tables {
        for metric in metrics {
            text.write(prefix, metric, &rows, |row| &row.labels);
        }
    }
    if selection.has(Family::Queue) {
        text.write(prefix, &HEAD_TIMESTAMP, &heads, Row::labels);
    }
    text.write(prefix, &QUEUE_INFO, &info, Row::labels);
}
