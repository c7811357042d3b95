//! Queues longer than memory allows: how much each may hold, and who reads back what it does not.
//!
//! All queues share one budget. A queue may hold as much as all together leave free, so that one long queue gets half of the
//! budget, many get little each, and all together never more than there is; besides, each may hold [`QUEUE_BYTES_MIN`], or
//! [`QUEUE_BYTES_LEAST`] when there are so many that this would come to much. Messages that are on disk anyway have a part of the
//! budget to share, and each queue a part of what that leaves free. What a queue has more is paged: see
//! [`Queue`](crate::queue::Queue).
//!
//! Loads are done by threads of their own, because a read may wait for the disk. A thread hands out what it has read and
//! goes on with the next queue, so that queues take turns. How much it reads is decided when it begins: of thousands of queues
//! that ask while memory is free, those whose turn comes when it is used up get little. The same threads find what has expired on disk.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use leveret_storage::{ExpiredFound, NEVER, QueueId, RecoveredMessage, StorageError, Writer};
use parking_lot::{Condvar, Mutex};

use super::QueueHandle;
use super::effects::{Scratch, message_of, storage_position};
use crate::protocol::message::Message;
use crate::queue::{Found, History, Load, Loaded, PERSISTED_PART, Position, Room, Search};

/// A queue may hold so much, whatever the others hold.
pub const QUEUE_BYTES_MIN: u64 = 8 << 10;
/// When all together hold so much more than their part of the budget,
const OVERDRAFT_BYTES_MAX: u64 = 32 << 20;
/// it is so much.
const QUEUE_BYTES_LEAST: u64 = 2 << 10;
/// Persisted messages of all queues share one part in so many of the budget.
const PERSISTED_BUDGET_PART: u64 = 2;
/// A queue reports what it holds when that has changed by so much,
const REPORT_BYTES_MAX: u64 = 4 << 10;
/// or by a part in so many of what it reported before,
const REPORT_PART: u64 = 4;
/// though not by less than this.
const REPORT_BYTES_MIN: u64 = 1 << 10;
/// One may wait for the disk while the other decodes.
const LOAD_THREADS: usize = 2;
/// A search that finds that less than one in so many of the messages that it read have expired
const SEARCH_YIELD_DIVISOR: u64 = 4;
/// is not repeated before so much later: otherwise the same messages would be read again and again.
const SEARCH_PAUSE_MILLIS: u64 = 1000;
/// What the store could not read is tried again so much later.
const LOAD_RETRY_DELAY: Duration = Duration::from_secs(1);

/// What all queues of a broker share.
pub struct Paging {
    budget_bytes: u64,
    used_bytes: AtomicU64,
    jobs: Arc<Jobs>,
}

#[derive(Default)]
struct Jobs {
    waiting: Mutex<Waiting>,
    work: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    stopped: bool,
}

struct Job {
    queue: Weak<QueueHandle>,
    wanted: Wanted,
}

#[derive(Clone, Copy)]
enum Wanted {
    Load(Load),
    Search(Search),
}

impl Paging {
    /// With threads that load.
    pub fn start(budget_bytes: u64) -> io::Result<Paging> {
        let paging = Paging::by_hand(budget_bytes);
        for number in 0..LOAD_THREADS {
            let jobs = paging.jobs.clone();
            let builder = thread::Builder::new().name(format!("leveret-load-{number}"));
            builder.spawn(move || jobs.run())?;
        }
        Ok(paging)
    }

    /// Without threads: loads happen in [`load_next`](Paging::load_next), so that a simulation decides when.
    pub fn by_hand(budget_bytes: u64) -> Paging {
        Paging {
            budget_bytes,
            used_bytes: AtomicU64::new(0),
            jobs: Arc::default(),
        }
    }

    /// Does the load that waits longest, on this thread. False if there is none.
    pub fn load_next(&self) -> bool {
        let job = self.jobs.waiting.lock().jobs.pop_front();
        job.map(Job::run).is_some()
    }

    /// Memory that the ready messages of any one queue may take now.
    pub(super) fn room(&self) -> Room {
        let used = self.used_bytes.load(Ordering::Relaxed);
        let free = |of: u64| {
            let is_overdrawn = used > of.saturating_add(OVERDRAFT_BYTES_MAX);
            let least = if is_overdrawn {
                QUEUE_BYTES_LEAST
            } else {
                QUEUE_BYTES_MIN
            };
            of.saturating_sub(used).max(least)
        };
        Room {
            bytes: free(self.budget_bytes),
            persisted_bytes: free(self.budget_bytes / PERSISTED_BUDGET_PART) / PERSISTED_PART,
        }
    }

    /// A queue holds so much now, and has `reported` something else before.
    pub(super) fn report(&self, reported: &mut u64, bytes: u64) {
        let step = (*reported / REPORT_PART).clamp(REPORT_BYTES_MIN, REPORT_BYTES_MAX);
        if bytes.abs_diff(*reported) >= step || (bytes == 0 && *reported > 0) {
            self.used_bytes
                .fetch_add(bytes.wrapping_sub(*reported), Ordering::Relaxed);
            *reported = bytes;
        }
    }

    /// Has paged messages of a queue read soon.
    pub(super) fn load(&self, queue: Weak<QueueHandle>, load: Load) {
        self.add(queue, Wanted::Load(load));
    }

    /// Has paged messages that have expired found soon.
    pub(super) fn search(&self, queue: Weak<QueueHandle>, search: Search) {
        self.add(queue, Wanted::Search(search));
    }

    fn add(&self, queue: Weak<QueueHandle>, wanted: Wanted) {
        self.jobs.waiting.lock().jobs.push_back(Job { queue, wanted });
        self.jobs.work.notify_one();
    }
}

impl Drop for Paging {
    fn drop(&mut self) {
        self.jobs.waiting.lock().stopped = true;
        self.jobs.work.notify_all();
    }
}

impl Jobs {
    /// The life of a thread that loads.
    fn run(&self) {
        while let Some(job) = self.next() {
            if let Some(again) = job.run() {
                let mut waiting = self.waiting.lock();
                if !waiting.stopped {
                    self.work.wait_for(&mut waiting, LOAD_RETRY_DELAY);
                }
                waiting.jobs.push_back(again);
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut waiting = self.waiting.lock();
        loop {
            if waiting.stopped {
                return None;
            }
            if let Some(job) = waiting.jobs.pop_front() {
                return Some(job);
            }
            self.work.wait(&mut waiting);
        }
    }
}

impl Job {
    /// Reads and hands out. Comes back if it must be tried again.
    fn run(self) -> Option<Job> {
        let queue = self.queue.upgrade()?;
        let done = match self.wanted {
            Wanted::Load(load) => queue.read(load.fit(queue.paging.room())).map(|loaded| {
                queue.loaded(load, loaded, &mut Scratch::default());
            }),
            Wanted::Search(search) => queue.find_expired(search).map(|found| queue.found(found)),
        };
        match done {
            Ok(()) => None,
            Err(error) => {
                tracing::error!(queue = %queue.name, vhost = %queue.vhost, %error, "messages cannot be read; trying again");
                Some(self)
            }
        }
    }
}

impl QueueHandle {
    /// Reads the first messages of a load: persisted and spilled ones in one order.
    pub(super) fn read(&self, mut load: Load) -> Result<Loaded<Message>, StorageError> {
        loop {
            let loaded = self.read_part(load)?;
            // All that was found may be of other priorities.
            if !loaded.messages.is_empty() || loaded.until >= load.until {
                return Ok(loaded);
            }
            load.from = loaded.until;
        }
    }

    fn read_part(&self, load: Load) -> Result<Loaded<Message>, StorageError> {
        let (from, mut until) = (storage_position(load.from), storage_position(load.until));
        let mut messages = Vec::new();
        let mut take = |stored: RecoveredMessage<'_>| match message_of(&stored) {
            Ok(message) if !load.wants(&message) => {}
            Ok(message) => {
                let history = History {
                    delivery_count: stored.delivery_count,
                    redelivered: stored.redelivered,
                    expires_at: Message::split_stored_expiry(stored.payload).0,
                };
                messages.push((Position(stored.position.0), history, message));
            }
            Err(error) => tracing::error!(queue = %self.name, vhost = %self.vhost, "a message cannot be read: {error}"),
        };
        if self.properties.durable {
            until = self.store.read_range(self.id, from..until, load.bytes, &mut take)?;
        }
        until = self.store.read_spilled(self.id, from..until, load.bytes, &mut take)?;
        let until = Position(until.0);
        messages.retain(|(position, ..)| *position < until);
        messages.sort_unstable_by_key(|(position, ..)| *position);
        Ok(Loaded { messages, until })
    }
}

/// What was found of the messages of a queue that have expired on disk.
pub(super) struct ExpiredOnDisk {
    found: Found<Message>,
    persisted: ExpiredFound,
    spilled: ExpiredFound,
}

impl ExpiredOnDisk {
    /// What was searched for.
    pub(super) fn search(&self) -> Search {
        self.found.search
    }

    /// The messages. What is left is for [`say_done`](Self::say_done).
    pub(super) fn take(&mut self) -> Found<Message> {
        Found {
            search: self.found.search,
            messages: std::mem::take(&mut self.found.messages),
            next_millis: self.found.next_millis,
        }
    }

    /// The messages have left their queue: they need not be found again.
    pub(super) fn say_done(&self, writer: &mut Writer<'_>, queue: QueueId) {
        writer.saw_expired(queue, &self.persisted);
        writer.saw_spilled_expired(queue, &self.spilled);
    }
}

impl QueueHandle {
    /// Finds messages that have expired.
    fn find_expired(&self, search: Search) -> Result<ExpiredOnDisk, StorageError> {
        let range = storage_position(search.from)..storage_position(search.until);
        let now = search.now_millis;
        let mut messages = Vec::new();
        let mut take = |stored: RecoveredMessage<'_>| match message_of(&stored) {
            Ok(message) => messages.push((Position(stored.position.0), message)),
            Err(error) => tracing::error!(queue = %self.name, vhost = %self.vhost, "a message cannot be read: {error}"),
        };
        let mut persisted = ExpiredFound::default();
        let mut next_millis = NEVER;
        if self.properties.durable {
            persisted = self.store.read_expired(self.id, range.clone(), now, &mut take)?;
            next_millis = persisted.next;
        }
        let spilled = self.store.read_spilled_expired(self.id, range, now, &mut take)?;
        next_millis = next_millis.min(spilled.next);
        if (persisted.expired + spilled.expired) * SEARCH_YIELD_DIVISOR < persisted.seen + spilled.seen {
            next_millis = next_millis.max(now + SEARCH_PAUSE_MILLIS);
        }
        messages.sort_unstable_by_key(|(position, _)| *position);
        let found = Found {
            search,
            messages,
            next_millis,
        };
        Ok(ExpiredOnDisk {
            found,
            persisted,
            spilled,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_queue_may_hold_half_of_the_budget_and_many_no_more_than_all_of_it() {
        let paging = Paging::by_hand(1 << 20);
        let mut held = [0; 50];
        let mut reported = [0; 50];
        for (held, reported) in held.iter_mut().zip(&mut reported) {
            while *held + 1024 <= paging.room().bytes {
                *held += 1024;
                paging.report(reported, *held);
            }
        }
        assert!((500_000..550_000).contains(&held[0]), "{}", held[0]);
        assert_eq!(held[49], QUEUE_BYTES_MIN);
        let total: u64 = held.iter().sum();
        assert!(
            total <= (1 << 20) + 50 * (QUEUE_BYTES_MIN + REPORT_BYTES_MAX),
            "{total}"
        );
        for reported in &mut reported {
            paging.report(reported, 0);
        }
        assert_eq!(paging.room().bytes, 1 << 20);
    }

    #[test]
    fn a_hundred_thousand_queues_hold_little_more_than_the_budget() {
        const BUDGET: u64 = 128 << 20;
        for persisted in [false, true] {
            let paging = Paging::by_hand(BUDGET);
            let mut held = vec![(0, 0); 100_000];
            // They fill in turn.
            for _ in 0..20 {
                for (held, reported) in &mut held {
                    let room = paging.room();
                    let most = if persisted { room.persisted_bytes } else { room.bytes };
                    if *held + 1024 <= most {
                        *held += 1024;
                        paging.report(reported, *held);
                    }
                }
            }
            let total: u64 = held.iter().map(|(held, _)| held).sum();
            let part = if persisted { PERSISTED_BUDGET_PART } else { 1 };
            let most = BUDGET / part + OVERDRAFT_BYTES_MAX;
            let least = 100_000 * QUEUE_BYTES_LEAST;
            assert!((most..=most + least).contains(&total), "{persisted} {total}");
        }
    }
}
