//! Messages that go from one queue to another when they are rejected: each is in one of the two, whatever happens.

use super::Findings;
use super::ledger::{QueueLedger, number_of};
use super::workers::{CONSUMER_PATIENCE, Publisher, Target, barrier, declare_pair, open, settle, take_all};
use crate::random::Random;
use futures_lite::StreamExt;
use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const DOOMED: &str = "doomed";
pub const GRAVES: &str = "graves";
/// A move is written at once, but nobody is told: the rest is for a busy machine.
const MOVE_GRACE: Duration = Duration::from_millis(2_000);

/// `doomed` gives what is rejected to `graves`; one ledger for both.
pub struct DeadLetters {
    pub ledger: Mutex<QueueLedger>,
    pub publisher: Publisher,
    /// Rejected messages, and when the broker had handled that at the latest.
    rejected: Mutex<HashMap<u64, Option<Instant>>>,
    /// Those that must not be in the first queue any more.
    moved: Mutex<Vec<u64>>,
}

impl DeadLetters {
    pub fn new(publisher: u64) -> Self {
        Self {
            ledger: Mutex::new(QueueLedger::new("doomed and graves")),
            publisher: Publisher::new(publisher),
            rejected: Mutex::default(),
            moved: Mutex::default(),
        }
    }

    pub async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        declare_pair(channel, DOOMED, FieldTable::default(), GRAVES).await
    }

    /// Publishes some messages at a time, for ever.
    pub async fn feed(&self, amqp: SocketAddr, random: Random) -> lapin::Result<()> {
        let queues = [&self.ledger];
        let target = Target::queue(DOOMED, &queues);
        self.publisher.feed(amqp, &target, 30, random, |_, _| ()).await
    }

    /// Rejects, acknowledges, requeues, keeps, leaves and comes back, for ever.
    pub async fn reject(&self, amqp: SocketAddr, mut random: Random) -> lapin::Result<()> {
        loop {
            let (_connection, channel) = open(amqp).await?;
            let prefetch_count = 1 + random.below(40) as u16;
            channel.basic_qos(prefetch_count, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions::default();
            let mut consumer = channel
                .basic_consume(DOOMED.into(), "".into(), options, FieldTable::default())
                .await?;
            let (mut held, mut acked, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
            for turn in 0..random.below(300) {
                let Ok(Some(delivery)) = tokio::time::timeout(CONSUMER_PATIENCE, consumer.next()).await else {
                    break;
                };
                let delivery = delivery?;
                let number = number_of(&delivery.data).expect("a whole body");
                self.ledger.lock().unwrap().delivered(number);
                match random.below(8) {
                    0 => {
                        delivery.reject(BasicRejectOptions { requeue: true }).await?;
                    }
                    1 => {
                        self.ledger.lock().unwrap().settling(number);
                        acked.push(number);
                        delivery.ack(BasicAckOptions::default()).await?;
                    }
                    2 => held.push(number),
                    3 => {
                        held.push(number);
                        self.rejecting(&held);
                        rejected.append(&mut held);
                        let all = BasicNackOptions {
                            multiple: true,
                            requeue: false,
                        };
                        delivery.nack(all).await?;
                    }
                    _ => {
                        self.rejecting(&[number]);
                        rejected.push(number);
                        delivery.reject(BasicRejectOptions { requeue: false }).await?;
                    }
                }
                if turn % 50 == 49 {
                    self.handled(&channel, &mut acked, &mut rejected).await?;
                }
            }
            self.handled(&channel, &mut acked, &mut rejected).await?;
        }
    }

    fn rejecting(&self, numbers: &[u64]) {
        let mut rejected = self.rejected.lock().unwrap();
        rejected.extend(numbers.iter().map(|number| (*number, None)));
    }

    async fn handled(&self, channel: &Channel, acked: &mut Vec<u64>, rejected: &mut Vec<u64>) -> lapin::Result<()> {
        barrier(channel, DOOMED).await?;
        self.ledger.lock().unwrap().settled(&std::mem::take(acked));
        let mut handled = self.rejected.lock().unwrap();
        for number in rejected.drain(..) {
            handled.insert(number, Some(Instant::now()));
        }
        Ok(())
    }

    pub fn crashed(&self, at: Instant, orderly: bool) {
        self.ledger.lock().unwrap().crashed(at, orderly);
        let long_ago = |since: Instant| orderly || at.saturating_duration_since(since) > MOVE_GRACE;
        let rejected = std::mem::take(&mut *self.rejected.lock().unwrap());
        let moved = rejected
            .into_iter()
            .filter(|(_, handled)| handled.is_some_and(long_ago));
        self.moved.lock().unwrap().extend(moved.map(|(number, _)| number));
    }

    /// Takes all of both queues, compares it, and acknowledges it.
    pub async fn check(&self, connection: &Connection, findings: &mut Findings) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        let doomed = take_all(&channel, DOOMED).await?;
        let graves = take_all(&channel, GRAVES).await?;
        if !doomed.is_sorted_by_key(|(number, _)| *number) {
            findings.object(format!("{DOOMED}: out of order"));
        }
        for number in self.moved.lock().unwrap().drain(..) {
            if doomed.binary_search_by_key(&number, |(number, _)| *number).is_ok() {
                findings.duplicate(format!("{DOOMED}: {number} was rejected and is back"));
            }
        }
        // A dead letter is a new message in its queue: what it was flagged as before counts for nothing.
        let graves = graves.into_iter().map(|(number, _)| (number, true));
        let mut found: Vec<(u64, bool)> = doomed.into_iter().chain(graves).collect();
        // Rejections come in any order.
        found.sort_unstable();
        settle(&channel, DOOMED, &self.ledger, &found, findings).await
    }
}
