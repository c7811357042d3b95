//! A queue as one would write it without a thought about speed: lists, searched from the front.

use super::{ConsumerSpec, Number, QueueMessage};

/// Everything that a queue tells the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Delivered {
        consumer: usize,
        position: u64,
        redelivered: bool,
        delivery_count: u32,
    },
    Refused {
        consumer: usize,
    },
    Got {
        position: u64,
        redelivered: bool,
        delivery_count: u32,
        ready: usize,
    },
    /// The next message is being loaded.
    Loading,
    Persist(u64),
    Settle(u64),
    /// Everything below but these is gone.
    Purge(u64, Vec<u64>),
    Requeued(u64, u32),
    Dropped(Number),
}

#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) position: u64,
    pub(super) number: Number,
    pub(super) redelivered: bool,
    pub(super) delivery_count: u32,
    /// Who has it, when it is unacked; `None` after a get.
    pub(super) consumer: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) spec: ConsumerSpec<usize>,
    pub(super) stalled: bool,
    pub(super) refusing: bool,
}

/// The naive queue. Durable; consumers are known by their handles, which are never reused.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) next_position: u64,
    pub(super) ready: Vec<Held>,
    pub(super) unacked: Vec<Held>,
    pub(super) clients: Vec<Client>,
    /// Whose turn it is, the longest waiting first. Some may be found to be without credit.
    turn: Vec<usize>,
    pub(super) effects: Vec<Effect>,
    /// Ready messages at these positions are in the store only, and cannot be handed out, nor can any behind them. The model
    /// does not decide what is paged; it is told.
    pub(super) paged: Vec<Paged>,
    pub(super) max_priority: u8,
    /// Unacked messages of which the queue has only the place. They are not told of when they are given up, unless for dead letters.
    pub(super) stubs: Vec<u64>,
    /// What is given up is wanted, in order.
    pub(super) wants_letters: bool,
    pub(super) letters: Vec<(u64, Number)>,
    /// So many of these have left.
    pub(super) letters_sent: usize,
}

/// A stretch of positions on disk, of one priority.
pub(super) type Paged = (u8, std::ops::Range<u64>);

impl Model {
    pub(super) fn is_paged(&self, message: &Held) -> bool {
        let level = self.level(message);
        self.paged
            .iter()
            .any(|(of, paged)| *of == level && paged.contains(&message.position))
    }

    /// The priority of a message here.
    pub(super) fn level(&self, message: &Held) -> u8 {
        message.number.priority().min(self.max_priority)
    }

    /// Higher priorities first.
    fn sort(&mut self) {
        let max_priority = self.max_priority;
        let level = |message: &Held| message.number.priority().min(max_priority);
        self.ready
            .sort_by_key(|message| (std::cmp::Reverse(level(message)), message.position));
    }

    /// Nobody gets a message although there is one: it has to be loaded.
    pub(super) fn waits_for_load(&self) -> bool {
        !self.turn.is_empty() && self.ready.first().is_some_and(|message| self.is_paged(message))
    }

    /// More messages are in memory than before.
    pub(super) fn loaded(&mut self, paged: Vec<Paged>) {
        self.paged = paged;
        self.dispatch();
    }

    pub(super) fn publish(&mut self, numbers: &[Number]) {
        for number in numbers {
            let position = self.next_position;
            self.next_position += 1;
            let message = Held {
                position,
                number: *number,
                redelivered: false,
                delivery_count: 0,
                consumer: None,
            };
            let was_empty = self.ready.is_empty();
            self.ready.push(message);
            self.sort();
            let taken_by = if was_empty { self.dispatch_one(true) } else { None };
            let settled_at_once = taken_by.is_some_and(|consumer| self.client(consumer).spec.no_ack);
            if is_persistent(*number) && !settled_at_once {
                self.effects.push(Effect::Persist(position));
            }
        }
        // One that has overtaken others may be taken by those who waited for the others.
        self.dispatch();
    }

    pub(super) fn add(&mut self, spec: ConsumerSpec<usize>) -> bool {
        let is_taken = self.clients.iter().any(|client| client.spec.exclusive);
        if is_taken || (spec.exclusive && !self.clients.is_empty()) {
            return false;
        }
        self.clients.push(Client {
            spec,
            stalled: true,
            refusing: false,
        });
        true
    }

    pub(super) fn resume(&mut self, consumer: usize) {
        self.client_mut(consumer).stalled = false;
        self.join_turn(consumer);
        self.dispatch();
    }

    pub(super) fn cancel(&mut self, consumer: usize) {
        self.clients.retain(|client| client.spec.handle != consumer);
        self.turn.retain(|other| *other != consumer);
    }

    pub(super) fn ack(&mut self, positions: &[u64]) {
        for message in self.take_unacked(positions) {
            self.settle(&message);
        }
        self.dispatch();
    }

    pub(super) fn reject(&mut self, positions: &[u64]) {
        for message in self.take_unacked(positions) {
            if self.wants_letters {
                self.letters.push((message.position, message.number));
                continue;
            }
            self.settle(&message);
            if !self.stubs.contains(&message.position) {
                self.effects.push(Effect::Dropped(message.number));
            }
        }
        self.dispatch();
    }

    pub(super) fn requeue(&mut self, positions: &[u64], failed: bool) {
        for mut message in self.take_unacked(positions) {
            message.redelivered = true;
            message.delivery_count += u32::from(failed);
            if is_persistent(message.number) {
                self.effects
                    .push(Effect::Requeued(message.position, message.delivery_count));
            }
            if self.stubs.contains(&message.position) {
                // It must be read before anybody gets it.
                let place = message.position..message.position + 1;
                self.paged.push((self.level(&message), place));
            }
            self.ready.push(message);
        }
        self.sort();
        self.dispatch();
    }

    pub(super) fn get(&mut self, no_ack: bool) {
        let Some(first) = self.ready.first() else { return };
        if self.is_paged(first) {
            self.effects.push(Effect::Loading);
            return;
        }
        let message = self.ready.remove(0);
        let Held {
            position,
            redelivered,
            delivery_count,
            ..
        } = message;
        if no_ack {
            self.settle(&message);
        } else {
            self.unacked.push(Held {
                consumer: None,
                ..message
            });
        }
        self.effects.push(Effect::Got {
            position,
            redelivered,
            delivery_count,
            ready: self.ready.len(),
        });
    }

    pub(super) fn purge(&mut self) -> usize {
        let purged = std::mem::take(&mut self.ready);
        if !purged.is_empty() {
            let persisted = self.unacked.iter().filter(|held| is_persistent(held.number));
            let mut kept: Vec<_> = persisted.map(|held| held.position).collect();
            let letters = self.letters.iter().skip(self.letters_sent);
            let letters = letters.filter(|(_, number)| is_persistent(*number));
            kept.extend(letters.map(|(position, _)| *position));
            kept.sort_unstable();
            self.effects.push(Effect::Purge(self.next_position, kept));
        }
        purged.len()
    }

    pub(super) fn unacked_of(&self, consumer: usize) -> usize {
        self.unacked
            .iter()
            .filter(|message| message.consumer == Some(consumer))
            .count()
    }

    fn client(&self, consumer: usize) -> &Client {
        self.clients
            .iter()
            .find(|client| client.spec.handle == consumer)
            .unwrap()
    }

    fn client_mut(&mut self, consumer: usize) -> &mut Client {
        self.clients
            .iter_mut()
            .find(|client| client.spec.handle == consumer)
            .unwrap()
    }

    fn settle(&mut self, message: &Held) {
        if is_persistent(message.number) {
            self.effects.push(Effect::Settle(message.position));
        }
    }

    fn take_unacked(&mut self, positions: &[u64]) -> Vec<Held> {
        let mut taken = Vec::new();
        for position in positions {
            let Some(index) = self.unacked.iter().position(|message| message.position == *position) else {
                continue;
            };
            let message = self.unacked.remove(index);
            let holder = message
                .consumer
                .filter(|it| self.clients.iter().any(|client| client.spec.handle == *it));
            if let Some(holder) = holder {
                self.join_turn(holder);
            }
            taken.push(message);
        }
        taken
    }

    fn can_take(&self, consumer: usize) -> bool {
        let client = self.client(consumer);
        let limit = usize::from(client.spec.prefetch_count);
        !client.stalled && (client.spec.no_ack || limit == 0 || self.unacked_of(consumer) < limit)
    }

    fn join_turn(&mut self, consumer: usize) {
        if self.can_take(consumer) && !self.turn.contains(&consumer) {
            self.turn.push(consumer);
        }
    }

    fn dispatch(&mut self) {
        while self.dispatch_one(false).is_some() {}
    }

    /// Offers the first ready message until somebody takes it.
    fn dispatch_one(&mut self, is_new: bool) -> Option<usize> {
        // A new message is offered before it is paged.
        let first = self.ready.first();
        let message = first.filter(|message| is_new || !self.is_paged(message))?.clone();
        loop {
            let highest = self
                .turn
                .iter()
                .map(|consumer| self.client(*consumer).spec.priority)
                .max()?;
            let index = self
                .turn
                .iter()
                .position(|consumer| self.client(*consumer).spec.priority == highest)?;
            let consumer = self.turn.remove(index);
            if !self.can_take(consumer) {
                continue;
            }
            if self.client(consumer).refusing {
                self.client_mut(consumer).stalled = true;
                self.effects.push(Effect::Refused { consumer });
                continue;
            }
            let Held {
                position,
                redelivered,
                delivery_count,
                ..
            } = message;
            self.effects.push(Effect::Delivered {
                consumer,
                position,
                redelivered,
                delivery_count,
            });
            self.ready.remove(0);
            if !self.client(consumer).spec.no_ack {
                self.unacked.push(Held {
                    consumer: Some(consumer),
                    ..message
                });
            } else if !is_new {
                self.settle(&message);
            }
            self.turn.push(consumer);
            return Some(consumer);
        }
    }
}

fn is_persistent(number: Number) -> bool {
    number.0 % 2 == 1
}
