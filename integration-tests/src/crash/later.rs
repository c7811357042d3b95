//! Messages that a delayed exchange keeps until their time has come: what was confirmed arrives, once and not too early.

use super::Findings;
use super::ledger::{QueueLedger, number_of};
use super::workers::{Publisher, Target, declare_bound, settle};
use crate::Broker;
use crate::client::{arguments, text};
use crate::random::Random;
use crate::wait;
use lapin::options::*;
use lapin::types::AMQPValue;
use lapin::{BasicProperties, Channel, Connection, ExchangeKind};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const EXCHANGE: &str = "later";
const QUEUE: &str = "later.q";
const BURST_MESSAGES: usize = 30;
/// The longest delay is one step less than this many.
const STEPS: u64 = 5;
const STEP_MILLIS: u64 = 250;
/// The clock of the broker counts whole milliseconds, and rounds down.
const CLOCK_STEP: Duration = Duration::from_millis(1);

/// The exchange, and a queue that nobody consumes from while the broker works.
pub struct Later {
    pub ledger: Mutex<QueueLedger>,
    pub publisher: Publisher,
    /// When a message was published, or a moment before.
    sent: Mutex<HashMap<u64, Instant>>,
}

/// How long a message waits; one in so many does not.
fn delay_millis(number: u64) -> u64 {
    number % STEPS * STEP_MILLIS
}

impl Later {
    pub fn new(publisher: u64) -> Self {
        Self {
            ledger: Mutex::new(QueueLedger::new(QUEUE)),
            publisher: Publisher::new(publisher),
            sent: Mutex::default(),
        }
    }

    pub async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        let kind = ExchangeKind::Custom("x-delayed-message".into());
        let fanout = arguments([("x-delayed-type", text("fanout"))]);
        declare_bound(channel, EXCHANGE, kind, fanout, QUEUE).await
    }

    /// Publishes until the broker is gone.
    pub async fn run(&self, amqp: SocketAddr, random: Random) -> lapin::Result<()> {
        let queues = [&self.ledger];
        let target = Target {
            properties: |number| {
                let delay = AMQPValue::LongLongInt(delay_millis(number) as i64);
                BasicProperties::default().with_headers(arguments([("x-delay", delay)]))
            },
            ..Target::exchange(EXCHANGE, "", &queues)
        };
        let sent = |number, now| {
            self.sent.lock().unwrap().insert(number, now);
        };
        self.publisher.feed(amqp, &target, BURST_MESSAGES, random, sent).await
    }
    /// Takes all of the queue, waits for what is still to come, compares it, and acknowledges it.
    pub async fn check(&self, broker: &Broker, connection: &Connection, findings: &mut Findings) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        let mut found = self.get_all(&channel, findings).await?;
        wait::until("all delayed messages are delivered", || {
            let listed = broker.ctl().run(&["-s", "list_exchanges", "name", "messages_delayed"]);
            listed
                .lines()
                .any(|line| line == format!("{EXCHANGE}\t0"))
                .then_some(())
        });
        found.extend(self.get_all(&channel, findings).await?);
        // They come in the order of their times.
        found.sort_unstable();
        settle(&channel, QUEUE, &self.ledger, &found, findings).await?;
        self.sent.lock().unwrap().clear();
        Ok(())
    }

    async fn get_all(&self, channel: &Channel, findings: &mut Findings) -> lapin::Result<Vec<(u64, bool)>> {
        let mut taken = Vec::new();
        let options = BasicGetOptions::default();
        while let Some(got) = channel.basic_get(QUEUE.into(), options).await? {
            let number = number_of(&got.data).expect("a whole body");
            let due = Duration::from_millis(delay_millis(number)).saturating_sub(CLOCK_STEP);
            let waited = self.sent.lock().unwrap().get(&number).map(Instant::elapsed);
            if let Some(waited) = waited.filter(|waited| *waited < due) {
                findings.object(format!("{QUEUE}: {number} came after {waited:?}"));
            }
            taken.push((number, got.redelivered));
        }
        Ok(taken)
    }
}
