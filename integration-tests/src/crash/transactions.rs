//! Transactions: all of one is there, or nothing.

use super::Findings;
use super::ledger::{QueueLedger, number_of};
use super::workers::{Publisher, Target, open, publish};
use crate::random::Random;
use lapin::options::*;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

pub const EXCHANGE: &str = "tx";

/// A transaction takes a message out of `source` and puts some into both `copies`.
pub struct Transactions {
    pub source: Mutex<QueueLedger>,
    pub copies: [Mutex<QueueLedger>; 2],
    feeder: Publisher,
    pub publisher: Publisher,
    /// The one that was not answered.
    under_way: Mutex<Option<UnderWay>>,
}

struct UnderWay {
    published: Vec<u64>,
    taken: Option<u64>,
}

impl Transactions {
    pub fn new(feeder: u64, publisher: u64) -> Self {
        Self {
            source: Mutex::new(QueueLedger::new("tx.source")),
            copies: ["tx.a", "tx.b"].map(|name| Mutex::new(QueueLedger::new(name))),
            feeder: Publisher::new(feeder),
            publisher: Publisher::new(publisher),
            under_way: Mutex::new(None),
        }
    }

    /// Feeds the source and commits or rolls back, for ever.
    pub async fn run(&self, amqp: SocketAddr, mut random: Random) -> lapin::Result<()> {
        let (connection, channel) = open(amqp).await?;
        channel.tx_select().await?;
        let feeding = connection.create_channel().await?;
        feeding.confirm_select(ConfirmSelectOptions::default()).await?;
        let sources = [&self.source];
        let source = Target::queue("tx.source", &sources);
        loop {
            let (number, confirm) = self.feeder.publish(&feeding, &source).await?;
            self.feeder.confirm(number, confirm, &source).await?;
            let rolls_back = random.chance(20);
            let mut under_way = UnderWay {
                published: Vec::new(),
                taken: None,
            };
            for _ in 0..1 + random.below(5) {
                let number = self.publisher.next();
                for copy in &self.copies {
                    // Until it is committed it must not be seen.
                    let mut copy = copy.lock().unwrap();
                    copy.sending(number);
                    copy.removed(number);
                }
                publish(&channel, EXCHANGE, "", number).await?;
                under_way.published.push(number);
            }
            if rolls_back {
                channel.tx_rollback().await?;
                continue;
            }
            if random.chance(60) {
                let got = channel
                    .basic_get("tx.source".into(), BasicGetOptions::default())
                    .await?;
                if let Some(got) = got {
                    let number = number_of(&got.data).expect("a whole body");
                    self.source.lock().unwrap().delivered(number);
                    under_way.taken = Some(number);
                    got.ack(BasicAckOptions::default()).await?;
                }
            }
            self.commit(&channel, under_way).await?;
        }
    }

    async fn commit(&self, channel: &lapin::Channel, transaction: UnderWay) -> lapin::Result<()> {
        if let Some(number) = transaction.taken {
            self.source.lock().unwrap().settling(number);
        }
        for number in &transaction.published {
            self.each_copy(|copy| copy.sending(*number));
        }
        *self.under_way.lock().unwrap() = Some(transaction);
        channel.tx_commit().await?;
        let Some(transaction) = self.under_way.lock().unwrap().take() else {
            return Ok(());
        };
        for number in &transaction.published {
            self.each_copy(|copy| copy.confirmed(*number));
        }
        let published = transaction.published.len() as u64;
        self.publisher.confirmed.fetch_add(published, Ordering::Relaxed);
        if let Some(number) = transaction.taken {
            self.source.lock().unwrap().removed(number);
        }
        Ok(())
    }

    fn each_copy(&self, mut change: impl FnMut(&mut QueueLedger)) {
        for copy in &self.copies {
            change(&mut copy.lock().unwrap());
        }
    }

    /// Looks whether the transaction that was not answered is there as a whole or not at all.
    pub fn check(&self, source: &[(u64, bool)], copies: [&[(u64, bool)]; 2], findings: &mut Findings) {
        let Some(transaction) = self.under_way.lock().unwrap().take() else {
            return;
        };
        let numbers = |found: &[(u64, bool)]| -> HashSet<u64> { found.iter().map(|(number, _)| *number).collect() };
        let present = copies.map(|found| {
            let found = numbers(found);
            transaction
                .published
                .iter()
                .filter(|number| found.contains(number))
                .count()
        });
        let all = transaction.published.len();
        let taken_is_back = transaction.taken.map(|number| numbers(source).contains(&number));
        let committed = present == [all, all] && taken_is_back != Some(true);
        let undone = present == [0, 0] && taken_is_back != Some(false);
        if !committed && !undone {
            findings.object(format!(
                "half a transaction: {present:?} of {all} messages, the one it took is back: {taken_is_back:?}"
            ));
        }
    }
}
