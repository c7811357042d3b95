//! Counts and the rates beside them.

use serde::Serialize;

use super::{ChannelDetails, ObjectName};
use crate::metrics::{Churn, Depth, Disk, Flow, Octets, Publishes};

/// The rate beside a count.
#[derive(Clone, Copy, Serialize)]
pub struct RateView {
    pub rate: f64,
}

impl From<f64> for RateView {
    fn from(rate: f64) -> RateView {
        RateView { rate }
    }
}

/// What happened to messages, and how fast.
#[derive(Serialize)]
pub struct MessageStats {
    pub ack: u64,
    pub ack_details: RateView,
    pub confirm: u64,
    pub confirm_details: RateView,
    pub deliver: u64,
    pub deliver_details: RateView,
    pub deliver_get: u64,
    pub deliver_get_details: RateView,
    pub deliver_no_ack: u64,
    pub deliver_no_ack_details: RateView,
    #[serde(flatten)]
    pub disk: Option<DiskStats>,
    pub drop_unroutable: u64,
    pub drop_unroutable_details: RateView,
    pub get: u64,
    pub get_details: RateView,
    pub get_empty: u64,
    pub get_empty_details: RateView,
    pub get_no_ack: u64,
    pub get_no_ack_details: RateView,
    pub publish: u64,
    pub publish_details: RateView,
    pub redeliver: u64,
    pub redeliver_details: RateView,
    pub return_unroutable: u64,
    pub return_unroutable_details: RateView,
}

impl MessageStats {
    pub fn new(count: &Flow<u64>, rate: &Flow<f64>) -> MessageStats {
        MessageStats {
            ack: count.ack,
            ack_details: rate.ack.into(),
            confirm: count.confirm,
            confirm_details: rate.confirm.into(),
            deliver: count.deliver,
            deliver_details: rate.deliver.into(),
            deliver_get: count.deliver_get(),
            deliver_get_details: rate.deliver_get().into(),
            deliver_no_ack: count.deliver_no_ack,
            deliver_no_ack_details: rate.deliver_no_ack.into(),
            disk: None,
            drop_unroutable: count.drop_unroutable,
            drop_unroutable_details: rate.drop_unroutable.into(),
            get: count.get,
            get_details: rate.get.into(),
            get_empty: count.get_empty,
            get_empty_details: rate.get_empty.into(),
            get_no_ack: count.get_no_ack,
            get_no_ack_details: rate.get_no_ack.into(),
            publish: count.publish,
            publish_details: rate.publish.into(),
            redeliver: count.redeliver,
            redeliver_details: rate.redeliver.into(),
            return_unroutable: count.return_unroutable,
            return_unroutable_details: rate.return_unroutable.into(),
        }
    }

    /// With what went from and to the disk.
    pub fn with_disk(self, count: &Disk<u64>, rate: &Disk<f64>) -> MessageStats {
        let disk = Some(DiskStats {
            disk_reads: count.reads,
            disk_reads_details: rate.reads.into(),
            disk_writes: count.writes,
            disk_writes_details: rate.writes.into(),
        });
        MessageStats { disk, ..self }
    }

    /// Nothing where nothing ever happened, as RabbitMQ leaves it out.
    pub fn if_any(count: &Flow<u64>, rate: &Flow<f64>) -> Option<MessageStats> {
        (*count != Flow::default()).then(|| MessageStats::new(count, rate))
    }
}

/// Messages that queues read from disk and wrote there, and how fast.
#[derive(Serialize)]
pub struct DiskStats {
    pub disk_reads: u64,
    pub disk_reads_details: RateView,
    pub disk_writes: u64,
    pub disk_writes_details: RateView,
}

/// How much waits in queues, and how fast it grows.
#[derive(Serialize)]
pub struct DepthView {
    pub messages: u64,
    pub messages_details: RateView,
    pub messages_ready: u64,
    pub messages_ready_details: RateView,
    pub messages_unacknowledged: u64,
    pub messages_unacknowledged_details: RateView,
}

impl DepthView {
    pub fn new(count: &Depth<u64>, rate: &Depth<f64>) -> DepthView {
        DepthView {
            messages: count.messages(),
            messages_details: rate.messages().into(),
            messages_ready: count.ready,
            messages_ready_details: rate.ready.into(),
            messages_unacknowledged: count.unacked,
            messages_unacknowledged_details: rate.unacked.into(),
        }
    }
}

/// What came and went, and how fast.
#[derive(Serialize)]
pub struct ChurnView {
    pub channel_closed: u64,
    pub channel_closed_details: RateView,
    pub channel_created: u64,
    pub channel_created_details: RateView,
    pub connection_closed: u64,
    pub connection_closed_details: RateView,
    pub connection_created: u64,
    pub connection_created_details: RateView,
    pub queue_created: u64,
    pub queue_created_details: RateView,
    pub queue_declared: u64,
    pub queue_declared_details: RateView,
    pub queue_deleted: u64,
    pub queue_deleted_details: RateView,
}

impl ChurnView {
    pub fn new(count: &Churn<u64>, rate: &Churn<f64>) -> ChurnView {
        ChurnView {
            channel_closed: count.channel_closed,
            channel_closed_details: rate.channel_closed.into(),
            channel_created: count.channel_created,
            channel_created_details: rate.channel_created.into(),
            connection_closed: count.connection_closed,
            connection_closed_details: rate.connection_closed.into(),
            connection_created: count.connection_created,
            connection_created_details: rate.connection_created.into(),
            queue_created: count.queue_created,
            queue_created_details: rate.queue_created.into(),
            queue_declared: count.queue_declared,
            queue_declared_details: rate.queue_declared.into(),
            queue_deleted: count.queue_deleted,
            queue_deleted_details: rate.queue_deleted.into(),
        }
    }
}

/// What is published to an exchange, and how fast.
#[derive(Serialize)]
pub struct ExchangeStats {
    pub publish_in: u64,
    pub publish_in_details: RateView,
    pub publish_out: u64,
    pub publish_out_details: RateView,
    pub confirm: u64,
    pub confirm_details: RateView,
    pub return_unroutable: u64,
    pub return_unroutable_details: RateView,
    pub drop_unroutable: u64,
    pub drop_unroutable_details: RateView,
}

impl ExchangeStats {
    pub fn new(count: &Publishes<u64>, rate: &Publishes<f64>) -> ExchangeStats {
        ExchangeStats {
            publish_in: count.received,
            publish_in_details: rate.received.into(),
            publish_out: count.routed,
            publish_out_details: rate.routed.into(),
            confirm: count.confirmed,
            confirm_details: rate.confirmed.into(),
            return_unroutable: count.returned,
            return_unroutable_details: rate.returned.into(),
            drop_unroutable: count.dropped,
            drop_unroutable_details: rate.dropped.into(),
        }
    }
}

/// What passes through sockets, and how fast.
#[derive(Serialize)]
pub struct OctetSums {
    pub recv_oct: u64,
    pub recv_oct_details: RateView,
    pub send_oct: u64,
    pub send_oct_details: RateView,
}

impl OctetSums {
    pub fn new(octets: Octets<u64>, rates: Octets<f64>) -> OctetSums {
        OctetSums {
            recv_oct: octets.received,
            recv_oct_details: rates.received.into(),
            send_oct: octets.sent,
            send_oct_details: rates.sent.into(),
        }
    }
}

/// What passes through a connection's socket.
#[derive(Serialize)]
pub struct OctetsView {
    #[serde(flatten)]
    pub octets: OctetSums,
    pub recv_cnt: u64,
    pub send_cnt: u64,
    pub send_pend: usize,
}

impl OctetsView {
    pub fn new(octets: Octets<u64>, packets: Octets<u64>, rates: Octets<f64>, waiting: usize) -> OctetsView {
        OctetsView {
            octets: OctetSums::new(octets, rates),
            recv_cnt: packets.received,
            send_cnt: packets.sent,
            send_pend: waiting,
        }
    }
}

/// What a channel published to one exchange.
#[derive(Serialize)]
pub struct ChannelPublishes {
    pub exchange: ObjectName,
    pub stats: PublishCounts,
}

/// What a channel got from one queue.
#[derive(Serialize)]
pub struct ChannelDeliveriesView {
    pub queue: ObjectName,
    pub stats: DeliveryCounts,
}

/// What one channel got from a queue.
#[derive(Serialize)]
pub struct QueueDeliveriesView {
    pub channel_details: ChannelDetails,
    pub stats: DeliveryCounts,
}

/// What one channel published to an exchange.
#[derive(Serialize)]
pub struct ExchangePublishesView {
    pub channel_details: ChannelDetails,
    pub stats: PublishCounts,
}

/// What went from an exchange to one queue.
#[derive(Serialize)]
pub struct OutgoingView {
    pub queue: ObjectName,
    pub stats: PublishCount,
}

/// What came to a queue from one exchange.
#[derive(Serialize)]
pub struct IncomingView {
    pub exchange: ObjectName,
    pub stats: PublishCount,
}

/// A count alone.
#[derive(Serialize)]
pub struct PublishCount {
    pub publish: u64,
}

/// Counts of deliveries alone.
#[derive(Serialize)]
pub struct DeliveryCounts {
    pub ack: u64,
    pub deliver: u64,
    pub deliver_get: u64,
    pub deliver_no_ack: u64,
    pub get: u64,
    pub get_empty: u64,
    pub get_no_ack: u64,
    pub redeliver: u64,
}

impl From<Flow<u64>> for DeliveryCounts {
    fn from(count: Flow<u64>) -> DeliveryCounts {
        DeliveryCounts {
            ack: count.ack,
            deliver: count.deliver,
            deliver_get: count.deliver_get(),
            deliver_no_ack: count.deliver_no_ack,
            get: count.get,
            get_empty: count.get_empty,
            get_no_ack: count.get_no_ack,
            redeliver: count.redeliver,
        }
    }
}

impl From<Publishes<u64>> for PublishCounts {
    fn from(count: Publishes<u64>) -> PublishCounts {
        PublishCounts {
            publish: count.received,
            confirm: count.confirmed,
            return_unroutable: count.returned,
            drop_unroutable: count.dropped,
        }
    }
}

/// Counts alone.
#[derive(Serialize)]
pub struct PublishCounts {
    pub publish: u64,
    pub confirm: u64,
    pub return_unroutable: u64,
    pub drop_unroutable: u64,
}
