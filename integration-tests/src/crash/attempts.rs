//! Messages that fail again and again until they are given up: how often is known after a crash too.

use super::Findings;
use super::ledger::{QueueLedger, number_of};
use super::workers::{CONSUMER_PATIENCE, Publisher, Target, barrier, consume, declare_pair, open, settle, take_all};
use crate::client::{arguments, text};
use crate::random::Random;
use futures_lite::StreamExt;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// So many deliveries of a message may fail; the next one that does is its last.
const LIMIT: u32 = 3;
const RETRY_MILLIS: i32 = 30;
/// A count goes to the disk with one of the next commits, which nobody waits for.
const COUNT_GRACE: Duration = Duration::from_millis(2_000);

/// A queue with a delivery limit, and perhaps delays, and one for what it gives up; one ledger for both.
pub struct Attempts {
    first: &'static str,
    second: String,
    delays: bool,
    pub ledger: Mutex<QueueLedger>,
    pub publisher: Publisher,
    failures: Mutex<HashMap<u64, Failures>>,
}

/// How often a message failed.
#[derive(Debug, Default)]
struct Failures {
    /// At the most.
    asked: u32,
    /// At the least, as of the last crash.
    sure: u32,
    /// When the broker had handled those since, at the latest.
    handled: Vec<Instant>,
}

impl Attempts {
    pub fn new(first: &'static str, delays: bool, publisher: u64) -> Self {
        Self {
            first,
            second: format!("{first}.over"),
            delays,
            ledger: Mutex::new(QueueLedger::new(format!("{first} and {first}.over"))),
            publisher: Publisher::new(publisher),
            failures: Mutex::default(),
        }
    }

    pub async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        let mut limited = arguments([("x-delivery-limit", AMQPValue::LongInt(LIMIT as i32))]);
        if self.delays {
            limited.insert("x-delayed-retry-type".into(), text("all"));
            limited.insert("x-delayed-retry-min".into(), AMQPValue::LongInt(RETRY_MILLIS));
        }
        declare_pair(channel, self.first, limited, &self.second).await
    }

    /// Publishes, fails, returns and acknowledges, and consumes what was given up, until the broker is gone.
    pub async fn run(&self, amqp: SocketAddr, mut random: Random) -> lapin::Result<()> {
        let [feed, second] = [(); 2].map(|()| Random::new(random.number() | 1));
        let queues = [&self.ledger];
        let target = Target::queue(self.first, &queues);
        tokio::try_join!(
            self.publisher.feed(amqp, &target, 20, feed, |_, _| ()),
            self.fail(amqp, random),
            consume(amqp, &self.second, &self.ledger, second),
        )
        .map(drop)
    }

    /// On one connection until the broker is gone: one that ends earlier would be a failure of all that it holds.
    async fn fail(&self, amqp: SocketAddr, mut random: Random) -> lapin::Result<()> {
        let (_connection, channel) = open(amqp).await?;
        let prefetch_count = 1 + random.below(40) as u16;
        channel.basic_qos(prefetch_count, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let mut consumer = channel
            .basic_consume(self.first.into(), "".into(), options, FieldTable::default())
            .await?;
        let (mut acked, mut failed) = (Vec::new(), Vec::new());
        for turn in 1u64.. {
            match tokio::time::timeout(CONSUMER_PATIENCE, consumer.next()).await {
                Err(_) => {}
                Ok(None) => break,
                Ok(Some(delivery)) => {
                    let delivery = delivery?;
                    let number = number_of(&delivery.data).expect("a whole body");
                    self.ledger.lock().unwrap().delivered(number);
                    match random.below(8) {
                        0 => {
                            let back = BasicNackOptions {
                                requeue: true,
                                ..BasicNackOptions::default()
                            };
                            delivery.nack(back).await?;
                        }
                        1 => {
                            self.ledger.lock().unwrap().settling(number);
                            acked.push(number);
                            delivery.ack(BasicAckOptions::default()).await?;
                        }
                        _ => {
                            self.failures.lock().unwrap().entry(number).or_default().asked += 1;
                            failed.push(number);
                            delivery.reject(BasicRejectOptions { requeue: true }).await?;
                        }
                    }
                }
            }
            if turn % 50 == 0 {
                barrier(&channel, self.first).await?;
                self.ledger.lock().unwrap().settled(&std::mem::take(&mut acked));
                let (mut failures, now) = (self.failures.lock().unwrap(), Instant::now());
                for number in failed.drain(..) {
                    failures.entry(number).or_default().handled.push(now);
                }
            }
        }
        Ok(())
    }

    pub fn crashed(&self, at: Instant, orderly: bool) {
        self.ledger.lock().unwrap().crashed(at, orderly);
        for failures in self.failures.lock().unwrap().values_mut() {
            let long_ago = |since: &Instant| orderly || at.saturating_duration_since(*since) > COUNT_GRACE;
            failures.sure += std::mem::take(&mut failures.handled)
                .iter()
                .filter(|since| long_ago(since))
                .count() as u32;
        }
    }

    /// Takes all of both queues, compares it, and acknowledges it.
    pub async fn check(&self, connection: &Connection, findings: &mut Findings) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        let mut first = Vec::new();
        while let Some(got) = channel.basic_get(self.first.into(), BasicGetOptions::default()).await? {
            let number = number_of(&got.data).expect("a whole body");
            self.check_count(number, delivery_count(&got.properties), findings);
            first.push((number, got.redelivered));
        }
        if !first.is_sorted_by_key(|(number, _)| *number) {
            findings.object(format!("{}: out of order", self.first));
        }
        let second = take_all(&channel, &self.second).await?;
        for (number, _) in &second {
            let asked = self
                .failures
                .lock()
                .unwrap()
                .get(number)
                .map_or(0, |failures| failures.asked);
            if asked <= LIMIT {
                findings.object(format!("{}: {number} was given up after {asked} failures", self.first));
            }
        }
        // A dead letter is a new message in its queue: what it was flagged as before counts for nothing.
        let second = second.into_iter().map(|(number, _)| (number, true));
        let mut found: Vec<(u64, bool)> = first.into_iter().chain(second).collect();
        // They fail in any order.
        found.sort_unstable();
        settle(&channel, self.first, &self.ledger, &found, findings).await
    }

    fn check_count(&self, number: u64, count: u32, findings: &mut Findings) {
        let failures = self.failures.lock().unwrap();
        let (sure, asked) = failures.get(&number).map_or((0, 0), |known| (known.sure, known.asked));
        if !(sure..=asked.min(LIMIT)).contains(&count) {
            findings.object(format!(
                "{}: {number} failed {sure} to {asked} times, and the broker says {count}",
                self.first
            ));
        }
    }
}

fn delivery_count(properties: &BasicProperties) -> u32 {
    let header = properties.headers().as_ref();
    match header.and_then(|headers| headers.inner().get("x-delivery-count")) {
        Some(AMQPValue::LongLongInt(count)) => *count as u32,
        None => 0,
        Some(other) => panic!("a delivery count of a strange type: {other:?}"),
    }
}
