//! What is told of connections and channels.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{PublishRow, Row, metric};
use crate::broker::{Broker, ConnectionInfo};
use crate::metrics::families::{Family, Selection};
use crate::metrics::text::Kind::{Counter, Gauge};
use crate::metrics::text::{Metric, Text, labels};
use crate::metrics::{Flow, Octets};
use crate::session::outbox::ChannelSummary;

/// A channel at one moment.
struct ChannelRow {
    labels: String,
    channel: ChannelSummary,
}

/// What a channel got from one queue.
struct DeliveryRow {
    labels: String,
    flow: Flow<u64>,
}

const CHANNEL: [Metric<ChannelRow>; 7] = [
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
        "channel_messages_uncommitted",
        Gauge,
        "Publishes that wait for tx.commit",
        |row| row.channel.shown.uncommitted(|waiting| &waiting.publishes),
    ),
    metric(
        "channel_acks_uncommitted",
        Gauge,
        "Acknowledgements that wait for tx.commit",
        |row| row.channel.shown.uncommitted(|waiting| &waiting.settlements),
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

const CHANNEL_QUEUE: [Metric<DeliveryRow>; 7] = [
    metric(
        "channel_get_ack_total",
        Counter,
        "Messages fetched by basic.get with acknowledgement",
        |row| row.flow.get,
    ),
    metric(
        "channel_get_total",
        Counter,
        "Messages fetched by basic.get without acknowledgement",
        |row| row.flow.get_no_ack,
    ),
    metric(
        "channel_messages_delivered_ack_total",
        Counter,
        "Messages delivered to consumers that acknowledge",
        |row| row.flow.deliver,
    ),
    metric(
        "channel_messages_delivered_total",
        Counter,
        "Messages delivered to consumers that do not acknowledge",
        |row| row.flow.deliver_no_ack,
    ),
    metric(
        "channel_messages_redelivered_total",
        Counter,
        "Messages delivered or fetched again",
        |row| row.flow.redeliver,
    ),
    metric(
        "channel_messages_acked_total",
        Counter,
        "Messages acknowledged",
        |row| row.flow.ack,
    ),
    metric(
        "channel_get_empty_total",
        Counter,
        "basic.get on an empty queue",
        |row| row.flow.get_empty,
    ),
];

const CHANNEL_QUEUE_EXCHANGE: Metric<Row> = metric(
    "queue_messages_published_total",
    Counter,
    "Messages published into a queue through an exchange on a channel",
    |row| row.value,
);

const CHANNEL_EXCHANGE: [Metric<PublishRow>; 4] = [
    metric(
        "channel_messages_published_total",
        Counter,
        "Messages published into an exchange on a channel",
        |row| row.published.received,
    ),
    metric(
        "channel_messages_confirmed_total",
        Counter,
        "Messages published into an exchange and confirmed on a channel",
        |row| row.published.confirmed,
    ),
    metric(
        "channel_messages_unroutable_returned_total",
        Counter,
        "Messages that no queue took and their publisher got back",
        |row| row.published.returned,
    ),
    metric(
        "channel_messages_unroutable_dropped_total",
        Counter,
        "Messages that no queue took",
        |row| row.published.dropped,
    ),
];

/// A connection at one moment.
struct ConnectionRow {
    labels: String,
    octets: Octets<u64>,
    packets: Octets<u64>,
    waiting: usize,
    channels: u16,
}

const CONNECTION: [Metric<ConnectionRow>; 4] = [
    metric(
        "connection_incoming_packets_total",
        Counter,
        "Reads from the socket",
        |row| row.packets.received,
    ),
    metric(
        "connection_outgoing_packets_total",
        Counter,
        "Writes to the socket",
        |row| row.packets.sent,
    ),
    metric(
        "connection_pending_packets",
        Gauge,
        "1 while octets wait for the socket",
        |row| u64::from(row.waiting > 0),
    ),
    metric("connection_channels", Gauge, "Open channels", |row| row.channels.into()),
];

const CONNECTION_COARSE: [Metric<ConnectionRow>; 2] = [
    metric("connection_incoming_bytes_total", Counter, "Octets received", |row| {
        row.octets.received
    }),
    metric("connection_outgoing_bytes_total", Counter, "Octets sent", |row| {
        row.octets.sent
    }),
];

/// Writes the families of channels that are selected.
pub(super) fn channels(broker: &Broker, selection: &Selection, prefix: &str, text: &mut Text) {
    let of_channels = [
        Family::Channel,
        Family::ChannelQueue,
        Family::ChannelExchange,
        Family::ChannelQueueExchange,
    ];
    if !of_channels.iter().any(|family| selection.has(*family)) {
        return;
    }
    let (mut rows, mut publishes, mut deliveries, mut routed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for info in broker.connections() {
        let vhost = info.vhost();
        let outbox = info.outbox.lock();
        for channel in outbox.channel_summaries() {
            let name = info.channel_name(channel.number);
            publishes.extend(
                outbox
                    .published_by(channel.number)
                    .iter()
                    .map(|(exchange, published)| PublishRow {
                        labels: labels(&[("channel", &name), ("vhost", &vhost), ("exchange", &exchange.name)]),
                        published: *published,
                    }),
            );
            if selection.has(Family::ChannelQueue) {
                let got = outbox.got_by(channel.number).into_iter();
                deliveries.extend(got.map(|(queue, flow)| DeliveryRow {
                    labels: labels(&[("channel", &name), ("vhost", &vhost), ("queue", &queue.name)]),
                    flow,
                }));
            }
            if selection.has(Family::ChannelQueueExchange) {
                let counted = outbox.routed_by(channel.number).into_iter();
                routed.extend(counted.map(|more| {
                    let (exchange, queue) = (&more.exchange.name, &more.queue.name);
                    let queue = [("queue_vhost", &*vhost), ("queue", queue)];
                    let exchange = [("exchange_vhost", &*vhost), ("exchange", exchange)];
                    Row::of(&[&[("channel", &*name)][..], &queue, &exchange].concat(), more.count)
                }));
            }
            let labels = labels(&[("channel", &name)]);
            rows.push(ChannelRow { labels, channel });
        }
    }
    if selection.has(Family::Channel) {
        for metric in &CHANNEL {
            text.write(prefix, metric, &rows, |row| &row.labels);
        }
    }
    if selection.has(Family::ChannelQueueExchange) {
        text.write(prefix, &CHANNEL_QUEUE_EXCHANGE, &routed, Row::labels);
    }
    if selection.has(Family::ChannelQueue) {
        for metric in &CHANNEL_QUEUE {
            text.write(prefix, metric, &deliveries, |row| &row.labels);
        }
    }
    if selection.has(Family::ChannelExchange) {
        for metric in &CHANNEL_EXCHANGE {
            text.write(prefix, metric, &publishes, |row| &row.labels);
        }
    }
}

/// Writes the families of connections that are selected.
pub(super) fn connections(broker: &Broker, selection: &Selection, prefix: &str, text: &mut Text) {
    let tables: [(Family, &[Metric<ConnectionRow>]); 2] = [
        (Family::Connection, &CONNECTION),
        (Family::ConnectionCoarse, &CONNECTION_COARSE),
    ];
    if tables.iter().all(|(family, _)| !selection.has(*family)) {
        return;
    }
    let row = |info: &Arc<ConnectionInfo>| ConnectionRow {
        labels: labels(&[("connection", &info.name)]),
        octets: info.socket.octets(),
        packets: info.socket.packets(),
        waiting: info.outbox.lock().bytes_waiting(),
        channels: info.channels(),
    };
    let rows: Vec<ConnectionRow> = broker.connections().iter().map(row).collect();
    for (_, metrics) in tables.iter().filter(|(family, _)| selection.has(*family)) {
        for metric in *metrics {
            text.write(prefix, metric, &rows, |row| &row.labels);
        }
    }
}
