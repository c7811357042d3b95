//! Cycles of work, a kill, a start, and a look at everything.

use super::Findings;
use super::attempts::Attempts;
use super::dead_letters::{DeadLetters, GRAVES};
use super::given_up::{GivenUp, Rule};
use super::later::Later;
use super::ledger::QueueLedger;
use super::life::{self, Lives, declare_exchange, declare_queue};
use super::once::Once;
use super::transactions::{self, Transactions};
use super::workers::{Publisher, Target, consume, open, publish_transient, purge, settle, take_all};
use crate::Broker;
use crate::broker::binary;
use crate::client::arguments;
use crate::random::Random;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ExchangeKind};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long clients may take to see that their broker is gone.
const NOTICE_PATIENCE: Duration = Duration::from_secs(5);
/// How long all queues may take to be emptied after a crash, on a busy machine.
const LOOK_PATIENCE: Duration = Duration::from_secs(240);

/// What queues may hold in memory, in octets: nearly nothing, so that they are on disk only, or what they have by default.
const BUDGETS: [&str; 3] = ["0", "200000", "134217728"];

/// So often the store rewrites chunks and frees disk space all the time, where it is most likely killed in the middle of it.
const RESTLESS_PERCENT: usize = 60;

/// So often `leveret check` looks at the store before the broker does.
const CHECKED_PERCENT: usize = 25;

/// Bound to the queues of [`Books::fanned`].
const FANOUT: &str = "fan";

/// A queue with priorities, and how many it has.
const RANKED: &str = "ranked";
const RANKS: u64 = 4;

/// All that clients know, over all runs of the broker.
struct Books {
    /// Published to directly, and consumed in every way.
    work: Mutex<QueueLedger>,
    /// Get the same messages from an exchange; the first has consumers, the second waits for the look afterwards.
    fanned: [Mutex<QueueLedger>; 2],
    ranked: Mutex<QueueLedger>,
    purged: Mutex<QueueLedger>,
    purge_under_way: Mutex<Option<Vec<u64>>>,
    transactions: Transactions,
    lives: Lives,
    dead_letters: DeadLetters,
    given_up: [GivenUp; 3],
    attempts: [Attempts; 2],
    once: Once,
    later: Later,
    transient: Publisher,
    publishers: [Publisher; 4],
}

impl Books {
    fn new() -> Self {
        let ledger = |name| Mutex::new(QueueLedger::new(name));
        Self {
            work: ledger("work"),
            fanned: ["fan.a", "fan.b"].map(ledger),
            ranked: Mutex::new(QueueLedger::ranked(RANKED, RANKS)),
            purged: ledger("purged"),
            purge_under_way: Mutex::new(None),
            transactions: Transactions::new(4, 5),
            lives: Lives::new(6),
            dead_letters: DeadLetters::new(7),
            given_up: [
                GivenUp::new(Rule::Length, "short", 9),
                GivenUp::new(Rule::TimeOfQueue, "brief", 10),
                GivenUp::new(Rule::TimeOfMessage, "mortal", 11),
            ],
            attempts: [Attempts::new("tries", false, 12), Attempts::new("retries", true, 13)],
            once: Once::new(15),
            later: Later::new(16),
            transient: Publisher::new(8),
            publishers: [1, 2, 3, 14].map(Publisher::new),
        }
    }

    fn ledgers(&self) -> impl Iterator<Item = &Mutex<QueueLedger>> {
        [&self.work, &self.purged, &self.transactions.source]
            .into_iter()
            .chain(&self.fanned)
            .chain(&self.transactions.copies)
    }

    async fn declare_all(&self, broker: &Broker) -> lapin::Result<()> {
        let (connection, channel) = open(broker.amqp()).await?;
        declare_exchange(&channel, FANOUT, ExchangeKind::Fanout).await?;
        declare_exchange(&channel, transactions::EXCHANGE, ExchangeKind::Fanout).await?;
        declare_exchange(&channel, life::EXCHANGE, ExchangeKind::Direct).await?;
        for ledger in self.ledgers() {
            let name = ledger.lock().unwrap().name.clone();
            declare_queue(&channel, &name).await?;
            let exchange = match name.as_str() {
                "fan.a" | "fan.b" => FANOUT,
                "tx.a" | "tx.b" => transactions::EXCHANGE,
                _ => continue,
            };
            let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
            channel
                .queue_bind(name.as_str().into(), exchange.into(), "".into(), options, arguments)
                .await?;
        }
        let ranks = arguments([("x-max-priority", AMQPValue::LongInt(RANKS as i32 - 1))]);
        let options = QueueDeclareOptions::durable();
        channel.queue_declare(RANKED.into(), options, ranks).await?;
        self.dead_letters.declare(&channel).await?;
        for given_up in &self.given_up {
            given_up.declare(&channel).await?;
        }
        for attempts in &self.attempts {
            attempts.declare(&channel).await?;
        }
        self.once.declare(&channel).await?;
        self.later.declare(&channel).await?;
        connection.close(200, "Goodbye".into()).await
    }

    /// All clients at once, until the broker is gone.
    async fn work(&self, broker: &Broker, random: &mut Random) {
        let amqp = broker.amqp();
        let [direct, other, fan, ranked] = &self.publishers;
        let [first, second] = &self.fanned;
        let (work, all, by_rank) = ([&self.work], [first, second], [&self.ranked]);
        let to_work = Target::queue("work", &work);
        let to_all = Target::exchange(FANOUT, "", &all);
        let to_ranks = Target {
            properties: |number| BasicProperties::default().with_priority((number % RANKS) as u8),
            ..Target::queue(RANKED, &by_rank)
        };
        let mut seeded = || Random::new(random.number() | 1);
        let consumers = [seeded(), seeded(), seeded()];
        let [one, two, three] = consumers;
        let (transactions, lives, purges) = (seeded(), seeded(), seeded());
        let (doomed, rejects, graves, transient) = (seeded(), seeded(), seeded(), seeded());
        let [short, brief, mortal] = &self.given_up;
        let [tries, retries] = &self.attempts;
        let under_way = &self.purge_under_way;
        let dead_letters = &self.dead_letters;
        let _ = tokio::join!(
            direct.run(amqp, &to_work),
            other.run(amqp, &to_work),
            fan.run(amqp, &to_all),
            publish_transient(amqp, "work", &self.transient, transient),
            consume(amqp, "work", &self.work, one),
            consume(amqp, "work", &self.work, two),
            consume(amqp, "fan.a", first, three),
            dead_letters.feed(amqp, doomed),
            dead_letters.reject(amqp, rejects),
            consume(amqp, GRAVES, &dead_letters.ledger, graves),
            purge(amqp, &self.purged, under_way, &self.transactions.publisher, purges),
            self.transactions.run(amqp, transactions),
            self.lives.run(amqp, lives),
            ranked.run(amqp, &to_ranks),
            consume(amqp, RANKED, &self.ranked, seeded()),
            short.run(amqp, seeded()),
            brief.run(amqp, seeded()),
            mortal.run(amqp, seeded()),
            tries.run(amqp, seeded()),
            retries.run(amqp, seeded()),
            self.once.run(amqp, seeded()),
            self.later.run(amqp, seeded()),
        );
    }

    fn crashed(&self, at: Instant, orderly: bool) {
        for ledger in self
            .ledgers()
            .chain([&self.ranked, &self.once.ledger, &self.later.ledger])
        {
            ledger.lock().unwrap().crashed(at, orderly);
        }
        self.lives.crashed(at, orderly);
        self.dead_letters.crashed(at, orderly);
        self.given_up.iter().for_each(|given_up| given_up.crashed(at, orderly));
        self.attempts.iter().for_each(|attempts| attempts.crashed(at, orderly));
    }

    async fn check(&self, broker: &Broker, random: &mut Random, findings: &mut Findings) -> lapin::Result<()> {
        let (connection, _channel) = open(broker.amqp()).await?;
        let source = drain(&connection, &self.transactions.source, findings).await?;
        let [a, b] = &self.transactions.copies;
        let copies = [
            drain(&connection, a, findings).await?,
            drain(&connection, b, findings).await?,
        ];
        self.transactions.check(&source, [&copies[0], &copies[1]], findings);
        let purged = drain(&connection, &self.purged, findings).await?;
        if let Some(all) = self.purge_under_way.lock().unwrap().take() {
            let left = purged.iter().filter(|(number, _)| all.contains(number)).count();
            if left != 0 && left != all.len() {
                findings.object(format!("half a purge: {left} of {} messages are left", all.len()));
            }
        }
        for ledger in [&self.work, &self.ranked, &self.fanned[0], &self.fanned[1]] {
            // A backlog that is left alone must be there after the next crash too.
            if random.chance(60) {
                drain(&connection, ledger, findings).await?;
            }
        }
        self.dead_letters.check(&connection, findings).await?;
        for given_up in &self.given_up {
            given_up.check(&connection, findings).await?;
        }
        for attempts in &self.attempts {
            if random.chance(60) {
                attempts.check(&connection, findings).await?;
            }
        }
        self.once.check(&connection, findings).await?;
        self.later.check(broker, &connection, findings).await?;
        self.lives.check(broker.amqp(), findings).await?;
        connection.close(200, "Goodbye".into()).await
    }

    fn confirmed(&self) -> u64 {
        let publishers = self.publishers.iter();
        let all = publishers.chain([
            &self.transactions.publisher,
            &self.lives.publisher,
            &self.dead_letters.publisher,
            &self.once.publisher,
            &self.later.publisher,
        ]);
        let all = all.chain(self.given_up.iter().map(|given_up| &given_up.publisher));
        let all = all.chain(self.attempts.iter().map(|attempts| &attempts.publisher));
        all.map(|publisher| publisher.confirmed.load(Ordering::Relaxed)).sum()
    }
}

/// Takes and compares all of a queue, and acknowledges it.
async fn drain(
    connection: &Connection,
    ledger: &Mutex<QueueLedger>,
    findings: &mut Findings,
) -> lapin::Result<Vec<(u64, bool)>> {
    let queue = ledger.lock().unwrap().name.clone();
    let channel = connection.create_channel().await?;
    let found = take_all(&channel, &queue).await?;
    settle(&channel, &queue, ledger, &found, findings).await?;
    Ok(found)
}

/// Kills a broker so many times, and adds what was found. Stops at the first cycle that is not clean.
pub async fn run(cycles: u64, random: &mut Random, findings: &mut Findings, progress: impl Fn(&str)) {
    let mut broker = Broker::start();
    let books = Books::new();
    books.declare_all(&broker).await.expect("the first declarations");
    for cycle in 1..=cycles {
        let life = match random.below(10) {
            0 => Duration::from_millis(2_500 + random.below(1_500) as u64),
            1..4 => Duration::from_millis(random.below(60) as u64),
            _ => Duration::from_millis(60 + random.below(900) as u64),
        };
        let orderly = random.chance(8);
        let crashed_at = {
            let mut clients_random = Random::new(random.number() | 1);
            let working = books.work(&broker, &mut clients_random);
            tokio::pin!(working);
            // The clients work until they are killed: this is the one place where time itself is waited for.
            let _ = tokio::time::timeout(life, &mut working).await;
            let crashed_at = Instant::now();
            signal(&broker, orderly);
            // A client that does not notice is given up.
            let _ = tokio::time::timeout(NOTICE_PATIENCE, working).await;
            crashed_at
        };
        let ended = broker.wait_for_exit();
        if orderly && !ended.success() {
            findings.object(format!("an orderly stop ended with {ended}"));
        }
        books.crashed(crashed_at, orderly);
        if random.chance(CHECKED_PERCENT) {
            look_at_store(&broker, findings);
        }
        broker.set("QUEUE_MEMORY_BUDGET", BUDGETS[random.below(BUDGETS.len())]);
        broker.set_restless(random.chance(RESTLESS_PERCENT));
        while random.chance(15) {
            broker.kill_while_starting(random.below(12));
        }
        broker.start_again();
        let checked = tokio::time::timeout(LOOK_PATIENCE, books.check(&broker, random, findings)).await;
        match checked {
            Ok(Ok(())) => {}
            Ok(Err(error)) => findings.object(format!("the look at everything failed: {error}")),
            Err(_) => findings.object(format!("the look at everything took more than {LOOK_PATIENCE:?}")),
        }
        findings.kills += 1;
        findings.confirmed = books.confirmed();
        progress(&format!(
            "cycle {cycle}: {} messages confirmed so far",
            findings.confirmed
        ));
        if !findings.is_clean() {
            progress(&format!(
                "in cycle {cycle}, killed after {life:?}:\n{}",
                broker.log_tail()
            ));
            return;
        }
    }
}

/// Whatever moment the broker was killed at, its store must be sound.
fn look_at_store(broker: &Broker, findings: &mut Findings) {
    let checked = Command::new(binary()).arg("check").arg(broker.data_dir()).output();
    match checked {
        Ok(output) if output.status.success() => {}
        Ok(output) => findings.object(format!("the store: {}", String::from_utf8_lossy(&output.stdout))),
        Err(error) => findings.object(format!("the store cannot be checked: {error}")),
    }
}

/// SIGKILL, or SIGTERM for an orderly stop; returns at once.
fn signal(broker: &Broker, orderly: bool) {
    if orderly {
        broker.terminate()
    } else {
        broker.send_kill()
    }
}
