//! What waits in one delayed exchange: of the messages that are in the store, only those that are due soon are in memory too.
//!
//! ```text
//!   by time  ──────────────▶  horizon  ───────────────────────────────▶
//!            soon: in memory         │ in the store; besides, in `fresh`, those whose commit is not known to be over,
//!            and in the store        │ which a reader may not see yet
//!   in the store:  | number of routing keys (2) | routing keys | the stored form of the message |
//! ```
//!
//! Messages that need not be stored stay in memory, `passing`, until they are due, as long as there is room for them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use leveret_storage::{Moment, QueueId, StorageError, Store, Ticket};

use crate::protocol::message::Message;
use crate::protocol::wire::{Reader, put_shortstr};

/// Messages are read back so long before they are due.
const READ_AHEAD_MILLIS: u64 = 2000;
/// What could not be read is tried again so much later.
const READ_RETRY_MILLIS: u64 = 1000;
/// About what a message in memory takes beside its bytes.
const DELAYED_OVERHEAD_BYTES: usize = 200;

/// A message that waits.
#[derive(Clone)]
pub(super) struct Delayed {
    /// The message.
    pub message: Message,
    /// Its routing keys, those of CC and BCC with it.
    pub routing_keys: Vec<String>,
}

impl Delayed {
    fn bytes(&self) -> usize {
        let keys: usize = self.routing_keys.iter().map(String::len).sum();
        self.message.stored_parts().iter().map(|part| part.len()).sum::<usize>() + keys + DELAYED_OVERHEAD_BYTES
    }

    /// What is stored in front of the message.
    pub fn head(&self) -> Vec<u8> {
        let mut head = (self.routing_keys.len() as u16).to_be_bytes().to_vec();
        for key in &self.routing_keys {
            put_shortstr(&mut head, key);
        }
        head
    }

    /// As it was stored.
    pub fn parse(payload: &[u8]) -> Option<Delayed> {
        let (count, rest) = payload.split_first_chunk::<2>()?;
        let mut reader = Reader::new(rest);
        let mut routing_keys = Vec::new();
        for _ in 0..u16::from_be_bytes(*count) {
            routing_keys.push(reader.shortstr().ok()?.to_owned());
        }
        Some(Delayed {
            message: Message::from_stored(reader.rest()).ok()?,
            routing_keys,
        })
    }
}

/// A message whose commit is not known to be over.
struct Fresh {
    ticket: Ticket,
    at: Moment,
    delayed: Delayed,
}

/// A stored message in memory, and in which commit it was written.
struct Soon {
    ticket: Ticket,
    delayed: Delayed,
}

/// The delayed messages of one exchange.
pub(super) struct Schedule {
    /// Where the store has them; made for the first of them.
    pub(super) id: Option<QueueId>,
    next_number: u64,
    soon: BTreeMap<Moment, Soon>,
    soon_bytes: usize,
    horizon: Moment,
    fresh: VecDeque<Fresh>,
    /// Gone, but a reader may still see them.
    cancelled: Vec<(Ticket, Moment)>,
    /// The last that was due; a reader may still see it, so the horizon stays behind it, whatever the clock does.
    taken: Moment,
    /// How many the store has.
    stored: u64,
    passing: BTreeMap<Moment, Delayed>,
    passing_bytes: usize,
    /// Nothing is read before.
    retry_at_millis: u64,
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule {
            id: None,
            next_number: 0,
            soon: BTreeMap::new(),
            soon_bytes: 0,
            horizon: Moment::NEVER,
            fresh: VecDeque::new(),
            cancelled: Vec::new(),
            taken: Moment::default(),
            stored: 0,
            passing: BTreeMap::new(),
            passing_bytes: 0,
            retry_at_millis: 0,
        }
    }
}

impl Schedule {
    /// What the store has of it already.
    pub fn recover(store: &Store, id: QueueId) -> Result<Schedule, StorageError> {
        let mut schedule = Schedule {
            id: Some(id),
            ..Schedule::default()
        };
        store.read_schedule(id, Moment::default(), &mut |at, _| {
            schedule.stored += 1;
            schedule.horizon = schedule.horizon.min(at);
            schedule.next_number = schedule.next_number.max(at.number + 1);
            ControlFlow::Continue(())
        })?;
        Ok(schedule)
    }

    /// How many wait.
    pub fn count(&self) -> u64 {
        self.stored + self.passing.len() as u64
    }

    /// A place for one more.
    pub fn next_moment(&mut self, due_millis: u64) -> Moment {
        let number = self.next_number;
        self.next_number += 1;
        Moment {
            time: due_millis,
            number,
        }
    }

    /// Whether a message that need not be stored may stay in memory until it is due.
    pub fn has_room(&self, delayed: &Delayed, window_bytes: usize) -> bool {
        self.passing_bytes + delayed.bytes() <= window_bytes
    }

    /// Keeps a message in memory until it is due.
    pub fn add_passing(&mut self, at: Moment, delayed: Delayed) {
        self.passing_bytes += delayed.bytes();
        self.passing.insert(at, delayed);
    }

    fn take_passing(&mut self, at: Moment) -> Option<Delayed> {
        let delayed = self.passing.remove(&at)?;
        self.passing_bytes -= delayed.bytes();
        Some(delayed)
    }

    /// Remembers a message that was written to the store under this ticket.
    pub fn add_stored(&mut self, store: &Store, at: Moment, delayed: Delayed, ticket: Ticket, window_bytes: usize) {
        self.forget_committed(store);
        self.stored += 1;
        if at < self.horizon {
            self.keep(at, Soon { ticket, delayed });
            self.shrink(store, window_bytes);
        } else {
            self.fresh.push_back(Fresh { ticket, at, delayed });
        }
    }

    /// When it next has something to do.
    pub fn next_millis(&self, window_bytes: usize) -> Option<u64> {
        let soon = self.soon.keys().next().map(|at| at.time);
        let passing = self.passing.keys().next().map(|at| at.time);
        let read = self.wants_more(window_bytes).then(|| {
            let ahead = self.horizon.time.saturating_sub(READ_AHEAD_MILLIS);
            ahead.max(self.retry_at_millis)
        });
        soon.into_iter().chain(passing).chain(read).min()
    }

    /// Reads what is due soon. Messages that cannot be read are told.
    pub fn read_ahead(&mut self, store: &Store, now_millis: u64, window_bytes: usize) -> Result<(), StorageError> {
        self.forget_committed(store);
        let ahead = self.horizon.time.saturating_sub(READ_AHEAD_MILLIS);
        if !self.wants_more(window_bytes) || now_millis < ahead.max(self.retry_at_millis) {
            return Ok(());
        }
        let room = full(window_bytes).saturating_sub(self.soon_bytes);
        let (mut read, mut bytes, mut next) = (BTreeMap::new(), 0, Moment::NEVER);
        let mut unreadable = 0;
        if let Some(id) = self.id {
            let shown = store.read_schedule(id, self.horizon, &mut |at, payload| {
                if bytes >= room {
                    next = at;
                    return ControlFlow::Break(());
                }
                if self.cancelled.iter().any(|(_, cancelled)| *cancelled == at) {
                    return ControlFlow::Continue(());
                }
                match Delayed::parse(payload) {
                    Some(delayed) => {
                        bytes += delayed.bytes();
                        let ticket = Ticket::NONE;
                        read.insert(at, Soon { ticket, delayed });
                    }
                    None => unreadable += 1,
                }
                ControlFlow::Continue(())
            });
            if let Err(error) = shown {
                self.retry_at_millis = now_millis.saturating_add(READ_RETRY_MILLIS);
                return Err(error);
            }
        }
        if unreadable > 0 {
            tracing::error!(
                unreadable,
                "some delayed messages cannot be read; they stay in the store"
            );
        }
        let (within, behind) = std::mem::take(&mut self.fresh)
            .into_iter()
            .partition(|fresh| fresh.at < next);
        self.fresh = behind;
        for Fresh { ticket, at, delayed } in within {
            read.insert(at, Soon { ticket, delayed });
        }
        self.horizon = next;
        read.into_iter().for_each(|(at, soon)| self.keep(at, soon));
        self.shrink(store, window_bytes);
        Ok(())
    }

    /// Takes the first message if it is due, and whether it is in the store.
    pub fn take_due(&mut self, now_millis: u64) -> Option<(Moment, Delayed, bool)> {
        let soon = self.soon.keys().next().copied();
        let passing = self.passing.keys().next().copied();
        // What is behind the horizon has its turn when it was read.
        let first = soon.into_iter().chain(passing).min();
        let at = first.filter(|at| at.time <= now_millis && *at < self.horizon)?;
        self.taken = self.taken.max(at);
        match self.take_passing(at) {
            Some(delayed) => Some((at, delayed, false)),
            None => Some((at, self.take_soon(at)?, true)),
        }
    }

    /// Takes a message out of memory, by its number; whether it is in the store.
    pub fn cancel(&mut self, number: u64) -> Option<(Moment, bool)> {
        let has_number = |at: &&Moment| at.number == number;
        if let Some(at) = self.passing.keys().find(has_number).copied() {
            self.take_passing(at);
            return Some((at, false));
        }
        if let Some(at) = self.soon.keys().find(has_number).copied() {
            self.take_soon(at);
            return Some((at, true));
        }
        let index = self.fresh.iter().position(|fresh| fresh.at.number == number)?;
        let fresh = self.fresh.remove(index)?;
        self.stored -= 1;
        Some((fresh.at, true))
    }

    /// Takes a message out that was seen in the store at this moment, unless it is gone since.
    pub fn cancel_stored(&mut self, at: Moment) -> bool {
        if at < self.horizon {
            return self.take_soon(at).is_some();
        }
        let is_cancelled = self.cancelled.iter().any(|(_, cancelled)| *cancelled == at);
        self.stored -= u64::from(!is_cancelled);
        !is_cancelled
    }

    /// It was taken out of the store under this ticket.
    pub fn cancelled(&mut self, at: Moment, ticket: Ticket) {
        // Also if it was in memory: others may leave it, and be read again, before the commit.
        self.cancelled.push((ticket, at));
    }

    /// Those in memory, with whether they are in the store.
    pub fn in_memory(&self) -> impl Iterator<Item = (Moment, &Delayed, bool)> {
        let soon = self.soon.iter().map(|(at, soon)| (*at, &soon.delayed, true));
        let fresh = self.fresh.iter().map(|fresh| (fresh.at, &fresh.delayed, true));
        let passing = self.passing.iter().map(|(at, delayed)| (*at, delayed, false));
        soon.chain(fresh).chain(passing)
    }

    /// Where those begin that are in the store only.
    pub fn horizon(&self) -> Moment {
        self.horizon
    }

    /// Whether there is more than memory holds, and room for it.
    fn wants_more(&self, window_bytes: usize) -> bool {
        self.horizon != Moment::NEVER && self.soon_bytes < window_bytes / 2
    }

    fn keep(&mut self, at: Moment, soon: Soon) {
        self.soon_bytes += soon.delayed.bytes();
        self.soon.insert(at, soon);
    }

    fn take_soon(&mut self, at: Moment) -> Option<Delayed> {
        let soon = self.soon.remove(&at)?;
        self.soon_bytes -= soon.delayed.bytes();
        self.stored -= 1;
        Some(soon.delayed)
    }

    /// Leaves those that are due last to the store, if there are too many in memory.
    fn shrink(&mut self, store: &Store, window_bytes: usize) {
        if self.soon_bytes <= window_bytes {
            return;
        }
        let durable = store.durable();
        // What is left is enough, or it would be read again at once.
        let leaves_enough = |held: usize, last: &Soon| held - last.delayed.bytes() >= window_bytes / 2;
        while self.soon_bytes > full(window_bytes)
            && let Some(last) = self.soon.last_entry()
            && *last.key() > self.taken
            && leaves_enough(self.soon_bytes, last.get())
        {
            let (at, Soon { ticket, delayed }) = last.remove_entry();
            self.soon_bytes -= delayed.bytes();
            self.horizon = at;
            if ticket > durable {
                self.fresh.push_back(Fresh { ticket, at, delayed });
            }
        }
    }

    /// What is committed is seen by whoever reads.
    fn forget_committed(&mut self, store: &Store) {
        if self.fresh.is_empty() && self.cancelled.is_empty() {
            return;
        }
        let durable = store.durable();
        while self.fresh.front().is_some_and(|fresh| fresh.ticket <= durable) {
            self.fresh.pop_front();
        }
        self.cancelled.retain(|(ticket, _)| *ticket > durable);
    }
}

/// Of a window, so much is filled by reading, and left when there was too much.
fn full(window_bytes: usize) -> usize {
    window_bytes / 4 * 3
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use leveret_storage::StoreOptions;
    use proptest::prelude::*;

    use super::*;

    const ID: QueueId = QueueId(7);
    /// A few messages.
    const WINDOW_BYTES: usize = 4 * (DELAYED_OVERHEAD_BYTES + 100);

    fn delayed(number: u64) -> Delayed {
        let mut header = vec![0, 60, 0, 0];
        header.extend_from_slice(&8_u64.to_be_bytes());
        header.extend_from_slice(&[0, 0]);
        Delayed {
            message: Message::new(&[0, 0], &header, &number.to_be_bytes()),
            routing_keys: vec!["key".to_owned(), number.to_string()],
        }
    }

    /// A schedule, its store, and what must be in it.
    struct World {
        store: Store,
        schedule: Schedule,
        model: BTreeSet<Moment>,
        now: u64,
    }

    impl World {
        fn new() -> World {
            let options = StoreOptions {
                manual_commit: true,
                ..StoreOptions::default()
            };
            World {
                store: Store::in_memory(options),
                schedule: Schedule {
                    id: Some(ID),
                    ..Schedule::default()
                },
                model: BTreeSet::new(),
                now: 0,
            }
        }

        fn add(&mut self, due: u64, is_stored: bool) {
            let at = self.schedule.next_moment(due);
            let delayed = delayed(at.number);
            self.model.insert(at);
            if !is_stored {
                return self.schedule.add_passing(at, delayed);
            }
            let mut writer = self.store.writer();
            let [first, second] = delayed.message.stored_parts();
            writer.schedule(ID, at, &[&delayed.head(), first, second]);
            let ticket = writer.submit();
            self.schedule.add_stored(&self.store, at, delayed, ticket, WINDOW_BYTES);
        }

        fn unschedule(&mut self, at: Moment) -> Ticket {
            let mut writer = self.store.writer();
            writer.unschedule(ID, at);
            writer.submit()
        }

        fn cancel(&mut self, number: u64) {
            let expected = self.model.iter().find(|at| at.number == number).copied();
            let in_memory = self.schedule.cancel(number);
            let found = in_memory.or_else(|| {
                let mut found = None;
                let mut visit = |at: Moment, _: &[u8]| {
                    found = found.or((at.number == number).then_some(at));
                    ControlFlow::Continue(())
                };
                self.store
                    .read_schedule(ID, self.schedule.horizon(), &mut visit)
                    .unwrap();
                found.filter(|at| self.schedule.cancel_stored(*at)).map(|at| (at, true))
            });
            assert_eq!(found.map(|(at, _)| at), expected);
            if let Some((at, is_stored)) = found {
                self.model.remove(&at);
                if is_stored {
                    let ticket = self.unschedule(at);
                    self.schedule.cancelled(at, ticket);
                }
            }
        }

        /// Whatever is due comes, once, in order.
        fn advance(&mut self, by: u64) {
            self.now += by;
            let mut rounds = 0;
            while self
                .schedule
                .next_millis(WINDOW_BYTES)
                .is_some_and(|next| next <= self.now)
            {
                rounds += 1;
                assert!(rounds < 100_000, "nothing comes of it");
                self.schedule.read_ahead(&self.store, self.now, WINDOW_BYTES).unwrap();
                while let Some((at, taken, is_stored)) = self.schedule.take_due(self.now) {
                    assert_eq!(Some(at), self.model.pop_first());
                    assert_eq!(taken.message.view().body, at.number.to_be_bytes());
                    assert_eq!(taken.routing_keys, delayed(at.number).routing_keys);
                    if is_stored {
                        self.unschedule(at);
                    }
                }
            }
            assert!(self.model.first().is_none_or(|first| first.time > self.now));
        }

        /// What the store has comes back.
        fn restart(&mut self) {
            let passing: Vec<_> = self.schedule.passing.keys().copied().collect();
            self.model.retain(|at| !passing.contains(at));
            self.store.commit(true);
            let next_number = self.schedule.next_number;
            self.schedule = Schedule::recover(&self.store, ID).unwrap();
            self.schedule.next_number = next_number;
        }

        fn check(&self) {
            assert_eq!(self.schedule.count(), self.model.len() as u64);
            let held = self
                .schedule
                .soon
                .values()
                .map(|soon| soon.delayed.bytes())
                .sum::<usize>();
            assert_eq!(held, self.schedule.soon_bytes);
            let passing: usize = self.schedule.passing.values().map(Delayed::bytes).sum();
            assert_eq!(passing, self.schedule.passing_bytes);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add { after: u64, is_stored: bool },
        Cancel { number: u64 },
        Advance { by: u64 },
        Commit,
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            10 => (1..10_000_u64, prop::bool::weighted(0.9)).prop_map(|(after, is_stored)| Step::Add { after, is_stored }),
            2 => (0..80_u64).prop_map(|number| Step::Cancel { number }),
            3 => (0..3_000_u64).prop_map(|by| Step::Advance { by }),
            3 => Just(Step::Commit),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        #[test]
        fn every_message_comes_once_in_order_and_in_time(steps in prop::collection::vec(step(), 1..120)) {
            let mut world = World::new();
            for step in steps {
                match step {
                    Step::Add { after, is_stored } => world.add(world.now + after, is_stored),
                    Step::Cancel { number } => world.cancel(number),
                    Step::Advance { by } => world.advance(by),
                    Step::Commit => world.store.commit(false),
                    Step::Restart => world.restart(),
                }
                world.check();
            }
            world.advance(20_000);
            prop_assert!(world.model.is_empty());
        }
    }

    #[test]
    fn memory_holds_a_window_however_many_wait() {
        let mut world = World::new();
        for number in 0..10_000 {
            world.add(100_000 - number, true);
            if number % 50 == 49 {
                world.store.commit(false);
            }
        }
        assert_eq!(world.schedule.count(), 10_000);
        assert!(
            world.schedule.soon_bytes <= WINDOW_BYTES,
            "{}",
            world.schedule.soon_bytes
        );
        assert!(world.schedule.fresh.len() <= 51, "{}", world.schedule.fresh.len());
        world.store.commit(false);
        world.advance(95_000);
        assert!(
            world.schedule.soon_bytes <= WINDOW_BYTES,
            "{}",
            world.schedule.soon_bytes
        );
        world.check();
    }
}
