//! Queues, exchanges and bindings that come and go.

use super::Findings;
use super::ledger::QueueLedger;
use super::workers::{Publisher, Target, burst, open, take_all};
use crate::client::refusal;
use crate::random::Random;
use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{Channel, Confirmation, ExchangeKind};
use std::net::SocketAddr;
use std::sync::Mutex;

const QUEUES: usize = 8;
const EXCHANGES: usize = 4;
/// Durable, direct, never deleted; a queue is bound to it by its own name.
pub const EXCHANGE: &str = "life";

/// What is known of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Absent,
    Present,
    /// A request was not answered.
    Either,
}

struct Queue {
    name: String,
    queue: Known,
    binding: Known,
    ledger: Mutex<QueueLedger>,
}

/// All that comes and goes, and who sees to it.
pub struct Lives {
    queues: Vec<Mutex<Queue>>,
    exchanges: Vec<Mutex<(String, Known)>>,
    pub publisher: Publisher,
}

impl Lives {
    pub fn new(publisher: u64) -> Self {
        let queue = |index| {
            let name = format!("life.{index}");
            Mutex::new(Queue {
                ledger: Mutex::new(QueueLedger::new(&name)),
                name,
                queue: Known::Absent,
                binding: Known::Absent,
            })
        };
        Self {
            queues: (0..QUEUES).map(queue).collect(),
            exchanges: (0..EXCHANGES)
                .map(|index| Mutex::new((format!("life.x.{index}"), Known::Absent)))
                .collect(),
            publisher: Publisher::new(publisher),
        }
    }

    /// Declares, binds, publishes, unbinds and deletes, for ever.
    pub async fn run(&self, amqp: SocketAddr, mut random: Random) -> lapin::Result<()> {
        let (_connection, channel) = open(amqp).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        loop {
            if random.chance(30) {
                let exchange = &self.exchanges[random.below(EXCHANGES)];
                let (name, before) = exchange.lock().unwrap().clone();
                exchange.lock().unwrap().1 = Known::Either;
                let after = if before == Known::Present {
                    let options = ExchangeDeleteOptions::default();
                    channel.exchange_delete(name.as_str().into(), options).await?;
                    Known::Absent
                } else {
                    declare_exchange(&channel, &name, ExchangeKind::Fanout).await?;
                    Known::Present
                };
                exchange.lock().unwrap().1 = after;
                continue;
            }
            let queue = &self.queues[random.below(QUEUES)];
            let (known, bound) = {
                let queue = queue.lock().unwrap();
                (queue.queue, queue.binding)
            };
            match (known, bound) {
                (Known::Present, Known::Present) if random.chance(50) => {
                    self.publish(&channel, queue, &mut random).await?
                }
                (Known::Present, Known::Present) if random.chance(40) => unbind(&channel, queue).await?,
                (Known::Present, _) if random.chance(50) => delete(&channel, queue).await?,
                _ => declare(&channel, queue).await?,
            }
        }
    }

    #[allow(clippy::await_holding_lock, reason = "one task uses these locks at a time")]
    async fn publish(&self, channel: &Channel, queue: &Mutex<Queue>, random: &mut Random) -> lapin::Result<()> {
        let queue = queue.lock().unwrap();
        let queues = [&queue.ledger];
        let target = Target::exchange(EXCHANGE, &queue.name, &queues);
        let mut waiting = Vec::new();
        for _ in 0..burst(random) {
            waiting.push(self.publisher.publish(channel, &target).await?);
        }
        for (number, confirm) in waiting {
            self.publisher.confirm(number, confirm, &target).await?;
        }
        Ok(())
    }

    pub fn crashed(&self, at: std::time::Instant, orderly: bool) {
        for queue in &self.queues {
            queue.lock().unwrap().ledger.lock().unwrap().crashed(at, orderly);
        }
    }

    /// Looks at everything after a crash. A refusal ends a channel, so each question has a connection of its own.
    #[allow(clippy::await_holding_lock, reason = "one task uses these locks at a time")]
    pub async fn check(&self, amqp: SocketAddr, findings: &mut Findings) -> lapin::Result<()> {
        for exchange in &self.exchanges {
            let mut exchange = exchange.lock().unwrap();
            let options = ExchangeDeclareOptions {
                passive: true,
                ..ExchangeDeclareOptions::default()
            };
            let (_connection, channel) = open(amqp).await?;
            let found = channel
                .exchange_declare(
                    exchange.0.as_str().into(),
                    ExchangeKind::Fanout,
                    options,
                    FieldTable::default(),
                )
                .await;
            let found = is_there(found.map(drop));
            exchange.1 = compare(&format!("exchange {}", exchange.0), exchange.1, found, findings);
        }
        for queue in &self.queues {
            let mut queue = queue.lock().unwrap();
            let (_connection, channel) = open(amqp).await?;
            let passive = QueueDeclareOptions::default().passive();
            let found = channel
                .queue_declare(queue.name.as_str().into(), passive, FieldTable::default())
                .await;
            let found = is_there(found.map(drop));
            queue.queue = compare(&format!("queue {}", queue.name), queue.queue, found, findings);
            if found {
                self.check_contents(&channel, &mut queue, findings).await?;
            } else {
                queue.binding = Known::Absent;
                queue.ledger.lock().unwrap().remove_all();
                queue.ledger.lock().unwrap().check(&[], findings);
            }
        }
        Ok(())
    }

    #[allow(clippy::await_holding_lock, reason = "one task uses these locks at a time")]
    async fn check_contents(&self, channel: &Channel, queue: &mut Queue, findings: &mut Findings) -> lapin::Result<()> {
        let found = take_all(channel, &queue.name).await?;
        queue.ledger.lock().unwrap().check(&found, findings);
        // They go back to their places.
        let requeue = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        if !found.is_empty() {
            channel.basic_nack(0, requeue).await?;
        }
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let queues = [&queue.ledger];
        let target = Target::exchange(EXCHANGE, &queue.name, &queues);
        let (number, confirm) = self.publisher.publish(channel, &target).await?;
        let bound = match confirm.await? {
            Confirmation::Ack(None) => true,
            Confirmation::Ack(Some(_returned)) => false,
            other => {
                findings.object(format!("a publish was answered with {other:?}"));
                false
            }
        };
        if bound {
            queue.ledger.lock().unwrap().confirmed(number);
        } else {
            queue.ledger.lock().unwrap().removed(number);
        }
        queue.binding = compare(
            &format!("the binding of {}", queue.name),
            queue.binding,
            bound,
            findings,
        );
        Ok(())
    }
}

/// Declares a durable exchange.
pub async fn declare_exchange(channel: &Channel, name: &str, kind: ExchangeKind) -> lapin::Result<()> {
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(name.into(), kind, durable, FieldTable::default())
        .await
}

/// Declares a durable queue.
pub async fn declare_queue(channel: &Channel, name: &str) -> lapin::Result<()> {
    let options = QueueDeclareOptions::durable();
    channel
        .queue_declare(name.into(), options, FieldTable::default())
        .await
        .map(drop)
}

async fn declare(channel: &Channel, queue: &Mutex<Queue>) -> lapin::Result<()> {
    let name = queue.lock().unwrap().name.clone();
    let before = {
        let mut queue = queue.lock().unwrap();
        queue.binding = Known::Either;
        std::mem::replace(&mut queue.queue, Known::Either)
    };
    if before == Known::Present {
        queue.lock().unwrap().queue = Known::Present;
    } else {
        declare_queue(channel, &name).await?;
        queue.lock().unwrap().queue = Known::Present;
    }
    channel
        .queue_bind(
            name.as_str().into(),
            EXCHANGE.into(),
            name.as_str().into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    queue.lock().unwrap().binding = Known::Present;
    Ok(())
}

async fn unbind(channel: &Channel, queue: &Mutex<Queue>) -> lapin::Result<()> {
    let name = queue.lock().unwrap().name.clone();
    queue.lock().unwrap().binding = Known::Either;
    let (exchange, key) = (EXCHANGE.into(), name.as_str().into());
    channel
        .queue_unbind(name.as_str().into(), exchange, key, FieldTable::default())
        .await?;
    queue.lock().unwrap().binding = Known::Absent;
    Ok(())
}

async fn delete(channel: &Channel, queue: &Mutex<Queue>) -> lapin::Result<()> {
    let name = queue.lock().unwrap().name.clone();
    {
        let mut queue = queue.lock().unwrap();
        (queue.queue, queue.binding) = (Known::Either, Known::Either);
    }
    channel
        .queue_delete(name.as_str().into(), QueueDeleteOptions::default())
        .await?;
    let mut queue = queue.lock().unwrap();
    (queue.queue, queue.binding) = (Known::Absent, Known::Absent);
    queue.ledger.lock().unwrap().remove_all();
    Ok(())
}

fn is_there(answer: lapin::Result<()>) -> bool {
    match answer {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(refusal(&error).0, 404, "{error}");
            false
        }
    }
}

fn compare(what: &str, known: Known, found: bool, findings: &mut Findings) -> Known {
    match (known, found) {
        (Known::Present, false) => findings.object(format!("{what} was declared and is missing")),
        (Known::Absent, true) => findings.object(format!("{what} was deleted and is back")),
        _ => {}
    }
    if found { Known::Present } else { Known::Absent }
}
