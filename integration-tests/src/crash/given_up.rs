//! Queues that give messages up by themselves: what expires, and the oldest where there are too many. Each message is in the
//! queue or, as a dead letter, in the next one, whatever happens.

use super::Findings;
use super::ledger::{QueueLedger, number_of};
use super::workers::{Publisher, Target, barrier, consume, declare_pair, settle, take_all};
use crate::random::Random;
use crate::wait;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Ready messages of a queue with a limit.
const LENGTH_MAX: u32 = 40;
/// How long messages live that expire while the broker works, or soon after its start.
const LIFE: Duration = Duration::from_millis(300);
const HOUR_MILLIS: &str = "3600000";
/// Clocks of client and broker are the same; this is for threads that wait for their turn.
const CLOCK_GRACE: Duration = Duration::from_millis(500);
/// A move takes no time, but threads wait for their turn.
const MOVE_PATIENCE: Duration = Duration::from_secs(10);

/// Why messages leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// There are too many: the oldest go first.
    Length,
    /// All live equally long.
    TimeOfQueue,
    /// One in three lives shortly, one an hour, one for ever.
    TimeOfMessage,
}

/// A queue with a rule, and one for what it gives up; one ledger for both.
pub struct GivenUp {
    rule: Rule,
    first: &'static str,
    second: String,
    pub ledger: Mutex<QueueLedger>,
    pub publisher: Publisher,
    /// When a message was published, or a moment before.
    sent: Mutex<HashMap<u64, Instant>>,
    /// When the broker was killed, or a moment before.
    crashed_at: Mutex<Instant>,
}

impl GivenUp {
    pub fn new(rule: Rule, first: &'static str, publisher: u64) -> Self {
        Self {
            rule,
            first,
            second: format!("{first}.over"),
            ledger: Mutex::new(QueueLedger::new(format!("{first} and {first}.over"))),
            publisher: Publisher::new(publisher),
            sent: Mutex::default(),
            crashed_at: Mutex::new(Instant::now()),
        }
    }

    pub async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        let mut rules = FieldTable::default();
        let limit = match self.rule {
            Rule::Length => Some(("x-max-length", LENGTH_MAX as i32)),
            Rule::TimeOfQueue => Some(("x-message-ttl", LIFE.as_millis() as i32)),
            Rule::TimeOfMessage => None,
        };
        if let Some((name, limit)) = limit {
            rules.insert(name.into(), AMQPValue::LongInt(limit));
        }
        declare_pair(channel, self.first, rules, &self.second).await
    }

    /// Publishes into the first queue and consumes from the second, until the broker is gone.
    pub async fn run(&self, amqp: SocketAddr, mut random: Random) -> lapin::Result<()> {
        let consumer = Random::new(random.number() | 1);
        tokio::try_join!(
            self.feed(amqp, random),
            consume(amqp, &self.second, &self.ledger, consumer),
        )
        .map(drop)
    }

    async fn feed(&self, amqp: SocketAddr, random: Random) -> lapin::Result<()> {
        let queues = [&self.ledger];
        let target = Target {
            properties: match self.rule {
                Rule::TimeOfMessage => |number| match expiration(number) {
                    Some(millis) => BasicProperties::default().with_expiration(millis),
                    None => BasicProperties::default(),
                },
                Rule::Length | Rule::TimeOfQueue => |_| BasicProperties::default(),
            },
            ..Target::queue(self.first, &queues)
        };
        let sent = |number, now| {
            self.sent.lock().unwrap().insert(number, now);
        };
        self.publisher.feed(amqp, &target, 30, random, sent).await
    }

    pub fn crashed(&self, at: Instant, orderly: bool) {
        self.ledger.lock().unwrap().crashed(at, orderly);
        *self.crashed_at.lock().unwrap() = at;
    }

    /// Takes all of both queues, compares it, and acknowledges it.
    pub async fn check(&self, connection: &Connection, findings: &mut Findings) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        let first = match self.rule {
            Rule::Length => {
                self.wait_for_at_most(&channel, LENGTH_MAX).await;
                take_all(&channel, self.first).await?
            }
            Rule::TimeOfQueue | Rule::TimeOfMessage => {
                let left = self.get_all(&channel, findings).await?;
                self.wait_for_at_most(&channel, 0).await;
                left
            }
        };
        let second = self.get_second(&channel, &first).await?;
        self.check_rule(&first, &second, findings);
        let mut found: Vec<(u64, bool)> = second.into_iter().chain(first).collect();
        // Dead letters of two threads may overtake each other.
        found.sort_unstable();
        settle(&channel, self.first, &self.ledger, &found, findings).await?;
        self.sent.lock().unwrap().clear();
        Ok(())
    }

    async fn wait_for_at_most(&self, channel: &Channel, ready: u32) {
        let what = format!("{} has at most {ready} messages", self.first);
        wait::until_async(&what, || async {
            let found = barrier(channel, self.first).await.expect("a count");
            (found <= ready).then_some(())
        })
        .await;
    }

    /// Gets what has not expired. Nothing may be got whose time was over before the broker was killed.
    async fn get_all(&self, channel: &Channel, findings: &mut Findings) -> lapin::Result<Vec<(u64, bool)>> {
        let crashed_at = *self.crashed_at.lock().unwrap();
        let mut taken = Vec::new();
        loop {
            let asked = Instant::now();
            let Some(got) = channel.basic_get(self.first.into(), BasicGetOptions::default()).await? else {
                return Ok(taken);
            };
            let number = number_of(&got.data).expect("a whole body");
            if self
                .life(number)
                .is_some_and(|life| asked > crashed_at + life + CLOCK_GRACE)
            {
                findings.object(format!("{}: {number} had expired and was delivered", self.first));
            }
            taken.push((number, got.redelivered));
        }
    }

    /// Gets the dead letters. On its way from queue to queue a message is in neither for a moment, so what is owed is waited for.
    async fn get_second(&self, channel: &Channel, first: &[(u64, bool)]) -> lapin::Result<Vec<(u64, bool)>> {
        let mut missing: HashSet<u64> = self.ledger.lock().unwrap().owed().into_iter().collect();
        missing.retain(|number| first.binary_search_by_key(number, |(number, _)| *number).is_err());
        let (mut taken, began) = (Vec::new(), Instant::now());
        loop {
            match channel
                .basic_get(self.second.as_str().into(), BasicGetOptions::default())
                .await?
            {
                Some(got) => {
                    let number = number_of(&got.data).expect("a whole body");
                    missing.remove(&number);
                    taken.push((number, got.redelivered));
                }
                None if missing.is_empty() || began.elapsed() > MOVE_PATIENCE => return Ok(taken),
                None => {}
            }
        }
    }

    /// How long a message may live, if that ends while anybody looks.
    fn life(&self, number: u64) -> Option<Duration> {
        match self.rule {
            Rule::Length => None,
            Rule::TimeOfQueue => Some(LIFE),
            Rule::TimeOfMessage => (number % 3 == 1).then_some(LIFE),
        }
    }

    fn check_rule(&self, first: &[(u64, bool)], second: &[(u64, bool)], findings: &mut Findings) {
        let numbers = |found: &[(u64, bool)]| -> Vec<u64> { found.iter().map(|(number, _)| *number).collect() };
        let (first, second) = (numbers(first), numbers(second));
        if !first.is_sorted() {
            findings.object(format!("{}: out of order", self.first));
        }
        if self.rule == Rule::Length {
            if second.iter().max() >= first.iter().min() && !first.is_empty() && !second.is_empty() {
                findings.object(format!("{}: not the oldest left", self.first));
            }
            return;
        }
        let sent = self.sent.lock().unwrap();
        for number in second {
            let elapsed = sent.get(&number).map(Instant::elapsed);
            match (self.life(number), elapsed) {
                (None, _) => findings.object(format!("{}: {number} left and had not expired", self.first)),
                (Some(life), Some(elapsed)) if elapsed < life => {
                    findings.object(format!("{}: {number} expired after {elapsed:?}", self.first));
                }
                _ => {}
            }
        }
    }
}

fn expiration(number: u64) -> Option<ShortString> {
    match number % 3 {
        0 => None,
        1 => Some(LIFE.as_millis().to_string().into()),
        _ => Some(HOUR_MILLIS.into()),
    }
}
