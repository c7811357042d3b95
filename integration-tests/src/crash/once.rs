//! Messages published again after a crash until they are confirmed, to an exchange that drops duplicates: each arrives once.

use super::Findings;
use super::ledger::QueueLedger;
use super::workers::{Publisher, Target, burst, declare_bound, open, settle, take_all};
use crate::client::arguments;
use crate::random::Random;
use lapin::options::*;
use lapin::types::AMQPValue;
use lapin::{BasicProperties, Channel, Connection, ExchangeKind};
use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::sync::Mutex;

const EXCHANGE: &str = "once";
const QUEUE: &str = "once.q";
/// More than are published between two crashes, so that no key is forgotten too early.
const KEYS: i32 = 1_000_000;

/// The exchange, and a queue that nobody consumes from while the broker works.
pub struct Once {
    pub ledger: Mutex<QueueLedger>,
    pub publisher: Publisher,
    unconfirmed: Mutex<BTreeSet<u64>>,
    /// What was taken out already. It may be published once more, and must not arrive once more.
    taken: Mutex<HashSet<u64>>,
}

impl Once {
    pub fn new(publisher: u64) -> Self {
        Self {
            ledger: Mutex::new(QueueLedger::new(QUEUE)),
            publisher: Publisher::new(publisher),
            unconfirmed: Mutex::default(),
            taken: Mutex::default(),
        }
    }

    pub async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        let deduplicates = arguments([
            ("x-message-deduplication", AMQPValue::Boolean(true)),
            ("x-cache-size", AMQPValue::LongInt(KEYS)),
        ]);
        declare_bound(channel, EXCHANGE, ExchangeKind::Fanout, deduplicates, QUEUE).await
    }

    /// Publishes what is not confirmed from before, then others, until the broker is gone.
    pub async fn run(&self, amqp: SocketAddr, mut random: Random) -> lapin::Result<()> {
        let queues = [&self.ledger];
        let target = Target {
            properties: |number| {
                let key = AMQPValue::LongLongInt(number as i64);
                BasicProperties::default().with_headers(arguments([("x-deduplication-header", key)]))
            },
            ..Target::exchange(EXCHANGE, "", &queues)
        };
        let (_connection, channel) = open(amqp).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let mut batch: Vec<u64> = self.unconfirmed.lock().unwrap().iter().copied().collect();
        loop {
            let mut waiting = Vec::new();
            for number in &batch {
                if !self.taken.lock().unwrap().contains(number) {
                    self.ledger.lock().unwrap().sending(*number);
                }
                self.unconfirmed.lock().unwrap().insert(*number);
                waiting.push((*number, self.publisher.publish_as(&channel, &target, *number).await?));
            }
            for (number, confirm) in waiting {
                self.publisher.confirm(number, confirm, &target).await?;
                self.unconfirmed.lock().unwrap().remove(&number);
            }
            batch = (0..burst(&mut random)).map(|_| self.publisher.next()).collect();
        }
    }

    /// Takes all of the queue, compares it, and acknowledges it.
    pub async fn check(&self, connection: &Connection, findings: &mut Findings) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        let found = take_all(&channel, QUEUE).await?;
        settle(&channel, QUEUE, &self.ledger, &found, findings).await?;
        self.taken
            .lock()
            .unwrap()
            .extend(found.iter().map(|(number, _)| number));
        Ok(())
    }
}
