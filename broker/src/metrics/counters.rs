//! What the broker counts, under RabbitMQ's names.
//!
//! Counters are plain atomics and are raised once per batch, never once per message.

use crate::protocol::death::DeathReason;
use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

const PROTOCOL: &str = "amqp091";
const QUEUE_TYPE: &str = "rabbit_classic_queue";
/// What every queue does here, whatever strategy it was declared with.
const DEAD_LETTER_STRATEGY: &str = "at_least_once";
/// Bounds of `rabbitmq_message_size_bytes`, as the RabbitMQ dashboards expect them.
const MESSAGE_SIZE_BOUNDS_BYTES: [f64; 8] = [100.0, 1e3, 1e4, 1e5, 1e6, 1e7, 5e7, 1e8];

/// Counters of the whole broker.
pub struct Counters {
    /// `rabbitmq_connections_opened_total`
    pub connections_opened: IntCounter,
    /// `rabbitmq_connections_closed_total`
    pub connections_closed: IntCounter,
    /// `rabbitmq_channels_opened_total`
    pub channels_opened: IntCounter,
    /// `rabbitmq_channels_closed_total`
    pub channels_closed: IntCounter,
    /// `rabbitmq_queues_declared_total`: declarations that succeeded, of new and existing queues
    pub queues_declared: IntCounter,
    /// `rabbitmq_queues_created_total`
    pub queues_created: IntCounter,
    /// `rabbitmq_queues_deleted_total`
    pub queues_deleted: IntCounter,
    /// `rabbitmq_global_messages_received_total`
    pub received: IntCounter,
    /// `rabbitmq_global_messages_received_confirm_total`: received on channels in confirm mode
    pub received_confirm: IntCounter,
    /// `rabbitmq_global_messages_confirmed_total`
    pub confirmed: IntCounter,
    /// `rabbitmq_global_messages_routed_total`: once per queue
    pub routed: IntCounter,
    /// `rabbitmq_global_messages_unroutable_dropped_total`
    pub unroutable_dropped: IntCounter,
    /// `rabbitmq_global_messages_unroutable_returned_total`
    pub unroutable_returned: IntCounter,
    /// `rabbitmq_global_messages_acknowledged_total`
    pub acknowledged: IntCounter,
    /// `rabbitmq_global_messages_redelivered_total`
    pub redelivered: IntCounter,
    /// `rabbitmq_global_messages_delivered_total`: to consumers and by get
    pub delivered_total: IntCounter,
    /// `rabbitmq_global_messages_delivered_consume_manual_ack_total`
    pub delivered_consume_manual_ack: IntCounter,
    /// `rabbitmq_global_messages_delivered_consume_auto_ack_total`
    pub delivered_consume_auto_ack: IntCounter,
    /// `rabbitmq_global_messages_delivered_get_manual_ack_total`
    pub delivered_get_manual_ack: IntCounter,
    /// `rabbitmq_global_messages_delivered_get_auto_ack_total`
    pub delivered_get_auto_ack: IntCounter,
    /// `rabbitmq_global_messages_get_empty_total`
    pub get_empty: IntCounter,
    /// What queues with a dead-letter exchange gave up.
    pub dead_letters: DeadLetters,
    /// `leveret_messages_deduplicated_total`
    pub deduplicated: IntCounter,
    /// `leveret_redeclarations_differing_total`
    pub redeclared_differently: RedeclaredDifferently,
    /// `rabbitmq_queue_disk_reads_total`: messages that queues read
    pub disk_reads: IntCounter,
    /// `rabbitmq_queue_disk_writes_total`: messages that queues stored
    pub disk_writes: IntCounter,
    /// Logins over AMQP.
    pub amqp_logins: LoginAttempts,
    /// Logins to the API and to the metrics.
    pub http_logins: LoginAttempts,
    /// `rabbitmq_message_size_bytes`
    pub message_size_bytes: Histogram,
}

/// Declarations that differ from what is there, by what became of them.
pub struct RedeclaredDifferently {
    /// Answered with 406.
    pub refused: IntCounter,
    /// Answered as if there were no difference.
    pub accepted: IntCounter,
    /// What is there became what was asked for.
    pub adopted: IntCounter,
}

impl RedeclaredDifferently {
    fn new(registry: &Registry) -> Result<RedeclaredDifferently, prometheus::Error> {
        let opts = Opts::new(
            "leveret_redeclarations_differing_total",
            "Declarations of queues and exchanges that differ from what is there",
        );
        let family = register(registry, IntCounterVec::new(opts, &["outcome"])?)?;
        let counter = |outcome: &str| family.with_label_values(&[outcome]);
        Ok(RedeclaredDifferently {
            refused: counter("refused"),
            accepted: counter("accepted"),
            adopted: counter("adopted"),
        })
    }
}

/// What queues with a dead-letter exchange gave up.
pub struct DeadLetters {
    /// `rabbitmq_global_messages_dead_lettered_rejected_total`, and so on for each reason
    given_up: [(DeathReason, IntCounter); 4],
    /// `rabbitmq_global_messages_dead_lettered_confirmed_total`: of these, what a queue took
    pub confirmed: IntCounter,
}

impl DeadLetters {
    fn new(registry: &Registry) -> Result<DeadLetters, prometheus::Error> {
        let dead = |name: &str, help: &str| {
            let labels = [
                ("queue_type", QUEUE_TYPE),
                ("dead_letter_strategy", DEAD_LETTER_STRATEGY),
            ];
            let name = format!("messages_dead_lettered_{name}_total");
            labelled(registry, &name, help, &labels)
        };
        let dead_for = |name: &str, reason: DeathReason, help: &str| dead(name, help).map(|counter| (reason, counter));
        Ok(DeadLetters {
            given_up: [
                dead_for(
                    "rejected",
                    DeathReason::Rejected,
                    "Messages dead-lettered because they were rejected",
                )?,
                dead_for(
                    "expired",
                    DeathReason::Expired,
                    "Messages dead-lettered because their time was over",
                )?,
                dead_for(
                    "maxlen",
                    DeathReason::MaxLength,
                    "Messages dead-lettered because their queue was full",
                )?,
                dead_for(
                    "delivery_limit",
                    DeathReason::DeliveryLimit,
                    "Messages dead-lettered because they were delivered in vain too often",
                )?,
            ],
            confirmed: dead("confirmed", "Dead-lettered messages that a queue took")?,
        })
    }
}

/// Logins over one protocol.
pub struct LoginAttempts {
    all: IntCounter,
    failed: IntCounter,
    succeeded: IntCounter,
}

impl LoginAttempts {
    /// Counts one.
    pub fn count(&self, succeeded: bool) {
        self.all.inc();
        match succeeded {
            true => self.succeeded.inc(),
            false => self.failed.inc(),
        }
    }

    /// Those that were refused.
    pub fn failed(&self) -> u64 {
        self.failed.get()
    }

    /// Those that were let in.
    pub fn succeeded(&self) -> u64 {
        self.succeeded.get()
    }

    /// Begins anew.
    pub fn forget(&self) {
        for counter in [&self.all, &self.failed, &self.succeeded] {
            counter.reset();
        }
    }
}

/// `rabbitmq_auth_attempts_total`, `..._failed_total` and `..._succeeded_total`, by protocol.
struct LoginFamilies {
    all: IntCounterVec,
    failed: IntCounterVec,
    succeeded: IntCounterVec,
}

impl LoginFamilies {
    fn new(registry: &Registry) -> Result<LoginFamilies, prometheus::Error> {
        let family = |name: &str, help: &str| {
            let opts = Opts::new(format!("rabbitmq_{name}"), help);
            register(registry, IntCounterVec::new(opts, &["protocol"])?)
        };
        Ok(LoginFamilies {
            all: family("auth_attempts_total", "Logins")?,
            failed: family("auth_attempts_failed_total", "Failed logins")?,
            succeeded: family("auth_attempts_succeeded_total", "Successful logins")?,
        })
    }

    fn of(&self, protocol: &str) -> LoginAttempts {
        LoginAttempts {
            all: self.all.with_label_values(&[protocol]),
            failed: self.failed.with_label_values(&[protocol]),
            succeeded: self.succeeded.with_label_values(&[protocol]),
        }
    }
}

impl Counters {
    /// Makes all counters and enters them into `registry`.
    pub fn new(registry: &Registry) -> Result<Counters, prometheus::Error> {
        let plain = |name: &str, help: &str| register(registry, IntCounter::new(format!("rabbitmq_{name}"), help)?);
        let protocol = |name: &str, help: &str| labelled(registry, name, help, &[("protocol", PROTOCOL)]);
        let queue = |name: &str, help: &str| {
            labelled(
                registry,
                name,
                help,
                &[("protocol", PROTOCOL), ("queue_type", QUEUE_TYPE)],
            )
        };
        let logins = LoginFamilies::new(registry)?;
        let size = HistogramOpts::new("rabbitmq_message_size_bytes", "Size of published message bodies")
            .buckets(MESSAGE_SIZE_BOUNDS_BYTES.to_vec())
            .const_label("protocol", PROTOCOL);
        Ok(Counters {
            connections_opened: plain("connections_opened_total", "Connections opened")?,
            connections_closed: plain("connections_closed_total", "Connections closed")?,
            channels_opened: plain("channels_opened_total", "Channels opened")?,
            channels_closed: plain("channels_closed_total", "Channels closed")?,
            queues_declared: plain("queues_declared_total", "Queues declared")?,
            queues_created: plain("queues_created_total", "Queues created")?,
            queues_deleted: plain("queues_deleted_total", "Queues deleted")?,
            received: protocol("messages_received_total", "Messages received from publishers")?,
            received_confirm: protocol(
                "messages_received_confirm_total",
                "Messages received from publishers that asked for confirms",
            )?,
            confirmed: protocol("messages_confirmed_total", "Messages confirmed to publishers")?,
            routed: protocol("messages_routed_total", "Messages routed, once per queue")?,
            unroutable_dropped: protocol("messages_unroutable_dropped_total", "Unroutable messages dropped")?,
            unroutable_returned: protocol(
                "messages_unroutable_returned_total",
                "Unroutable messages returned to their publishers",
            )?,
            acknowledged: queue("messages_acknowledged_total", "Messages acknowledged by consumers")?,
            redelivered: queue("messages_redelivered_total", "Messages delivered again")?,
            delivered_total: queue("messages_delivered_total", "Messages delivered to consumers")?,
            delivered_consume_manual_ack: queue(
                "messages_delivered_consume_manual_ack_total",
                "Messages delivered to consumers that acknowledge",
            )?,
            delivered_consume_auto_ack: queue(
                "messages_delivered_consume_auto_ack_total",
                "Messages delivered to consumers that do not acknowledge",
            )?,
            delivered_get_manual_ack: queue(
                "messages_delivered_get_manual_ack_total",
                "Messages fetched by basic.get with acknowledgement",
            )?,
            delivered_get_auto_ack: queue(
                "messages_delivered_get_auto_ack_total",
                "Messages fetched by basic.get without acknowledgement",
            )?,
            get_empty: queue("messages_get_empty_total", "basic.get on an empty queue")?,
            dead_letters: DeadLetters::new(registry)?,
            deduplicated: register(
                registry,
                IntCounter::new(
                    "leveret_messages_deduplicated_total",
                    "Messages that an exchange or a queue did not take because they are duplicates",
                )?,
            )?,
            redeclared_differently: RedeclaredDifferently::new(registry)?,
            disk_reads: plain("queue_disk_reads_total", "Messages that queues read from disk")?,
            disk_writes: plain("queue_disk_writes_total", "Messages that queues wrote to disk")?,
            amqp_logins: logins.of(PROTOCOL),
            http_logins: logins.of("http"),
            message_size_bytes: register(registry, Histogram::with_opts(size)?)?,
        })
    }

    /// Counts one message fetched by `basic.get`.
    pub fn got(&self, no_ack: bool, redelivered: bool) {
        let counter = if no_ack {
            &self.delivered_get_auto_ack
        } else {
            &self.delivered_get_manual_ack
        };
        counter.inc();
        self.delivered_total.inc();
        if redelivered {
            self.redelivered.inc();
        }
    }

    /// Counts one message that a queue with a dead-letter exchange gave up.
    pub fn dead_lettered(&self, reason: DeathReason) {
        let mut counters = self.dead_letters.given_up.iter();
        if let Some((_, counter)) = counters.find(|(of, _)| *of == reason) {
            counter.inc();
        }
    }

    /// Counts one batch of deliveries to consumers.
    pub fn delivered(&self, manual_ack: u64, auto_ack: u64, redelivered: u64) {
        if manual_ack > 0 {
            self.delivered_consume_manual_ack.inc_by(manual_ack);
        }
        if auto_ack > 0 {
            self.delivered_consume_auto_ack.inc_by(auto_ack);
        }
        if manual_ack + auto_ack > 0 {
            self.delivered_total.inc_by(manual_ack + auto_ack);
        }
        if redelivered > 0 {
            self.redelivered.inc_by(redelivered);
        }
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn labelled(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[(&str, &str)],
) -> Result<IntCounter, prometheus::Error> {
    let names: Vec<&str> = labels.iter().map(|(name, _)| *name).collect();
    let values: Vec<&str> = labels.iter().map(|(_, value)| *value).collect();
    let opts = Opts::new(format!("rabbitmq_global_{name}"), help);
    let family = register(registry, IntCounterVec::new(opts, &names)?)?;
    Ok(family.with_label_values(&values))
}
