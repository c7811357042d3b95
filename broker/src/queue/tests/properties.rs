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
    /// So many messages of this size may be in memory.
    Allow(u64),
    /// One of the loads under way brings so many messages; `late` if it was slow enough to see what happened meanwhile.
    Load {
        which: usize,
        count: usize,
        late: bool,
    },
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
        3 => prop_oneof![Just(0), 1..20u64, Just(u64::MAX / 8)].prop_map(Operation::Allow),
        6 => (any::<usize>(), 1..20usize, any::<bool>())
            .prop_map(|(which, count, late)| Operation::Load { which, count, late }),
    ]
}

type Stored = BTreeMap<u64, Number>;

/// Records effects and remembers what only the outside knows.
#[derive(Default)]
struct Outside {
    effects: Vec<Effect>,
    refusing: BTreeSet<usize>,
    slots: BTreeMap<u64, Slot>,
    on_disk: BTreeMap<u64, Number>,
    spilled: BTreeMap<u64, Number>,
    /// Loads under way, with all that the store had when they were asked for.
    loads: Vec<(Load, Stored)>,
    /// What was given up for dead letters.
    letters: Option<Vec<Number>>,
    delivered_up_to: Option<u64>,
    delivered_up_to_calls: usize,
    last_first_delivery: BTreeMap<u8, u64>,
    max_priority: u8,
}

impl Outside {
    /// Messages of one priority seen for the first time come in the order in which they were published.
    fn note_delivery(&mut self, position: u64, slot: Slot, redelivered: bool, message: &Number) {
        if !redelivered {
            let priority = message.priority().min(self.max_priority);
            let last = self.last_first_delivery.insert(priority, position);
            assert!(last < Some(position), "{position} was overtaken");
        }
        if slot != NO_SLOT {
            self.slots.insert(position, slot);
        }
    }

    fn stored(&self) -> Stored {
        self.on_disk
            .iter()
            .chain(&self.spilled)
            .map(|(position, number)| (*position, *number))
            .collect()
    }
}

impl Sink<Number, usize> for Outside {
    fn now_millis(&mut self) -> u64 {
        panic!("nothing expires");
    }

    fn search(&mut self, _search: Search) {
        panic!("nothing expires");
    }

    fn settle_spilled(&mut self, _position: Position, _message: &Number) {
        panic!("nothing expires");
    }

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
        self.note_delivery(position, slot, redelivered, delivery.message);
        self.effects.push(Effect::Delivered {
            consumer: *consumer,
            position,
            redelivered,
            delivery_count,
        });
        Accept::Taken
    }

    fn persist(&mut self, position: Position, message: &Number, _expires_at: ExpiresAt) {
        assert!(self.on_disk.last_key_value().is_none_or(|(last, _)| *last < position.0));
        self.on_disk.insert(position.0, *message);
        self.effects.push(Effect::Persist(position.0));
    }

    fn spill(&mut self, position: Position, message: &Number, _expires_at: ExpiresAt) {
        assert!(!message.is_persistent());
        self.spilled.insert(position.0, *message);
    }

    fn load(&mut self, load: Load) {
        assert!(load.from < load.until && load.bytes > 0);
        self.loads.push((load, self.stored()));
    }

    fn late(&mut self, _consumer: &usize, _slot: Slot, _position: Position) {}

    fn settle(&mut self, position: Position, body_len: usize) {
        let message = self.on_disk.remove(&position.0);
        assert_eq!(
            message.map(|message| message.body_len()),
            Some(body_len),
            "{position:?} settled, but not on disk"
        );
        self.effects.push(Effect::Settle(position.0));
    }

    fn purge(&mut self, below: Position, kept: Vec<(Position, usize)>) {
        for (position, body_len) in &kept {
            assert_eq!(self.on_disk[&position.0].body_len(), *body_len);
        }
        let kept: Vec<_> = kept.into_iter().map(|(position, _)| position.0).collect();
        self.on_disk
            .retain(|position, _| *position >= below.0 || kept.contains(position));
        self.spilled.retain(|position, _| *position >= below.0);
        self.effects.push(Effect::Purge(below.0, kept));
    }

    fn delivered_up_to(&mut self, position: Position) {
        assert!(self.delivered_up_to < Some(position.0));
        self.delivered_up_to = Some(position.0);
        self.delivered_up_to_calls += 1;
    }

    fn requeued(&mut self, position: Position, delivery_count: u32) {
        assert!(self.on_disk.contains_key(&position.0));
        self.effects.push(Effect::Requeued(position.0, delivery_count));
    }

    fn dropped(&mut self, message: Number, reason: DropReason) {
        assert_eq!(reason, DropReason::Rejected);
        match &mut self.letters {
            Some(letters) => letters.push(message),
            None => self.effects.push(Effect::Dropped(message)),
        }
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
    fn new(max_priority: u8, wants_letters: bool) -> Self {
        let mut queue = Queue::new(QueueOptions {
            durable: true,
            max_priority,
            ..QueueOptions::default()
        });
        let (outside, keys, mut model) = (Outside::default(), BTreeMap::new(), Model::default());
        queue.want_dead_letters(wants_letters);
        model.max_priority = max_priority;
        model.wants_letters = wants_letters;
        let outside = Outside {
            max_priority,
            letters: wants_letters.then(Vec::new),
            ..outside
        };
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
        self.model.paged = self.queue.ready.paged_ranges();
        self.model.stubs = self.queue.unacked.stubs();
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
                    timeout_millis: None,
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
            Operation::Allow(messages) => self.queue.allow(messages * 8),
            Operation::Load { which, count, late } => self.load(which, count, late),
        }
        self.model.paged = self.queue.ready.paged_ranges();
        self.release();
        self.check();
    }

    /// Lets go what was given up for dead letters, as far as it could be read.
    fn release(&mut self) {
        let Some(before) = self.outside.letters.as_ref().map(Vec::len) else {
            return assert!(!self.queue.has_given_up());
        };
        if self.queue.has_given_up() {
            self.queue.release_given_up(&mut self.outside);
        }
        let letters = self.outside.letters.as_deref().unwrap_or_default();
        self.model.letters_sent = letters.len();
        let expected = self.model.letters.iter().map(|(_, number)| number);
        assert!(expected.take(letters.len()).eq(letters), "letters keep their order");
        if letters.len() == before && letters.len() < self.model.letters.len() {
            let awaited = self.queue.load_of_given_up().unwrap();
            assert!(self.outside.loads.iter().any(|(load, _)| *load == awaited));
        }
    }

    fn load(&mut self, which: usize, count: usize, late: bool) {
        if self.outside.loads.is_empty() {
            return;
        }
        let (load, then) = self.outside.loads.remove(which % self.outside.loads.len());
        let stored = if late { self.outside.stored() } else { then };
        let messages: Vec<_> = stored
            .range(load.from.0..load.until.0)
            .filter(|(_, number)| load.wants(*number))
            .take(count)
            .map(|(position, number)| (Position(*position), History::default(), *number))
            .collect();
        let all = messages.len() < count;
        let last = messages.last().filter(|_| !all);
        let until = last.map_or(load.until, |(last, ..)| Position(last.0 + 1));
        self.queue.loaded(load, Loaded { messages, until }, &mut self.outside);
        self.model.loaded(self.queue.ready.paged_ranges());
    }

    fn publish(&mut self, persistent: &[bool]) {
        let first = self.published;
        let numbers: Vec<_> = (first..)
            .zip(persistent)
            .map(|(n, odd)| Number(n * 2 + u64::from(*odd)))
            .collect();
        self.published += numbers.len() as u64;
        let outcome = self.queue.publish(numbers.iter().copied(), &mut self.outside);
        self.model.paged = self.queue.ready.paged_ranges();
        self.model.publish(&numbers);
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
        let removed = self.queue.remove_consumer(key, &mut self.outside);
        assert_eq!(
            removed,
            Some(RemovedConsumer {
                handle: consumer,
                was_last: self.model.clients.is_empty()
            })
        );
        assert_eq!(self.queue.remove_consumer(key, &mut self.outside), None);
    }

    fn get(&mut self, no_ack: bool) {
        self.model.get(no_ack);
        let got = match self.queue.get(no_ack, &mut self.outside).unwrap() {
            GetOutcome::Got(got) => got,
            GetOutcome::Empty => return,
            GetOutcome::Loading => return self.outside.effects.push(Effect::Loading),
        };
        let Got {
            position,
            slot,
            redelivered,
            delivery_count,
            ready,
            message,
        } = got;
        self.outside.note_delivery(position.0, slot, redelivered, &message);
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
        let mut effects = std::mem::take(&mut self.outside.effects);
        // These are settled when they have been read.
        let is_letter = |position: &u64| self.model.letters.iter().any(|(letter, _)| letter == position);
        effects.retain(|effect| !matches!(effect, Effect::Settle(position) if is_letter(position)));
        assert_eq!(effects, std::mem::take(&mut self.model.effects));
        let in_queue = || self.model.ready.iter().chain(&self.model.unacked);
        let paged = self.model.ready.iter().filter(|held| self.model.is_paged(held)).count();
        let bytes = |list: &[super::model::Held]| list.iter().map(|it| it.number.body_len() as u64).sum::<u64>();
        let expected = Counts {
            ready: self.model.ready.len(),
            paged,
            unacked: self.model.unacked.len(),
            consumers: self.model.clients.len(),
            ready_bytes: bytes(&self.model.ready),
            unacked_bytes: bytes(&self.model.unacked),
            memory_bytes: (in_queue().count() - paged - self.queue.unacked.stubs().len()) as u64 * 8,
        };
        assert_eq!(self.queue.counts(), expected);
        self.check_whereabouts();
        let head = self.model.ready.first();
        let head_in_memory = head.filter(|head| !self.model.is_paged(head));
        assert_eq!(self.queue.head(), head_in_memory.map(|message| &message.number));
        assert_eq!(self.queue.is_head_paged(), head.is_some() && head_in_memory.is_none());
        if self.model.waits_for_load() {
            let level = head.map_or(0, |head| self.model.level(head));
            let awaited = |(load, _): &(Load, Stored)| self.queue.ready.waits_for_load(level, *load);
            assert!(self.outside.loads.iter().any(awaited), "nobody will go on");
        }

        let persistent: BTreeSet<_> = in_queue()
            .map(|it| (it.position, it.number))
            .chain(self.model.letters.iter().skip(self.model.letters_sent).copied())
            .filter(|(_, number)| number.is_persistent())
            .map(|(position, _)| position)
            .collect();
        let on_disk: BTreeSet<_> = self.outside.on_disk.keys().copied().collect();
        assert_eq!(on_disk, persistent, "on disk is what a crash must not lose");
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

    fn check_whereabouts(&self) {
        let (ready, unacked) = (&self.model.ready, &self.model.unacked);
        let stubs = self.queue.unacked.stubs();
        let amount = |list: Vec<&super::model::Held>| Amount {
            messages: list.len(),
            bytes: list.iter().map(|it| it.number.body_len() as u64).sum(),
        };
        let (paged, in_memory) = ready.iter().partition(|held| self.model.is_paged(held));
        let persistent = ready.iter().chain(unacked).filter(|it| it.number.is_persistent());
        let expected = Whereabouts {
            persistent: amount(persistent.collect()),
            ready_in_memory: amount(in_memory),
            unacked_in_memory: amount(unacked.iter().filter(|it| !stubs.contains(&it.position)).collect()),
            paged_out: amount(paged),
        };
        assert_eq!(self.queue.whereabouts(), expected);
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
            .map(|it| (std::cmp::Reverse(self.model.level(it)), it.position))
            .collect();
        left.sort_unstable();
        let left: Vec<_> = left.into_iter().map(|(_, position)| position).collect();
        self.queue.requeue(messages, true, &mut self.outside);
        let mut drained = Vec::new();
        loop {
            match self.queue.get(true, &mut self.outside).unwrap() {
                GetOutcome::Got(got) => drained.push(got.position.0),
                GetOutcome::Loading => self.load(0, 3, true),
                GetOutcome::Empty => break,
            }
        }
        assert_eq!(drained, left);
        self.release();
        while self.model.letters_sent < self.model.letters.len() {
            self.load(0, 3, true);
            self.release();
        }
        assert!(self.outside.on_disk.is_empty());
        assert_eq!(self.queue.counts(), Counts::default());
        assert_eq!(self.queue.whereabouts(), Whereabouts::default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_does_what_the_naive_model_does(
        operations in vec(operation(), 1..80),
        max_priority in prop_oneof![2 => Just(0u8), 1 => 1..7u8],
        wants_letters in any::<bool>(),
        room in prop_oneof![Just(0), 1..40u64, Just(u64::MAX / 8)],
    ) {
        let mut pair = Pair::new(max_priority, wants_letters);
        pair.queue.allow(room * 8);
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
                guests.pop().map(|key| queue.remove_consumer(key, &mut outside));
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
    fn now_millis(&mut self) -> u64 {
        panic!("nothing expires");
    }

    fn search(&mut self, _search: Search) {
        panic!("nothing expires");
    }

    fn settle_spilled(&mut self, _position: Position, _message: &Number) {
        panic!("nothing expires");
    }

    fn deliver(&mut self, consumer: &usize, delivery: Delivery<'_, Number>) -> Accept {
        *self.taken.entry(*consumer).or_default() += 1;
        self.slots.push((delivery.slot, delivery.position));
        Accept::Taken
    }

    fn persist(&mut self, _position: Position, _message: &Number, _expires_at: ExpiresAt) {}

    fn spill(&mut self, _position: Position, _message: &Number, _expires_at: ExpiresAt) {}

    fn load(&mut self, _load: Load) {}

    fn late(&mut self, _consumer: &usize, _slot: Slot, _position: Position) {}

    fn settle(&mut self, _position: Position, _body_len: usize) {}

    fn purge(&mut self, _below: Position, _kept: Vec<(Position, usize)>) {}

    fn delivered_up_to(&mut self, _position: Position) {}

    fn requeued(&mut self, _position: Position, _delivery_count: u32) {}

    fn dropped(&mut self, _message: Number, _reason: DropReason) {}
}
