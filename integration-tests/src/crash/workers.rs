//! Clients that work until their broker dies, and write down what they asked for and what they were told.

use super::Findings;
use super::ledger::{QueueLedger, body_of, number, number_of};
use super::life::declare_queue;
use crate::client::{text, try_connect};
use crate::random::Random;
use futures_lite::StreamExt;
use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ExchangeKind, PublisherConfirm};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many publishes may wait for their confirms.
const WINDOW_MESSAGES: usize = 100;
const BURST_MESSAGES: usize = 500;
/// A consumer with nothing to do looks whether it should go.
pub const CONSUMER_PATIENCE: Duration = Duration::from_millis(100);

/// Where messages go, and the queues that get each of them.
pub struct Target<'a> {
    pub exchange: &'a str,
    pub routing_key: &'a str,
    pub queues: &'a [&'a Mutex<QueueLedger>],
    /// What a message has besides being persistent.
    pub properties: fn(u64) -> BasicProperties,
}

impl<'a> Target<'a> {
    /// An exchange, with plain messages.
    pub fn exchange(exchange: &'a str, routing_key: &'a str, queues: &'a [&'a Mutex<QueueLedger>]) -> Self {
        Self {
            exchange,
            routing_key,
            queues,
            properties: |_| BasicProperties::default(),
        }
    }

    /// A queue by its name, with plain messages. Others may get them from there.
    pub fn queue(queue: &'a str, queues: &'a [&'a Mutex<QueueLedger>]) -> Self {
        Self::exchange("", queue, queues)
    }
}

/// One publisher; its messages are numbered over all runs of the broker.
pub struct Publisher {
    name: u64,
    count: AtomicU64,
    /// Messages that were confirmed to it.
    pub confirmed: AtomicU64,
}

impl Publisher {
    pub fn new(name: u64) -> Self {
        Self {
            name,
            count: AtomicU64::new(1),
            confirmed: AtomicU64::new(0),
        }
    }

    /// The number of its next message.
    pub fn next(&self) -> u64 {
        number(self.name, self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// Publishes one message, written down in the ledgers before.
    pub async fn publish(&self, channel: &Channel, target: &Target<'_>) -> lapin::Result<(u64, PublisherConfirm)> {
        let number = self.next();
        for queue in target.queues {
            queue.lock().unwrap().sending(number);
        }
        Ok((number, self.publish_as(channel, target, number).await?))
    }

    /// Publishes the message with this number, perhaps again.
    pub async fn publish_as(
        &self,
        channel: &Channel,
        target: &Target<'_>,
        number: u64,
    ) -> lapin::Result<PublisherConfirm> {
        let properties = (target.properties)(number);
        publish_with(channel, target.exchange, target.routing_key, number, properties).await
    }

    /// Waits for a confirm and writes it down.
    pub async fn confirm(&self, number: u64, confirm: PublisherConfirm, target: &Target<'_>) -> lapin::Result<()> {
        if confirm.await?.is_ack() {
            self.confirmed.fetch_add(1, Ordering::Relaxed);
            for queue in target.queues {
                queue.lock().unwrap().confirmed(number);
            }
        }
        Ok(())
    }

    /// Publishes up to so many at a time, for ever. Each is told, with a moment before it was sent.
    pub async fn feed(
        &self,
        amqp: SocketAddr,
        target: &Target<'_>,
        burst: usize,
        mut random: Random,
        sent: impl Fn(u64, Instant),
    ) -> lapin::Result<()> {
        let (_connection, channel) = open(amqp).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        loop {
            let mut waiting = Vec::new();
            for _ in 0..1 + random.below(burst) {
                let now = Instant::now();
                let (number, confirm) = self.publish(&channel, target).await?;
                sent(number, now);
                waiting.push((number, confirm));
            }
            for (number, confirm) in waiting {
                self.confirm(number, confirm, target).await?;
            }
        }
    }

    /// Publishes without a pause, for ever.
    pub async fn run(&self, amqp: SocketAddr, target: &Target<'_>) -> lapin::Result<()> {
        let (_connection, channel) = open(amqp).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let mut waiting = VecDeque::new();
        let result = loop {
            match self.publish(&channel, target).await {
                Ok(published) => waiting.push_back(published),
                Err(error) => break Err(error),
            }
            if waiting.len() > WINDOW_MESSAGES
                && let Some((number, confirm)) = waiting.pop_front()
                && let Err(error) = self.confirm(number, confirm, target).await
            {
                break Err(error);
            }
        };
        // What was confirmed before the end counts too.
        for (number, confirm) in waiting {
            if self.confirm(number, confirm, target).await.is_err() {
                break;
            }
        }
        result
    }
}

/// Publishes transient messages into a queue of which others keep the ledger: no crash may leave one.
pub async fn publish_transient(
    amqp: SocketAddr,
    queue: &str,
    publisher: &Publisher,
    mut random: Random,
) -> lapin::Result<()> {
    let (_connection, channel) = open(amqp).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    loop {
        let mut waiting = Vec::new();
        for _ in 0..1 + random.below(20) {
            let body = body_of(publisher.next());
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            let published = channel.basic_publish("".into(), queue.into(), options, &body, properties);
            waiting.push(published.await?);
        }
        for confirm in waiting {
            confirm.await?;
        }
    }
}

/// Publishes a persistent message.
pub async fn publish(channel: &Channel, exchange: &str, key: &str, number: u64) -> lapin::Result<PublisherConfirm> {
    publish_with(channel, exchange, key, number, BasicProperties::default()).await
}

async fn publish_with(
    channel: &Channel,
    exchange: &str,
    key: &str,
    number: u64,
    properties: BasicProperties,
) -> lapin::Result<PublisherConfirm> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let properties = properties.with_delivery_mode(2);
    channel
        .basic_publish(exchange.into(), key.into(), options, &body_of(number), properties)
        .await
}

/// Like [`crate::client::open`], for a broker that may die meanwhile.
pub async fn open(amqp: SocketAddr) -> lapin::Result<(Connection, Channel)> {
    let connection = try_connect(amqp, "guest", "guest", "/").await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

/// Asks for something whose answer comes after all that was sent on this channel was handled.
pub async fn barrier(channel: &Channel, queue: &str) -> lapin::Result<u32> {
    let passive = QueueDeclareOptions::default().passive();
    let declared = channel
        .queue_declare(queue.into(), passive, FieldTable::default())
        .await?;
    Ok(declared.message_count())
}

/// Consumes and acknowledges, rejects, requeues, keeps, leaves and comes back, for ever.
pub async fn consume(
    amqp: SocketAddr,
    queue: &str,
    ledger: &Mutex<QueueLedger>,
    mut random: Random,
) -> lapin::Result<()> {
    loop {
        let (connection, channel) = open(amqp).await?;
        let prefetch_count = 1 + random.below(80) as u16;
        channel.basic_qos(prefetch_count, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let mut consumer = channel
            .basic_consume(queue.into(), "".into(), options, FieldTable::default())
            .await?;
        // Deliveries that neither went nor came back, and acknowledgements that the broker may not have seen.
        let (mut held, mut asked) = (Vec::new(), Vec::new());
        for turn in 0..random.below(400) {
            let Ok(delivery) = tokio::time::timeout(CONSUMER_PATIENCE, consumer.next()).await else {
                break;
            };
            let Some(delivery) = delivery else { break };
            let delivery = delivery?;
            let number = number_of(&delivery.data).expect("a whole body");
            ledger.lock().unwrap().delivered(number);
            let multiple = random.chance(10);
            let settles = |held: &mut Vec<u64>, asked: &mut Vec<u64>| {
                let with_it = if multiple { std::mem::take(held) } else { Vec::new() };
                let mut ledger = ledger.lock().unwrap();
                for number in with_it.into_iter().chain([number]) {
                    ledger.settling(number);
                    asked.push(number);
                }
            };
            match random.below(12) {
                0 => {
                    delivery.reject(BasicRejectOptions { requeue: true }).await?;
                }
                1 => {
                    if multiple {
                        held.clear();
                    }
                    delivery
                        .nack(BasicNackOptions {
                            multiple,
                            requeue: true,
                        })
                        .await?;
                }
                2 => {
                    settles(&mut held, &mut asked);
                    let drop = BasicNackOptions {
                        multiple,
                        requeue: false,
                    };
                    delivery.nack(drop).await?;
                }
                3 => held.push(number),
                _ => {
                    settles(&mut held, &mut asked);
                    delivery.ack(BasicAckOptions { multiple }).await?;
                }
            }
            if turn % 50 == 49 {
                barrier(&channel, queue).await?;
                ledger.lock().unwrap().settled(&std::mem::take(&mut asked));
            }
        }
        barrier(&channel, queue).await?;
        ledger.lock().unwrap().settled(&asked);
        if random.chance(50) {
            connection.close(200, "Goodbye".into()).await?;
        }
    }
}

/// How many to publish at once: now and then so many that they leave the disk by the range, and not chunk by chunk.
pub fn burst(random: &mut Random) -> usize {
    if random.chance(8) {
        BURST_MESSAGES
    } else {
        1 + random.below(30)
    }
}

/// Publishes some and purges them now and then. Nobody else uses this queue.
pub async fn purge(
    amqp: SocketAddr,
    ledger: &Mutex<QueueLedger>,
    under_way: &Mutex<Option<Vec<u64>>>,
    publisher: &Publisher,
    mut random: Random,
) -> lapin::Result<()> {
    let queue = ledger.lock().unwrap().name.clone();
    let queues = [ledger];
    let target = Target::queue(&queue, &queues);
    let (_connection, channel) = open(amqp).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    loop {
        let mut waiting = Vec::new();
        for _ in 0..burst(&mut random) {
            waiting.push(publisher.publish(&channel, &target).await?);
        }
        for (number, confirm) in waiting {
            publisher.confirm(number, confirm, &target).await?;
        }
        if random.chance(30) {
            let all = ledger.lock().unwrap().owed();
            all.iter().for_each(|number| ledger.lock().unwrap().settling(*number));
            *under_way.lock().unwrap() = Some(all);
            channel
                .queue_purge(queue.as_str().into(), QueuePurgeOptions::default())
                .await?;
            ledger.lock().unwrap().remove_all();
            *under_way.lock().unwrap() = None;
        }
    }
}

/// Takes all messages of a queue: number and redelivered flag. They stay unacked on the channel.
pub async fn take_all(channel: &Channel, queue: &str) -> lapin::Result<Vec<(u64, bool)>> {
    let ready = barrier(channel, queue).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer = channel
        .basic_consume(queue.into(), "".into(), options, FieldTable::default())
        .await?;
    let mut taken = Vec::new();
    for _ in 0..ready {
        let got = crate::client::next(&mut consumer).await;
        let number = number_of(&got.data).unwrap_or_else(|| panic!("{queue}: a body is damaged"));
        taken.push((number, got.redelivered));
    }
    let options = BasicCancelOptions::default();
    channel.basic_cancel(consumer.tag(), options).await?;
    assert_eq!(
        barrier(channel, queue).await?,
        0,
        "{queue} had {ready} messages and has more"
    );
    Ok(taken)
}

/// Compares what was taken, sorted if it is of several queues, with its ledger, and acknowledges it.
pub async fn settle(
    channel: &Channel,
    queue: &str,
    ledger: &Mutex<QueueLedger>,
    found: &[(u64, bool)],
    findings: &mut Findings,
) -> lapin::Result<()> {
    let numbers: Vec<u64> = found.iter().map(|(number, _)| *number).collect();
    {
        let mut ledger = ledger.lock().unwrap();
        ledger.check(found, findings);
        for number in &numbers {
            ledger.delivered(*number);
            ledger.settling(*number);
        }
    }
    if !numbers.is_empty() {
        channel.basic_ack(0, BasicAckOptions { multiple: true }).await?;
    }
    barrier(channel, queue).await?;
    ledger.lock().unwrap().settled(&numbers);
    Ok(())
}

/// Declares a durable queue with these rules, and one that gets what the first gives up.
pub async fn declare_pair(channel: &Channel, first: &str, mut rules: FieldTable, second: &str) -> lapin::Result<()> {
    rules.insert("x-dead-letter-exchange".into(), text(""));
    rules.insert("x-dead-letter-routing-key".into(), text(second));
    for (name, arguments) in [(first, rules), (second, FieldTable::default())] {
        let options = QueueDeclareOptions::durable();
        channel.queue_declare(name.into(), options, arguments).await?;
    }
    Ok(())
}

/// Declares a durable exchange and a durable queue that gets all of it, whatever the routing key.
pub async fn declare_bound(
    channel: &Channel,
    exchange: &str,
    kind: ExchangeKind,
    arguments: FieldTable,
    queue: &str,
) -> lapin::Result<()> {
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(exchange.into(), kind, durable, arguments)
        .await?;
    declare_queue(channel, queue).await?;
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel
        .queue_bind(queue.into(), exchange.into(), "".into(), options, none)
        .await
}
