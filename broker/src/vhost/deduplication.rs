//! Dropping duplicates: a message with the key of one that was published before goes nowhere, and its publisher is told
//! that all is well.
//!
//! An exchange or a queue that asks for it has a window of the last keys, in memory. The keys of persistent messages in a durable
//! window are also in the store, in a log of the window; a key and its message are one write, so that after a crash both
//! are there or neither. Only what clients publish counts: what the broker moves by itself, as dead letters and delayed
//! messages, is never a duplicate of itself.
//!
//! ```text
//!   in the log:  | good until (8) | the hash of the key (16) |
//! ```
//!
//! Locks: a window is locked before the queues that the message goes to, several windows in the order of their owners. The list
//! of windows is a leaf.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use amq_protocol::types::{AMQPValue, FieldTable};
use leveret_routing::{CACHE_TTL_ARGUMENT, Deduplication, ExchangeRef, MessageHeaders};
use leveret_storage::{DefinitionKey, Position, QueueId, Store, Ticket};
use parking_lot::{ArcMutexGuard, Mutex, RawMutex};
use sha2::{Digest, Sha256};

use super::delivery::Delivered;
use super::effects::Scratch;
use super::queue_handle::Published;
use super::routes::Targets;
use super::{QueueHandle, Vhost};
use crate::protocol::field_table::encode_table;
use crate::protocol::message::Message;
use crate::queue::integer;
use crate::settings::{self, DeduplicationOwner, Setting};
use crate::timer::unix_millis;

/// A key, hashed, so that long ones take no more memory than short ones.
type Key = [u8; 16];

/// What an exchange or a queue asks of a message before it takes it.
pub struct Claim {
    owner: DeduplicationOwner,
    /// The queue, if it is one that asks.
    queue: Option<Arc<QueueHandle>>,
    /// The owner outlives a restart.
    durable: bool,
    key: Key,
    /// How many keys the owner remembers, and for how long this one.
    keys: usize,
    ttl_millis: Option<u64>,
}

/// What has to be asked for a message: its exchange first, then queues in the order of their names.
pub(super) fn claims(
    exchange: Option<(ExchangeRef<'_>, &Deduplication)>,
    queues: &[Arc<QueueHandle>],
    facts: &dyn MessageHeaders,
) -> Vec<Claim> {
    let Some(headers) = facts.field_table() else {
        return Vec::new();
    };
    let ttl = headers.inner().get(CACHE_TTL_ARGUMENT).and_then(integer);
    let ttl = ttl.and_then(|ttl| u64::try_from(ttl).ok());
    let claim = |owner, queue, durable, deduplication: &Deduplication| {
        Some(Claim {
            owner,
            queue,
            durable,
            key: hash(headers.inner().get(deduplication.header.as_str())?),
            keys: deduplication.keys,
            ttl_millis: ttl.or(deduplication.ttl_millis),
        })
    };
    let mut claims: Vec<Claim> = queues
        .iter()
        .filter_map(|queue| {
            let deduplication = queue.properties.arguments.deduplication()?;
            let owner = DeduplicationOwner::Queue(queue.name.to_string());
            claim(owner, Some(queue.clone()), queue.properties.durable, deduplication)
        })
        .chain(exchange.and_then(|(exchange, deduplication)| {
            let owner = DeduplicationOwner::Exchange(exchange.name.to_owned());
            claim(owner, None, exchange.options.durable, deduplication)
        }))
        .collect();
    claims.sort_by(|a, b| a.owner.cmp(&b.owner));
    claims
}

/// Values of different types are different keys.
fn hash(value: &AMQPValue) -> Key {
    let mut table = FieldTable::default();
    table.insert("".into(), value.clone());
    let mut encoded = Vec::new();
    encode_table(&table, &mut encoded);
    let digest = Sha256::digest(&encoded);
    let mut key = Key::default();
    for (octet, of_digest) in key.iter_mut().zip(digest) {
        *octet = of_digest;
    }
    key
}

/// The windows of a virtual host.
#[derive(Default)]
pub(super) struct Windows {
    by_owner: Mutex<HashMap<DeduplicationOwner, Arc<SharedWindow>>>,
}

/// A window, and what must be known of it without waiting for who publishes.
#[derive(Default)]
struct SharedWindow {
    window: Arc<Mutex<Window>>,
    log: Mutex<Log>,
}

/// Where the keys of a window are stored.
#[derive(Clone, Copy, Default)]
enum Log {
    /// Nothing was stored yet.
    #[default]
    None,
    At(QueueId),
    /// The owner was deleted: nothing is stored any more.
    Gone,
}

/// The last keys of an exchange or a queue.
#[derive(Default)]
struct Window {
    next_position: u64,
    /// In the order in which they came. A key that came again after its time stands here twice.
    order: VecDeque<(u64, Key)>,
    remembered: HashMap<Key, Remembered>,
}

struct Remembered {
    position: u64,
    good_until_millis: u64,
    stored: bool,
    /// The commit of its message.
    ticket: Option<Ticket>,
}

impl Window {
    /// The commit of the message that came with this key before, if one did.
    fn find(&self, key: &Key, now_millis: u64) -> Option<Option<Ticket>> {
        let remembered = self.remembered.get(key)?;
        (remembered.good_until_millis > now_millis).then_some(remembered.ticket)
    }

    /// Remembers a key.
    fn insert(&mut self, key: Key, remembered: Remembered) {
        self.next_position = self.next_position.max(remembered.position + 1);
        self.order.push_back((remembered.position, key));
        self.remembered.insert(key, remembered);
    }

    /// Forgets what is too old or too much; `forgotten` is told what was stored.
    fn make_room(&mut self, keys: usize, now_millis: u64, mut forgotten: impl FnMut(u64)) {
        while let Some((position, key)) = self.order.front().copied() {
            let current = self.remembered.get(&key).filter(|it| it.position == position);
            let is_good = current.is_some_and(|it| it.good_until_millis > now_millis);
            if is_good && self.order.len() < keys {
                break;
            }
            // Of a key that came again nobody knows any more whether it was stored; settling what is not there does nothing.
            if current.is_none_or(|it| it.stored) {
                forgotten(position);
            }
            if current.is_some() {
                self.remembered.remove(&key);
            }
            self.order.pop_front();
        }
    }
}

impl Windows {
    fn of(&self, owner: &DeduplicationOwner) -> Arc<SharedWindow> {
        self.by_owner.lock().entry(owner.clone()).or_default().clone()
    }
}

impl SharedWindow {
    /// The log for another key, if the owner is still there.
    fn log(&self, store: &Store, vhost: &str, owner: &DeduplicationOwner) -> Option<QueueId> {
        let mut log = self.log.lock();
        match *log {
            Log::At(id) => Some(id),
            Log::Gone => None,
            Log::None => {
                let id = store.allocate_queue_id();
                *log = Log::At(id);
                let setting = Setting::DeduplicationLog {
                    vhost: vhost.to_owned(),
                    owner: owner.clone(),
                    log: id.0,
                };
                let mut writer = store.writer();
                writer.put(&setting.to_definition());
                writer.submit();
                Some(id)
            }
        }
    }
}

/// A claim with its window, locked.
struct Locked<'a> {
    claim: &'a Claim,
    shared: Arc<SharedWindow>,
    window: ArcMutexGuard<RawMutex, Window>,
}

impl Vhost {
    /// Hands a message that may be a duplicate to those of its targets for whom it is none.
    ///
    /// The caller holds the store, so that the keys and the message are one write.
    pub(super) fn deliver_once(
        &self,
        targets: &Targets,
        message: &Message,
        scratch: &mut Scratch,
        published: impl FnMut(&Arc<QueueHandle>, &Published),
    ) -> Delivered {
        let now_millis = unix_millis();
        let mut first_times = Vec::new();
        let mut left = Targets {
            queues: targets.queues.clone(),
            ..Targets::default()
        };
        // A duplicate is confirmed after the message of which it is one.
        let (mut earlier, mut duplicates) = (None, 0);
        let mut delays = targets.delays.as_slice();
        for claim in &targets.claims {
            let shared = self.deduplication.of(&claim.owner);
            let window = shared.window.lock_arc();
            match window.find(&claim.key, now_millis) {
                None => first_times.push(Locked { claim, shared, window }),
                Some(ticket) => {
                    earlier = earlier.max(ticket);
                    duplicates += 1;
                    match &claim.queue {
                        Some(queue) => left.queues.retain(|other| !Arc::ptr_eq(other, queue)),
                        None => {
                            left.queues.clear();
                            delays = &[];
                            break;
                        }
                    }
                }
            }
        }
        let mut delivered = self.hand_over(&left.queues, delays, message, scratch, published);
        if delivered.taken_by > 0 {
            for mut locked in first_times {
                // What is refused will be published again, and must not count as a duplicate then.
                let is_in = |queues: &[Arc<QueueHandle>], queue| queues.iter().any(|other| Arc::ptr_eq(other, queue));
                let is_taken = match &locked.claim.queue {
                    Some(queue) => is_in(&left.queues, queue) && !is_in(&delivered.refused_by, queue),
                    None => delivered.refused_by.is_empty(),
                };
                if is_taken {
                    delivered.ticket = delivered.ticket.max(self.remember(&mut locked, &delivered, now_millis));
                }
            }
        }
        self.counters.deduplicated.inc_by(duplicates);
        delivered.duplicate = duplicates > 0;
        let earlier = earlier.filter(|ticket| *ticket > self.store.durable());
        // What the store has failed to write may be the message of which this is a duplicate.
        delivered.lasts |= earlier.is_some() || (delivered.duplicate && self.store.has_failed());
        delivered.ticket = delivered.ticket.max(earlier);
        delivered
    }

    /// Remembers the key of a message that was taken; the commit that has it.
    fn remember(&self, locked: &mut Locked<'_>, delivered: &Delivered, now_millis: u64) -> Option<Ticket> {
        let Locked { claim, shared, window } = locked;
        let log = (claim.durable && delivered.lasts)
            .then(|| shared.log(&self.store, &self.name, &claim.owner))
            .flatten();
        let settled_in = match *shared.log.lock() {
            Log::At(log) => Some(log),
            Log::None | Log::Gone => None,
        };
        let mut writer = self.store.writer();
        window.make_room(claim.keys, now_millis, |position| {
            if let Some(log) = settled_in {
                writer.settle(log, Position(position));
            }
        });
        let position = window.next_position;
        let good_until_millis = claim.ttl_millis.map_or(u64::MAX, |ttl| now_millis.saturating_add(ttl));
        if let Some(log) = log {
            writer.append(log, Position(position), &[&good_until_millis.to_be_bytes(), &claim.key]);
        }
        let stored = Some(writer.submit()).filter(|stored| log.is_some() && *stored != Ticket::NONE);
        let remembered = Remembered {
            position,
            good_until_millis,
            stored: log.is_some(),
            ticket: delivered.ticket.max(stored),
        };
        window.insert(claim.key, remembered);
        stored
    }

    /// Forgets the keys of an exchange or a queue that is gone; its log and the key of the setting that names it.
    pub(super) fn forget_deduplication(&self, owner: &DeduplicationOwner) -> Option<(QueueId, DefinitionKey)> {
        let shared = self.deduplication.by_owner.lock().remove(owner)?;
        match std::mem::replace(&mut *shared.log.lock(), Log::Gone) {
            Log::At(log) => Some((log, settings::deduplication_log(&self.name, owner))),
            Log::None | Log::Gone => None,
        }
    }

    /// Brings back the keys of an exchange or a queue from their log.
    pub fn recover_deduplication(&self, owner: DeduplicationOwner, log: u64) {
        let log = QueueId(log);
        // A log that the store has nothing of may not have its number: a queue could get it.
        if !self.store.queues().contains(&log) {
            let mut writer = self.store.writer();
            writer.delete(&settings::deduplication_log(&self.name, &owner));
            writer.submit();
            return;
        }
        let mut window = Window {
            next_position: self.store.next_position(log).0,
            ..Window::default()
        };
        let mut unreadable = 0;
        let recovered = self.store.recover_queue(log, &mut |stored| {
            let parsed = stored.payload.split_first_chunk::<8>();
            match parsed.and_then(|(until, key)| Some((*until, Key::try_from(key).ok()?))) {
                Some((until, key)) => window.insert(
                    key,
                    Remembered {
                        position: stored.position.0,
                        good_until_millis: u64::from_be_bytes(until),
                        stored: true,
                        ticket: None,
                    },
                ),
                None => unreadable += 1,
            }
        });
        if recovered.is_err() || unreadable > 0 {
            tracing::error!(?owner, vhost = %self.name, "some keys of messages cannot be read: duplicates of those may come");
        }
        let shared = SharedWindow {
            window: Arc::new(Mutex::new(window)),
            log: Mutex::new(Log::At(log)),
        };
        self.deduplication.by_owner.lock().insert(owner, Arc::new(shared));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(window: &Window, good_until_millis: u64) -> Remembered {
        Remembered {
            position: window.next_position,
            good_until_millis,
            stored: true,
            ticket: None,
        }
    }

    fn key(number: u8) -> Key {
        [number; 16]
    }

    /// Remembers keys with the time until which they are good; the positions that were forgotten.
    fn fill(window: &mut Window, keys: usize, now_millis: u64, entries: &[(u8, u64)]) -> Vec<u64> {
        let mut forgotten = Vec::new();
        for (number, until) in entries {
            window.make_room(keys, now_millis, |position| forgotten.push(position));
            let entry = remembered(window, *until);
            window.insert(key(*number), entry);
        }
        forgotten
    }

    #[test]
    fn a_window_forgets_its_oldest_keys() {
        let mut window = Window::default();
        let forgotten = fill(&mut window, 3, 0, &[(1, 100), (2, 100), (3, 100), (4, 100)]);
        assert_eq!(forgotten, [0]);
        assert!(window.find(&key(1), 0).is_none());
        assert!(window.find(&key(2), 0).is_some());
    }

    #[test]
    fn a_key_is_forgotten_after_its_time_and_may_come_again() {
        let mut window = Window::default();
        fill(&mut window, 3, 0, &[(1, 100), (2, 50)]);
        assert!(window.find(&key(2), 49).is_some());
        assert!(window.find(&key(2), 50).is_none());
        assert!(fill(&mut window, 3, 60, &[(2, 200)]).is_empty());
        assert!(window.find(&key(2), 199).is_some());
        // The one behind the first that is still good goes with it, and leaves the key that came again.
        assert_eq!(fill(&mut window, 3, 100, &[(3, 200)]), [0, 1]);
        assert!(window.find(&key(2), 199).is_some());
        assert_eq!(window.remembered.len(), 2);
    }

    #[test]
    fn keys_that_come_again_and_again_take_no_more_room_than_there_is() {
        let mut window = Window::default();
        fill(&mut window, 10, 0, &[(1, u64::MAX)]);
        for time in 0..100 {
            fill(&mut window, 10, time, &[(2, time + 1)]);
        }
        assert!(window.order.len() <= 10);
    }

    #[test]
    fn keys_of_different_types_are_different() {
        assert_ne!(hash(&AMQPValue::LongInt(1)), hash(&AMQPValue::LongString("1".into())));
        assert_eq!(hash(&AMQPValue::LongInt(1)), hash(&AMQPValue::LongInt(1)));
    }
}
