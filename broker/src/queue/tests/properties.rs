//! What holds after any sequence of operations: the queue does what the naive model does, and the promises hold by
//! themselves.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::model::{Effect, Model};
use super::*;

#[derive(Clone, Debug)]
enum Operation {
    Publish(Vec<bool>),
    Consume {
        prefetch_count: u16,
        no_ack: bool,
        priority: i32,
        exclusive: bool,
    },
    Cancel(usize),
    Refuse(usize),
    Resume(usize),
    Ack(Vec<usize>),
    AckUnknown,
    Reject(Vec<usize>),
    Requeue(Vec<usize>, bool),
    Get(bool),
    Purge,
}

fn operation() -> impl Strategy<Value = Operation> {
    let consume = (0..4u16, prop::bool::weighted(0.2), 0..2i32, prop::bool::weighted(0.05));
    prop_oneof![
        8 => vec(any::<bool>(), 0..12).prop_map(Operation::Publish),
        4 => consume.prop_map(|(prefetch_count, no_ack, priority, exclusive)| {
            Operation::Consume { prefetch_count, no_ack, priority, exclusive }
        }),
        1 => any::<usize>().prop_map(Operation::Cancel),
        2 => any::<usize>().prop_map(Operation::Refuse),
        3 => any::<usize>().prop_map(Operation::Resume),
        8 => vec(any::<usize>(), 1..6).prop_map(Operation::Ack),
        1 => Just(Operation::AckUnknown),
        2 => vec(any::<usize>(), 1..3).prop_map(Operation::Reject),
        4 => (vec(any::<usize>(), 1..6), any::<bool>()).prop_map(|(which, failed)| Operation::Requeue(which, failed)),
        2 => any::<bool>().prop_map(Operation::Get),
        1 => Just(Operation::Purge),
    ]
}

/// Records effects and remembers what only the outside knows.
#[derive(Default)]
struct Outside {
    effects: Vec<Effect>,
    refusing: BTreeSet<usize>,
    slots: BTreeMap<u64, Slot>,
    on_disk: BTreeSet<u64>,
    delivered_up_to: Option<u64>,
    delivered_up_to_calls: usize,
    last_first_delivery: Option<u64>,
}

impl Outside {
    /// Messages seen for the first time come in the order in which they were published.
    fn note_delivery(&mut self, position: u64, slot: Slot, redelivered: bool) {
        if !redelivered {
            assert!(self.last_first_delivery < Some(position), "{position} was overtaken");
            self.last_first_delivery = Some(position);
        }
        if slot != NO_SLOT {
            self.slots.insert(position, slot);
        }
    }
}

impl Sink<Number, usize> for Outside {
    fn deliver(&mut self, consumer: &usize, delivery: Delivery<'_, Number>) -> Accept {
        if self.refusing.contains(consumer) {
            self.effects.push(Effect::Refused { consumer: *consumer });
            return Accept::Refused;
        }
        let Delivery {
            position,
            slot,
            redelivered,
            delivery_count,
            no_ack,
            ..
        } = delivery;
        assert_eq!(no_ack, slot == NO_SLOT);
        let position = position.0;
        self.note_delivery(position, slot, redelivered);
        self.effects.push(Effect::Delivered {
            consumer: *consumer,
            position,
            redelivered,
            delivery_count,
        });
        Accept::Taken
    }

    fn persist(&mut self, position: Position, _message: &Number) {
        assert!(self.on_disk.last().is_none_or(|last| *last < position.0));
        self.on_disk.insert(position.0);
        self.effects.push(Effect::Persist(position.0));
    }

    fn settle(&mut self, position: Position) {
        assert!(
            self.on_disk.remove(&position.0),
            "{position:?} settled, but not on disk"
        );
        self.effects.push(Effect::Settle(position.0));
    }

    fn delivered_up_to(&mut self, position: Position) {
        assert!(self.delivered_up_to < Some(position.0));
        self.delivered_up_to = Some(position.0);
        self.delivered_up_to_calls += 1;
    }

    fn requeued(&mut self, position: Position, delivery_count: u32) {
        assert!(self.on_disk.contains(&position.0));
        self.effects.push(Effect::Requeued(position.0, delivery_count));
    }

    fn dropped(&mut self, message: Number, reason: DropReason) {
        assert_eq!(reason, DropReason::Rejected);
        self.effects.push(Effect::Dropped(message));
    }
}

struct Pair {
    queue: Queue<Number, usize>,
    outside: Outside,
    keys: BTreeMap<usize, ConsumerKey>,
    model: Model,
    published: u64,
    added: usize,
}

impl Pair {
    fn new() -> Self {
        let queue = Queue::new(QueueOptions {
            durable: true,
            first_position: Position(0),
        });
        let (outside, keys, model) = (Outside::default(), BTreeMap::new(), Model::default());
        Self {
            queue,
            outside,
            keys,
            model,
            published: 0,
            added: 0,
        }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Publish(persistent) => self.publish(&persistent),
            Operation::Consume {
                prefetch_count,
                no_ack,
                priority,
                exclusive,
            } => {
                let handle = self.added;
                self.consume(ConsumerSpec {
                    handle,
                    no_ack,
                    prefetch_count,
                    exclusive,
                    priority,
                });
            }
            Operation::Cancel(which) => self.with_consumer(which, Self::cancel),
            Operation::Refuse(which) => self.with_consumer(which, |pair, consumer| {
                pair.outside.refusing.insert(consumer);
                pair.set_refusing(consumer, true);
            }),
            Operation::Resume(which) => self.with_consumer(which, |pair, consumer| {
                pair.outside.refusing.remove(&consumer);
                pair.set_refusing(consumer, false);
                pair.resume(consumer);
            }),
            Operation::Ack(which) => {
                let (positions, messages) = self.pick_unacked(&which);
                self.model.ack(&positions);
                assert_eq!(self.queue.ack(messages, &mut self.outside), 0);
            }
            Operation::AckUnknown => {
                let unknown = [(0, Position(u64::MAX)), (NO_SLOT, Position(0)), (1000, Position(1))];
                assert_eq!(self.queue.ack(unknown, &mut self.outside), 3);
            }
            Operation::Reject(which) => {
                let (positions, messages) = self.pick_unacked(&which);
                self.model.reject(&positions);
                assert_eq!(self.queue.reject(messages, &mut self.outside), 0);
            }
            Operation::Requeue(which, failed) => {
                let (positions, messages) = self.pick_unacked(&which);
                self.model.requeue(&positions, failed);
                assert_eq!(self.queue.requeue(messages, failed, &mut self.outside), 0);
            }
            Operation::Get(no_ack) => self.get(no_ack),
            Operation::Purge => assert_eq!(self.queue.purge(&mut self.outside), self.model.purge()),
        }
        self.check();
    }

    fn publish(&mut self, persistent: &[bool]) {
        let first = self.published;
        let numbers: Vec<_> = (first..)
            .zip(persistent)
            .map(|(n, odd)| Number(n * 2 + u64::from(*odd)))
            .collect();
        self.published += numbers.len() as u64;
        self.model.publish(&numbers);
        let outcome = self.queue.publish(numbers.iter().copied(), &mut self.outside);
        assert_eq!(
            outcome,
            PublishOutcome {
                accepted: numbers.len(),
                rejected: Vec::new()
            }
        );
    }

    fn consume(&mut self, spec: ConsumerSpec<usize>) {
        let handle = spec.handle;
        self.added += 1;
        let is_added = self.model.add(spec.clone());
        let key = self.queue.add_consumer(spec);
        assert_eq!(is_added, key.is_ok());
        if let Ok(key) = key {
            assert!(
                !self.keys.values().any(|other| *other == key),
                "keys are not reused while in use"
            );
            self.keys.insert(handle, key);
            self.resume(handle);
        }
    }

    fn resume(&mut self, consumer: usize) {
        self.model.resume(consumer);
        self.queue.resume(self.keys[&consumer], &mut self.outside);
    }

    fn cancel(&mut self, consumer: usize) {
        self.model.cancel(consumer);
        let key = self.keys.remove(&consumer).unwrap();
        let removed = self.queue.remove_consumer(key);
        assert_eq!(
            removed,
            Some(RemovedConsumer {
                handle: consumer,
                was_last: self.model.clients.is_empty()
            })
        );
        assert_eq!(self.queue.remove_consumer(key), None);
    }

    fn get(&mut self, no_ack: bool) {
        self.model.get(no_ack);
        let Some(got) = self.queue.get(no_ack, &mut self.outside).unwrap() else {
            return;
        };
        let Got {
            position,
            slot,
            redelivered,
            delivery_count,
            ready,
            ..
        } = got;
        self.outside.note_delivery(position.0, slot, redelivered);
        self.outside.effects.push(Effect::Got {
            position: position.0,
            redelivered,
            delivery_count,
            ready,
        });
    }

    fn with_consumer(&mut self, which: usize, then: impl FnOnce(&mut Self, usize)) {
        if !self.model.clients.is_empty() {
            let consumer = self.model.clients[which % self.model.clients.len()].spec.handle;
            then(self, consumer);
        }
    }

    fn set_refusing(&mut self, consumer: usize, refusing: bool) {
        for client in self
            .model
            .clients
            .iter_mut()
            .filter(|client| client.spec.handle == consumer)
        {
            client.refusing = refusing;
        }
    }

    /// Unacked messages in any order, each once.
    fn pick_unacked(&self, which: &[usize]) -> (Vec<u64>, Vec<(Slot, Position)>) {
        let mut positions = Vec::new();
        for which in which.iter().filter(|_| !self.model.unacked.is_empty()) {
            let position = self.model.unacked[which % self.model.unacked.len()].position;
            if !positions.contains(&position) {
                positions.push(position);
            }
        }
        let messages = positions
            .iter()
            .map(|position| (self.outside.slots[position], Position(*position)))
            .collect();
        (positions, messages)
    }

    fn check(&mut self) {
        assert_eq!(
            std::mem::take(&mut self.outside.effects),
            std::mem::take(&mut self.model.effects)
        );
        let in_queue = || self.model.ready.iter().chain(&self.model.unacked);
        let bytes = |list: &[super::model::Held]| list.iter().map(|it| it.number.body_len() as u64).sum::<u64>();
        let expected = Counts {
            ready: self.model.ready.len(),
            unacked: self.model.unacked.len(),
            consumers: self.model.clients.len(),
            ready_bytes: bytes(&self.model.ready),
            unacked_bytes: bytes(&self.model.unacked),
            memory_bytes: in_queue().count() as u64 * 8,
        };
        assert_eq!(self.queue.counts(), expected);
        assert_eq!(
            self.queue.head(),
            self.model.ready.first().map(|message| &message.number)
        );

        let persistent: BTreeSet<_> = in_queue()
            .filter(|it| it.number.is_persistent())
            .map(|it| it.position)
            .collect();
        assert_eq!(
            self.outside.on_disk, persistent,
            "on disk is what a crash must not lose"
        );
        let held = self
            .model
            .unacked
            .iter()
            .filter(|it| it.number.is_persistent())
            .map(|it| it.position)
            .max();
        assert!(
            held <= self.outside.delivered_up_to,
            "a message handed out would come back without its flag"
        );

        for view in self.queue.consumers() {
            let consumer = view.spec.handle;
            assert_eq!(view.unacked as usize, self.model.unacked_of(consumer));
            let limit = view.spec.prefetch_count;
            assert!(view.spec.no_ack || limit == 0 || view.unacked <= u32::from(limit));
            assert_eq!(self.queue.consumer(self.keys[&consumer]).unwrap().unacked, view.unacked);
        }
    }

    /// Everything still in the queue comes out once, in order.
    fn drain(mut self) {
        for which in (0..self.model.clients.len()).rev() {
            self.with_consumer(which, Self::cancel);
        }
        let (_, messages) = self.pick_unacked(&(0..self.model.unacked.len()).rev().collect::<Vec<_>>());
        let mut left: Vec<_> = self
            .model
            .ready
            .iter()
            .chain(&self.model.unacked)
            .map(|it| it.position)
            .collect();
        left.sort_unstable();
        self.queue.requeue(messages, true, &mut self.outside);
        let mut drained = Vec::new();
        while let Some(got) = self.queue.get(true, &mut self.outside).unwrap() {
            drained.push(got.position.0);
        }
        assert_eq!(drained, left);
        assert!(self.outside.on_disk.is_empty());
        assert_eq!(self.queue.counts(), Counts::default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_does_what_the_naive_model_does(operations in vec(operation(), 1..80)) {
        let mut pair = Pair::new();
        for operation in operations {
            pair.apply(operation);
        }
        pair.drain();
    }

    /// Consumers that always have credit get equally many, whoever comes, goes or is out of credit beside them.
    #[test]
    fn equal_consumers_never_differ_by_more_than_one_message(
        steady in 1..6usize,
        steps in vec((0..9usize, 0..4u16, any::<bool>()), 1..60),
    ) {
        let mut queue = Queue::new(QueueOptions::default());
        let mut outside = Counting::default();
        let mut guests = Vec::new();
        for consumer in 0..steady {
            let key = queue.add_consumer(spec(consumer)).unwrap();
            queue.resume(key, &mut outside);
        }
        for (batch, prefetch_count, guest_leaves) in steps {
            queue.publish((0..batch as u64).map(Number), &mut outside);
            if guest_leaves {
                guests.pop().map(|key| queue.remove_consumer(key));
            } else {
                let key = queue.add_consumer(ConsumerSpec { prefetch_count, ..spec(100) }).unwrap();
                queue.resume(key, &mut outside);
                guests.push(key);
            }
            let shares = (0..steady).map(|consumer| outside.taken.get(&consumer).copied().unwrap_or(0));
            let (least, most) = (shares.clone().min().unwrap(), shares.max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", outside.taken);
        }
    }
}

/// Takes everything and counts it.
#[derive(Default)]
pub(super) struct Counting {
    pub(super) taken: BTreeMap<usize, u64>,
    pub(super) slots: Vec<(Slot, Position)>,
}

impl Sink<Number, usize> for Counting {
    fn deliver(&mut self, consumer: &usize, delivery: Delivery<'_, Number>) -> Accept {
        *self.taken.entry(*consumer).or_default() += 1;
        self.slots.push((delivery.slot, delivery.position));
        Accept::Taken
    }

    fn persist(&mut self, _position: Position, _message: &Number) {}

    fn settle(&mut self, _position: Position) {}

    fn delivered_up_to(&mut self, _position: Position) {}

    fn requeued(&mut self, _position: Position, _delivery_count: u32) {}

    fn dropped(&mut self, _message: Number, _reason: DropReason) {}
}
