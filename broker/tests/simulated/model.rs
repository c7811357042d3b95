//! What must hold, told by what clients sent and heard.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use leveret_storage::Crash;

/// One message: who published it, and as which of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    pub publisher: usize,
    pub sequence: u64,
}

impl Id {
    /// The beginning of the body; what follows only makes it longer.
    pub fn body(self) -> String {
        format!("{}-{}-", self.publisher, self.sequence)
    }

    pub fn of_body(body: &[u8]) -> Id {
        let text = std::str::from_utf8(body).unwrap();
        let mut parts = text.split('-');
        let mut number = || parts.next().unwrap().parse().unwrap();
        Id {
            publisher: number() as usize,
            sequence: number(),
        }
    }
}

/// A message in one of its queues.
pub type Entry = (&'static str, Id);

/// A publish, or a transaction of them, that waits for its answer.
#[derive(Clone, Default)]
pub struct Promise {
    /// Those that survive a crash once they are confirmed.
    pub durable: Vec<Entry>,
    pub transient: Vec<Entry>,
    /// Acknowledged by the same transaction.
    pub acked: Option<Entry>,
}

/// Something that reaches the disk in two steps.
#[derive(Clone, Default)]
struct Written {
    /// The broker knows it.
    done: BTreeSet<Entry>,
    /// It is written: a killed broker finds it again.
    written: BTreeSet<Entry>,
    /// It is synced: it survives a loss of power.
    synced: BTreeSet<Entry>,
}

impl Written {
    fn write(&mut self, synced: bool) {
        self.written.extend(&self.done);
        if synced {
            self.synced.clone_from(&self.written);
        }
    }

    /// What a crash leaves at the least; it is all that is left.
    fn crash(&mut self, crash: Crash) -> &BTreeSet<Entry> {
        let left = if crash == Crash::Killed {
            std::mem::take(&mut self.written)
        } else {
            std::mem::take(&mut self.synced)
        };
        *self = Written {
            done: left.clone(),
            written: left.clone(),
            synced: left,
        };
        &self.synced
    }
}

/// How often what is tested for really happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub confirmed: usize,
    pub delivered: usize,
    pub redelivered: usize,
    pub recovered: usize,
    pub crashes: usize,
    pub transactions: usize,
}

impl Seen {
    pub fn add(&mut self, other: Seen) {
        self.confirmed += other.confirmed;
        self.delivered += other.delivered;
        self.redelivered += other.redelivered;
        self.recovered += other.recovered;
        self.crashes += other.crashes;
        self.transactions += other.transactions;
    }

    /// A simulation in which nothing happens keeps every promise.
    pub fn assert_something_happened(self) {
        let Seen {
            confirmed,
            delivered,
            redelivered,
            recovered,
            crashes,
            transactions,
        } = self;
        let least = [confirmed, delivered, redelivered, recovered, crashes, transactions]
            .into_iter()
            .min();
        assert!(least > Some(10), "too little happened: {self:?}");
    }
}

/// All that is known.
#[derive(Default)]
pub struct Model {
    /// Confirmed, and persistent in a durable queue.
    confirmed: BTreeSet<Entry>,
    /// Confirmed since the last crash.
    confirmed_in_life: BTreeSet<Entry>,
    /// A client said that it is done with them: they may be gone.
    given_up: BTreeSet<Entry>,
    settled: Written,
    delivered: Written,
    /// Handed to somebody since the last crash.
    seen_in_life: BTreeSet<Entry>,
    settled_in_life: BTreeSet<Entry>,
    /// Who has them now, by client and delivery tag.
    outstanding: HashMap<Entry, (usize, u64)>,
    /// The last message that came to a client for the first time, by client, queue and publisher.
    last_new: HashMap<(usize, &'static str, usize), Id>,
    /// How much happened, to show that something did.
    pub seen: Seen,
}

impl Model {
    pub fn confirm(&mut self, promise: &Promise) {
        self.seen.confirmed += promise.durable.len();
        self.seen.transactions += usize::from(promise.acked.is_some());
        self.confirmed.extend(&promise.durable);
        self.confirmed_in_life
            .extend(promise.durable.iter().chain(&promise.transient));
        if let Some(acked) = promise.acked {
            self.settled.done.insert(acked);
            self.settled.written.insert(acked);
            self.settled.synced.insert(acked);
        }
    }

    /// A client read a message, which it has now until it settles it.
    pub fn deliver(&mut self, entry: Entry, client: usize, delivery_tag: u64, redelivered: bool) {
        assert!(
            !self.settled_in_life.contains(&entry),
            "{entry:?} is delivered after it was settled"
        );
        let before = self.outstanding.insert(entry, (client, delivery_tag));
        assert_eq!(
            before, None,
            "{entry:?} is delivered to client {client} while another has it"
        );
        let again = !self.seen_in_life.insert(entry);
        assert!(
            redelivered || !again,
            "{entry:?} is delivered again without the redelivered flag"
        );
        self.seen.delivered += 1;
        self.seen.redelivered += usize::from(redelivered);
        self.delivered.done.insert(entry);
        let (queue, id) = entry;
        if !redelivered && let Some(before) = self.last_new.insert((client, queue, id.publisher), id) {
            assert!(before < id, "{id:?} comes after {before:?} from {queue}");
        }
    }

    /// The broker took the client's word that it is done with it.
    pub fn settle(&mut self, entry: Entry) {
        self.given_up.insert(entry);
        self.settled.done.insert(entry);
        self.settled_in_life.insert(entry);
        self.outstanding.remove(&entry);
    }

    pub fn requeue(&mut self, entry: Entry) {
        self.outstanding.remove(&entry);
    }

    /// All that a client had goes back.
    pub fn lose_client(&mut self, client: usize) {
        self.outstanding.retain(|_, (holder, _)| *holder != client);
        self.last_new.retain(|(holder, _, _), _| *holder != client);
    }

    /// What a client has, by delivery tag.
    pub fn held_by(&self, client: usize) -> BTreeMap<u64, Entry> {
        let held = self.outstanding.iter().filter(|(_, (holder, _))| *holder == client);
        held.map(|(entry, (_, delivery_tag))| (*delivery_tag, *entry)).collect()
    }

    /// The store has committed.
    pub fn commit(&mut self, lazily: bool, synced: bool) {
        self.delivered.write(synced);
        if lazily {
            self.settled.write(synced);
        }
    }

    /// The broker died and found `left` again, in this order per queue, with the redelivered flag.
    pub fn crash(&mut self, crash: Crash, left: &[(Entry, bool)], unanswered: &[Promise]) {
        let present: BTreeMap<Entry, bool> = left.iter().copied().collect();
        assert_eq!(present.len(), left.len(), "a message was recovered twice");
        for entry in self.confirmed.difference(&self.given_up) {
            assert!(present.contains_key(entry), "{entry:?} was confirmed and is lost");
        }
        for entry in self.settled.crash(crash) {
            assert!(
                !present.contains_key(entry),
                "{entry:?} was settled on the disk and is back"
            );
        }
        for entry in self.delivered.crash(crash) {
            let flag = present.get(entry).copied().unwrap_or(true);
            assert!(
                flag,
                "{entry:?} was delivered, which is on the disk, and is back without the redelivered flag"
            );
        }
        assert_in_order(left.iter().map(|(entry, _)| *entry));
        for promise in unanswered {
            self.check_all_or_nothing(promise, &present);
        }
        self.seen.crashes += 1;
        self.seen.recovered += left.len();
        self.confirmed.retain(|entry| present.contains_key(entry));
        self.confirmed_in_life.clear();
        self.seen_in_life.clear();
        self.settled_in_life.clear();
        self.outstanding.clear();
        self.last_new.clear();
    }

    /// A transaction whose commit was not answered happened wholly or not at all.
    fn check_all_or_nothing(&self, promise: &Promise, present: &BTreeMap<Entry, bool>) {
        let untouched = promise.durable.iter().filter(|entry| !self.given_up.contains(entry));
        let fates: BTreeSet<bool> = untouched.map(|entry| present.contains_key(entry)).collect();
        assert!(fates.len() < 2, "half a transaction happened: {:?}", promise.durable);
        if let (Some(happened), Some(acked)) = (fates.first(), promise.acked)
            && self.confirmed.contains(&acked)
        {
            assert_eq!(
                present.contains_key(&acked),
                !happened,
                "{acked:?} and the rest of its transaction differ"
            );
        }
    }

    /// The end: `left` is what a last client got from each queue, in this order.
    pub fn finish(&self, left: &[Entry]) {
        let present: BTreeSet<Entry> = left.iter().copied().collect();
        assert_eq!(present.len(), left.len(), "a message is there twice");
        for entry in self.confirmed.union(&self.confirmed_in_life) {
            let there = present.contains(entry) || self.given_up.contains(entry);
            assert!(there, "{entry:?} was confirmed and is lost");
        }
        for entry in &self.settled_in_life {
            assert!(!present.contains(entry), "{entry:?} was settled and is there");
        }
        assert_in_order(left.iter().copied());
    }
}

/// The messages of one publisher stand in each queue in the order in which it published them.
fn assert_in_order(entries: impl Iterator<Item = Entry>) {
    let mut last: HashMap<(&str, usize), Id> = HashMap::new();
    for (queue, id) in entries {
        let before = last.insert((queue, id.publisher), id);
        assert!(
            before.is_none_or(|before| before < id),
            "{id:?} stands behind {before:?} in {queue}"
        );
    }
}
