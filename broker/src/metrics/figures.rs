//! What can be counted of the whole broker or of a part of it, once as counts and once as rates.

use std::ops::AddAssign;

use prometheus::IntCounter;

use super::Counters;
use crate::queue::{Counts, Totals};

/// Something that only grows, or a length.
pub trait Counted: Copy + Default + PartialEq {
    /// How fast it grows.
    type Rates: Copy + Default + PartialEq;

    /// What it grew by in a second since it was `before`.
    fn since(self, before: Self, seconds: f64) -> Self::Rates;
}

/// How fast a count grew between the last two looks at it; kept beside the count.
#[derive(Default)]
pub struct Trend<C: Counted> {
    seen: C,
    /// As of the last look.
    pub rates: C::Rates,
}

impl<C: Counted> Trend<C> {
    /// Looks at the count, so many seconds after the last time.
    pub fn look(&mut self, now: C, seconds: f64) {
        self.rates = now.since(self.seen, seconds);
        self.seen = now;
    }

    /// Would another look change nothing?
    pub fn is_still(&self, now: C) -> bool {
        self.seen == now && self.rates == C::Rates::default()
    }
}

/// What happens to messages: counts, or what they grow by in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flow<T> {
    pub publish: T,
    pub confirm: T,
    pub return_unroutable: T,
    pub drop_unroutable: T,
    pub deliver: T,
    pub deliver_no_ack: T,
    pub get: T,
    pub get_no_ack: T,
    pub get_empty: T,
    pub ack: T,
    pub redeliver: T,
}

/// What becomes of messages that are published to an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Publishes<T> {
    /// Messages that came.
    pub received: T,
    /// Messages that went on, once per queue.
    pub routed: T,
    /// Messages that no queue took and their publisher got back.
    pub returned: T,
    /// Messages that no queue took and nobody heard of.
    pub dropped: T,
    /// Messages that were confirmed.
    pub confirmed: T,
}

/// What passes through a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Octets<T> {
    /// From the client.
    pub received: T,
    /// To the client.
    pub sent: T,
}

/// What comes and goes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Churn<T> {
    pub connection_created: T,
    pub connection_closed: T,
    pub channel_created: T,
    pub channel_closed: T,
    pub queue_declared: T,
    pub queue_created: T,
    pub queue_deleted: T,
}

/// Messages that pass between queues and the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Disk<T> {
    pub reads: T,
    pub writes: T,
}

/// How much is in queues.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Depth<T> {
    /// Ready messages.
    pub ready: T,
    /// Messages out for acknowledgement.
    pub unacked: T,
}

impl Flow<u64> {
    /// Of the whole broker since it started.
    pub fn of_broker(counters: &Counters) -> Flow<u64> {
        let deliver = &counters.delivered_consume_manual_ack;
        Flow {
            publish: counters.received.get(),
            confirm: counters.confirmed.get(),
            return_unroutable: counters.unroutable_returned.get(),
            drop_unroutable: counters.unroutable_dropped.get(),
            deliver: deliver.get(),
            deliver_no_ack: counters.delivered_consume_auto_ack.get(),
            get: counters.delivered_get_manual_ack.get(),
            get_no_ack: counters.delivered_get_auto_ack.get(),
            get_empty: counters.get_empty.get(),
            ack: counters.acknowledged.get(),
            redeliver: counters.redelivered.get(),
        }
    }

    /// Of one queue since it was made or recovered.
    pub fn of_queue(totals: &Totals) -> Flow<u64> {
        Flow {
            publish: totals.published,
            deliver: totals.delivered,
            deliver_no_ack: totals.delivered_no_ack,
            get: totals.got,
            get_no_ack: totals.got_no_ack,
            get_empty: totals.got_nothing,
            ack: totals.acked,
            redeliver: totals.redelivered,
            ..Flow::default()
        }
    }
}

impl<T: Copy + std::ops::Add<Output = T>> Flow<T> {
    /// All that went out, as RabbitMQ adds it up.
    pub fn deliver_get(&self) -> T {
        self.deliver + self.deliver_no_ack + self.get + self.get_no_ack
    }

    /// Both together.
    pub fn plus(self, other: Flow<T>) -> Flow<T> {
        Flow {
            publish: self.publish + other.publish,
            confirm: self.confirm + other.confirm,
            return_unroutable: self.return_unroutable + other.return_unroutable,
            drop_unroutable: self.drop_unroutable + other.drop_unroutable,
            deliver: self.deliver + other.deliver,
            deliver_no_ack: self.deliver_no_ack + other.deliver_no_ack,
            get: self.get + other.get,
            get_no_ack: self.get_no_ack + other.get_no_ack,
            get_empty: self.get_empty + other.get_empty,
            ack: self.ack + other.ack,
            redeliver: self.redeliver + other.redeliver,
        }
    }
}

impl Churn<u64> {
    /// Since the broker started.
    pub fn of_broker(counters: &Counters) -> Churn<u64> {
        let count = IntCounter::get;
        Churn {
            connection_created: count(&counters.connections_opened),
            connection_closed: count(&counters.connections_closed),
            channel_created: count(&counters.channels_opened),
            channel_closed: count(&counters.channels_closed),
            queue_declared: count(&counters.queues_declared),
            queue_created: count(&counters.queues_created),
            queue_deleted: count(&counters.queues_deleted),
        }
    }
}

impl<T: Copy + std::ops::Add<Output = T>> Depth<T> {
    /// Both together.
    pub fn plus(self, other: Depth<T>) -> Depth<T> {
        Depth {
            ready: self.ready + other.ready,
            unacked: self.unacked + other.unacked,
        }
    }

    /// Ready or not.
    pub fn messages(&self) -> T {
        self.ready + self.unacked
    }
}

impl Depth<u64> {
    /// Of one queue.
    pub fn of_queue(counts: &Counts) -> Depth<u64> {
        Depth {
            ready: counts.ready as u64,
            unacked: counts.unacked as u64,
        }
    }
}

impl Counted for Flow<u64> {
    type Rates = Flow<f64>;

    fn since(self, before: Flow<u64>, seconds: f64) -> Flow<f64> {
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        Flow {
            publish: rate(self.publish, before.publish),
            confirm: rate(self.confirm, before.confirm),
            return_unroutable: rate(self.return_unroutable, before.return_unroutable),
            drop_unroutable: rate(self.drop_unroutable, before.drop_unroutable),
            deliver: rate(self.deliver, before.deliver),
            deliver_no_ack: rate(self.deliver_no_ack, before.deliver_no_ack),
            get: rate(self.get, before.get),
            get_no_ack: rate(self.get_no_ack, before.get_no_ack),
            get_empty: rate(self.get_empty, before.get_empty),
            ack: rate(self.ack, before.ack),
            redeliver: rate(self.redeliver, before.redeliver),
        }
    }
}

impl Disk<u64> {
    /// Of the whole broker since it started.
    pub fn of_broker(counters: &Counters) -> Disk<u64> {
        Disk {
            reads: counters.disk_reads.get(),
            writes: counters.disk_writes.get(),
        }
    }

    /// Of one queue since it was made or recovered.
    pub fn of_queue(totals: &Totals) -> Disk<u64> {
        Disk {
            reads: totals.disk_reads,
            writes: totals.disk_writes,
        }
    }
}

impl<T: Copy + std::ops::Add<Output = T>> Disk<T> {
    /// Both together.
    pub fn plus(self, other: Disk<T>) -> Disk<T> {
        Disk {
            reads: self.reads + other.reads,
            writes: self.writes + other.writes,
        }
    }
}

impl Counted for Disk<u64> {
    type Rates = Disk<f64>;

    fn since(self, before: Disk<u64>, seconds: f64) -> Disk<f64> {
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        Disk {
            reads: rate(self.reads, before.reads),
            writes: rate(self.writes, before.writes),
        }
    }
}

impl Counted for Churn<u64> {
    type Rates = Churn<f64>;

    fn since(self, before: Churn<u64>, seconds: f64) -> Churn<f64> {
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        Churn {
            connection_created: rate(self.connection_created, before.connection_created),
            connection_closed: rate(self.connection_closed, before.connection_closed),
            channel_created: rate(self.channel_created, before.channel_created),
            channel_closed: rate(self.channel_closed, before.channel_closed),
            queue_declared: rate(self.queue_declared, before.queue_declared),
            queue_created: rate(self.queue_created, before.queue_created),
            queue_deleted: rate(self.queue_deleted, before.queue_deleted),
        }
    }
}

impl Counted for Depth<u64> {
    type Rates = Depth<f64>;

    /// A length may shrink, too.
    fn since(self, before: Depth<u64>, seconds: f64) -> Depth<f64> {
        let rate = |now: u64, then: u64| (now as f64 - then as f64) / seconds;
        Depth {
            ready: rate(self.ready, before.ready),
            unacked: rate(self.unacked, before.unacked),
        }
    }
}

impl Publishes<u64> {
    /// What came on top of `before`.
    pub fn beyond(self, before: Publishes<u64>) -> Publishes<u64> {
        Publishes {
            received: self.received - before.received,
            routed: self.routed - before.routed,
            returned: self.returned - before.returned,
            dropped: self.dropped - before.dropped,
            confirmed: self.confirmed - before.confirmed,
        }
    }

    /// Counts more.
    pub fn add(&mut self, more: Publishes<u64>) {
        self.received += more.received;
        self.routed += more.routed;
        self.returned += more.returned;
        self.dropped += more.dropped;
        self.confirmed += more.confirmed;
    }
}

impl Counted for Publishes<u64> {
    type Rates = Publishes<f64>;

    fn since(self, before: Publishes<u64>, seconds: f64) -> Publishes<f64> {
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        Publishes {
            received: rate(self.received, before.received),
            routed: rate(self.routed, before.routed),
            returned: rate(self.returned, before.returned),
            dropped: rate(self.dropped, before.dropped),
            confirmed: rate(self.confirmed, before.confirmed),
        }
    }
}

impl<T: AddAssign> Octets<T> {
    /// Counts more.
    pub fn add(&mut self, more: Octets<T>) {
        self.received += more.received;
        self.sent += more.sent;
    }
}

impl Counted for Octets<u64> {
    type Rates = Octets<f64>;

    fn since(self, before: Octets<u64>, seconds: f64) -> Octets<f64> {
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        Octets {
            received: rate(self.received, before.received),
            sent: rate(self.sent, before.sent),
        }
    }
}
