//! Messages that expire among others, in memory and on disk, in a queue of limited length, under random operations: each leaves
//! the queue once, and none is handed out when its time is over.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use proptest::prelude::*;

use super::super::*;

/// Its number, whether it is persistent, and how long it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mortal(u64, bool, Option<u64>);

impl QueueMessage for Mortal {
    fn body_len(&self) -> usize {
        10
    }

    fn is_persistent(&self) -> bool {
        self.1
    }

    fn priority(&self) -> u8 {
        (self.0 % 3) as u8
    }

    fn memory_size(&self) -> usize {
        10
    }

    fn time_to_live_millis(&self) -> Option<u64> {
        self.2
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Publish(Vec<(bool, Option<u64>)>),
    Pass(u64),
    Due,
    Load(usize),
    Search(usize),
    Get,
    Consume,
    Cancel,
    Requeue(usize),
    Ack(usize),
    Reject(usize),
    Room(u64),
    Limit(Option<u64>),
    Purge,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let message = (any::<bool>(), prop::option::weighted(0.7, 0..50_u64));
    let operation = prop_oneof![
        6 => prop::collection::vec(message, 1..12).prop_map(Operation::Publish),
        4 => (0..20_u64).prop_map(Operation::Pass),
        6 => Just(Operation::Due),
        4 => (0..5_usize).prop_map(Operation::Load),
        6 => (1..5_usize).prop_map(Operation::Search),
        2 => Just(Operation::Get),
        1 => Just(Operation::Consume),
        1 => Just(Operation::Cancel),
        2 => any::<usize>().prop_map(Operation::Requeue),
        2 => any::<usize>().prop_map(Operation::Ack),
        1 => any::<usize>().prop_map(Operation::Reject),
        1 => (0..300_u64).prop_map(Operation::Room),
        1 => prop::option::of(0..8_u64).prop_map(Operation::Limit),
        1 => Just(Operation::Purge),
    ];
    prop::collection::vec(operation, 1..120)
}

#[derive(Default)]
struct Outside {
    now: u64,
    stored: BTreeMap<u64, (Mortal, History)>,
    loads: Vec<Load>,
    searches: Vec<(Search, Found<Mortal>)>,
    search: Option<Search>,
    held: Vec<(Slot, Position, Mortal)>,
    dropped: BTreeSet<u64>,
    rejected: Vec<u64>,
    deadlines: BTreeMap<u64, u64>,
}

impl Outside {
    fn store(&mut self, position: Position, message: &Mortal, expires_at: ExpiresAt) {
        let history = History {
            expires_at,
            ..History::default()
        };
        let before = self.stored.insert(position.0, (*message, history));
        assert!(before.is_none());
    }

    fn is_in_time(&self, message: &Mortal) -> bool {
        self.deadlines.get(&message.0).is_none_or(|at| *at > self.now)
    }
}

impl Sink<Mortal, ()> for Outside {
    fn now_millis(&mut self) -> u64 {
        self.now
    }

    fn deliver(&mut self, _: &(), delivery: Delivery<'_, Mortal>) -> Accept {
        // What lives no time at all may go to a consumer that is ready.
        let is_new = !delivery.redelivered && delivery.message.2 == Some(0);
        assert!(is_new || self.is_in_time(delivery.message));
        self.held.push((delivery.slot, delivery.position, *delivery.message));
        Accept::Taken
    }

    fn persist(&mut self, position: Position, message: &Mortal, expires_at: ExpiresAt) {
        self.store(position, message, expires_at);
    }

    fn spill(&mut self, position: Position, message: &Mortal, expires_at: ExpiresAt) {
        self.store(position, message, expires_at);
    }

    fn load(&mut self, load: Load) {
        self.loads.push(load);
    }

    fn search(&mut self, search: Search) {
        self.search = Some(search);
    }

    fn late(&mut self, _: &(), _: Slot, _: Position) {
        panic!("nobody is late");
    }

    fn settle_spilled(&mut self, position: Position, _: &Mortal) {
        self.stored.remove(&position.0).unwrap();
    }

    fn settle(&mut self, position: Position, _: usize) {
        self.stored.remove(&position.0).unwrap();
    }

    fn purge(&mut self, below: Position, kept: Vec<(Position, usize)>) {
        let kept: BTreeSet<u64> = kept.into_iter().map(|(position, _)| position.0).collect();
        self.stored
            .retain(|position, _| *position >= below.0 || kept.contains(position));
    }

    fn delivered_up_to(&mut self, _: Position) {}

    fn requeued(&mut self, _: Position, _: u32) {}

    fn dropped(&mut self, message: Mortal, reason: DropReason) {
        let is_expected = match reason {
            DropReason::Expired => !self.is_in_time(&message),
            // It may have been in time when it left, and read later.
            DropReason::MaxLength => true,
            DropReason::Rejected => self.rejected.contains(&message.0),
            DropReason::DeliveryLimit => false,
        };
        assert!(is_expected, "{message:?} {reason:?}");
        assert!(self.dropped.insert(message.0), "{message:?} was dropped twice");
    }
}

struct Story {
    queue: Queue<Mortal, ()>,
    outside: Outside,
    consumer: Option<ConsumerKey>,
    published: u64,
    settled: usize,
    purged: usize,
    limit: Option<u64>,
}

impl Story {
    fn act(&mut self, operation: Operation) {
        let Story { queue, outside, .. } = self;
        match operation {
            Operation::Publish(messages) => {
                let mut batch = Vec::new();
                for (persistent, time_to_live) in messages {
                    batch.push(Mortal(self.published, persistent, time_to_live));
                    let deadline = time_to_live.map(|millis| outside.now + millis);
                    outside.deadlines.extend(deadline.map(|at| (self.published, at)));
                    self.published += 1;
                }
                queue.publish(batch, outside);
            }
            Operation::Pass(millis) => outside.now += millis,
            Operation::Due => queue.do_what_is_due(outside),
            Operation::Load(count) => self.load(count),
            Operation::Search(count) => self.search(count),
            Operation::Get => {
                if let GetOutcome::Got(got) = queue.get(false, outside).unwrap() {
                    assert!(outside.is_in_time(&got.message));
                    outside.held.push((got.slot, got.position, got.message));
                }
            }
            Operation::Consume if self.consumer.is_none() => {
                let key = queue.add_consumer(ConsumerSpec {
                    handle: (),
                    no_ack: false,
                    prefetch_count: 3,
                    exclusive: false,
                    priority: 0,
                    timeout_millis: None,
                });
                self.consumer = key.ok();
                queue.resume(self.consumer.unwrap(), outside);
            }
            Operation::Consume => {}
            Operation::Cancel => drop(self.consumer.take().map(|key| queue.remove_consumer(key, outside))),
            Operation::Requeue(which) | Operation::Ack(which) if !outside.held.is_empty() => {
                let index = which % outside.held.len();
                let (slot, position, _) = outside.held.remove(index);
                if matches!(operation, Operation::Ack(_)) {
                    assert_eq!(queue.ack([(slot, position)], outside), 0);
                    self.settled += 1;
                } else {
                    assert_eq!(queue.requeue([(slot, position)], true, outside), 0);
                }
            }
            Operation::Reject(which) if !outside.held.is_empty() => {
                let (slot, position, message) = outside.held.remove(which % outside.held.len());
                outside.rejected.push(message.0);
                assert_eq!(queue.reject([(slot, position)], outside), 0);
            }
            Operation::Requeue(_) | Operation::Ack(_) | Operation::Reject(_) => {}
            Operation::Room(bytes) => queue.allow(bytes),
            Operation::Limit(messages) => {
                self.limit = messages;
                let limit = LengthLimit {
                    messages,
                    ..LengthLimit::default()
                };
                queue.limit_length(limit, outside);
            }
            Operation::Purge => self.purged += queue.purge(outside),
        }
        self.queue.release_given_up(&mut self.outside);
        self.check();
    }

    fn load(&mut self, count: usize) {
        if self.outside.loads.is_empty() {
            return;
        }
        let load = self.outside.loads.remove(0);
        let stored = self.outside.stored.range(load.from.0..load.until.0);
        let mut messages: Vec<_> = stored
            .map(|(position, (message, history))| (Position(*position), *history, *message))
            .filter(|(.., message)| load.wants(message))
            .collect();
        // At least one, for a load that brings nothing would be asked for again at once.
        let count = count.max(1);
        let until = messages.get(count).map_or(load.until, |(position, ..)| *position);
        messages.truncate(count);
        // What was spilled is not kept in the store when it is in memory again.
        let spilled = messages
            .iter()
            .filter(|(.., message)| load.of == LoadOf::Paged && !message.is_persistent());
        for (position, ..) in spilled {
            self.outside.stored.remove(&position.0);
        }
        self.queue.loaded(load, Loaded { messages, until }, &mut self.outside);
    }

    /// Reads for a search, or takes the answer of one that was read for before: other things happen in between.
    fn search(&mut self, count: usize) {
        let Story { queue, outside, .. } = self;
        if let Some((_, found)) = outside.searches.pop() {
            queue.found(found, outside);
            return;
        }
        let Some(search) = outside.search.take() else { return };
        // A store that was told of what it found does not show it again, though somebody may have it.
        let is_held = |position: u64| outside.held.iter().any(|(_, held, _)| held.0 == position);
        let stored = outside.stored.range(search.from.0..search.until.0);
        let stored = stored.filter(|(position, _)| !is_held(**position));
        let expires = |history: &History| history.expires_at.map_or(u64::MAX, NonZeroU64::get);
        let (found, others): (Vec<_>, Vec<_>) =
            stored.partition(|(_, (_, history))| expires(history) <= search.now_millis);
        let left = found.iter().skip(count).chain(&others);
        let found = Found {
            search,
            next_millis: left.map(|(_, (_, history))| expires(history)).min().unwrap_or(u64::MAX),
            messages: found
                .iter()
                .take(count)
                .map(|(position, (message, _))| (Position(**position), *message))
                .collect(),
        };
        outside.searches.push((search, found));
    }

    fn check(&self) {
        let counts = self.queue.counts();
        assert_eq!(counts.unacked, self.outside.held.len());
        let gone = self.outside.dropped.len()
            + self.queue.given_up.as_ref().map_or(0, |leaving| leaving.len())
            + self.settled
            + self.purged;
        assert_eq!(counts.ready + counts.unacked + gone, self.published as usize);
        assert_eq!(counts.ready_bytes, 10 * counts.ready as u64);
        let fits = self.limit.is_none_or(|most| counts.ready as u64 <= most);
        assert!(fits || !self.outside.loads.is_empty(), "{counts:?}");
    }

    /// When all time is over, nothing that expires is left, without anybody consuming.
    fn end(&mut self) {
        self.act(Operation::Cancel);
        self.outside.now += 1000;
        for _ in 0..2 * self.published + 20 {
            for operation in [
                Operation::Due,
                Operation::Search(3),
                Operation::Search(3),
                Operation::Load(9),
            ] {
                self.act(operation);
            }
        }
        assert_eq!(self.queue.next_due_millis(), u64::MAX);
        assert!(self.queue.given_up.is_none());
        while self.queue.counts().ready > 0 {
            self.act(Operation::Load(9));
            if let GetOutcome::Got(got) = self.queue.get(true, &mut self.outside).unwrap() {
                self.settled += 1;
                assert!(self.outside.is_in_time(&got.message));
            }
        }
    }
}

proptest! {
    #[test]
    fn every_message_leaves_once_and_none_is_handed_out_when_it_has_expired(
        operations in operations(), max_priority in 0..3_u8,
    ) {
        let mut story = Story {
            queue: Queue::new(QueueOptions { durable: true, max_priority, ..QueueOptions::default() }),
            outside: Outside { now: 1000, ..Outside::default() },
            consumer: None,
            published: 0,
            settled: 0,
            purged: 0,
            limit: None,
        };
        story.queue.allow(100);
        story.queue.want_dead_letters(true);
        operations.into_iter().for_each(|operation| story.act(operation));
        story.end();
    }
}
