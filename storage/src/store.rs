//! The handle the broker holds.

use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use crate::commit::{CommitListener, Shared};
use crate::directory;
use crate::engine::Engine;
use crate::error::StorageError;
use crate::ids::{NEVER, Position, QueueId, Ticket};
use crate::load;
use crate::memory::MemoryDisk;
use crate::options::StoreOptions;
use crate::pending::Stop;
use crate::read::{self, RecoveredMessage, Shown, StoredMessage};
use crate::reclaim;
use crate::records::Definition;
use crate::rocks::Rocks;
use crate::writer::{Hold, Writer};

/// Definitions and the messages of durable queues. Clones are the same store. The directory is free again when the last clone
/// is dropped; without [`close`](Self::close), that is as if the process had been killed.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    /// The one that commits and the one that frees disk space.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a store has done since it was opened, and what it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStatistics {
    /// Commits written.
    pub commits: u64,
    /// Syncs asked of the disk.
    pub syncs: u64,
    /// Bytes handed to the engine, keys included.
    pub bytes_written: u64,
    /// Messages appended.
    pub messages_appended: u64,
    /// Messages settled, purged or deleted with their queue.
    pub messages_settled: u64,
    /// Messages alive now.
    pub messages_live: u64,
    /// Bodies that several of them have in common.
    pub bodies_live: u64,
    /// Chunks with live messages or bodies now.
    pub chunks_live: u64,
    /// Bytes of messages that wait to be written, or are being written.
    pub pending_bytes: u64,
}

/// What is known of the messages of a queue without reading them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueContents {
    /// Live messages.
    pub messages: u64,
    /// What they weigh, by [`StoreOptions::weigh`].
    pub body_bytes: u64,
    /// When the first of them may expire, if any does.
    pub expires: Option<u64>,
    /// No live message stands before this.
    pub first: Position,
    /// The lowest position that was never used.
    pub next: Position,
    /// Everything below may have been delivered.
    pub delivered: Position,
}

impl Store {
    /// Opens the store in a directory, which is made if it is not there. Errors: in use by another process, written by a newer
    /// version, not a directory, not writable, damaged.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Store, StorageError> {
        let database = directory::prepare(dir)?;
        let engine = Rocks::open(&database)?;
        directory::mark(dir)?;
        Self::start(Box::new(engine), options)
    }

    /// A store on a new disk in memory.
    pub fn in_memory(options: StoreOptions) -> Store {
        let shared = Shared::new(Box::new(MemoryDisk::new()), options, load::empty(), 1);
        Self::spawn(shared)
    }

    /// A store on a given disk in memory: for tests that break it, or look at what a crash would leave.
    pub fn on_memory_disk(disk: &MemoryDisk, options: StoreOptions) -> Result<Store, StorageError> {
        Self::start(Box::new(disk.clone()), options)
    }

    /// All definitions that are committed: virtual hosts, users, permissions, exchanges, queues, bindings, settings.
    pub fn definitions(&self) -> Result<Vec<Definition>, StorageError> {
        load::definitions(&*self.shared().engine)
    }

    /// A queue id that no durable queue ever had.
    pub fn allocate_queue_id(&self) -> QueueId {
        QueueId(self.shared().next_queue_id.fetch_add(1, Ordering::Relaxed))
    }

    /// Locks the pending commit to add to it.
    pub fn writer(&self) -> Writer<'_> {
        Writer::new(self.shared())
    }

    /// Keeps the pending commit together until the hold is dropped.
    pub fn hold(&self) -> Hold<'_> {
        Hold::new(self.shared())
    }

    /// The highest durable ticket; never falls.
    pub fn durable(&self) -> Ticket {
        self.shared().durable()
    }

    /// Calls the listener once: after the next commit, or when the store fails or closes, at once if it has. First register,
    /// then look at [`durable`](Self::durable) again: what became durable in between calls nobody.
    pub fn wake_on_commit(&self, listener: Arc<dyn CommitListener>) {
        self.shared().listen(listener);
    }

    /// Waits until a ticket is durable. Errors: the store failed or was closed before. Not for async tasks.
    pub fn wait(&self, ticket: Ticket) -> Result<(), StorageError> {
        self.shared().wait(ticket)
    }

    /// Makes everything written so far durable, settled messages included, whatever the fsync setting, and waits for it.
    pub fn flush(&self) -> Result<(), StorageError> {
        let shared = self.shared();
        if shared.options.manual_commit {
            let ticket = shared.state.lock().ticket;
            shared.commit(true, true);
            return shared.wait(ticket);
        }
        let mut state = shared.state.lock();
        let ticket = shared.ask_for_flush(&mut state);
        drop(state);
        shared.wait(ticket)
    }

    /// Commits what waits, on this thread; with `lazily`, also what would be written a little later. Without effect while a hold
    /// lives. For stores opened with [`StoreOptions::manual_commit`].
    pub fn commit(&self, lazily: bool) {
        self.shared().commit(lazily, false);
    }

    /// Frees the disk space of what is gone, on this thread. For stores opened with [`StoreOptions::manual_commit`]; others do so
    /// by themselves.
    pub fn reclaim(&self) {
        reclaim::reclaim(self.shared());
    }

    /// Whether so much waits to be written that publishers must pause. Ask again after each commit.
    pub fn is_congested(&self) -> bool {
        self.shared().is_congested()
    }

    /// Why the store refuses writes, if it does. After a failed write or sync it does so for good.
    pub fn failed(&self) -> Option<Arc<StorageError>> {
        self.shared().failed()
    }

    /// Whether the store refuses writes: see [`failed`](Self::failed).
    pub fn has_failed(&self) -> bool {
        self.shared().has_failed()
    }

    /// Why nothing is written at the moment, if it is so: the store has failed, or the disk is full and the store goes on when
    /// there is room.
    pub fn trouble(&self) -> Option<Arc<StorageError>> {
        self.failed().or_else(|| self.shared().stalled())
    }

    /// Makes a data directory with a copy of everything that was submitted before, while the store goes on. The directory must
    /// not exist yet. Files are shared with the copy where the file system can do that: the store never changes a finished one.
    pub fn backup(&self, directory: &Path) -> Result<(), StorageError> {
        if let Some(error) = self.trouble() {
            return Err(StorageError::Failed(error));
        }
        self.flush()?;
        let database = directory::begin_copy(directory)?;
        let copied = self.shared().engine.copy_to(&database);
        copied
            .and_then(|()| directory::finish_copy(directory))
            .inspect_err(|_| {
                // Half a copy has no format file and would be refused; it only takes room.
                let _ = std::fs::remove_dir_all(directory);
            })
    }

    /// The queues that the store keeps anything for.
    pub fn queues(&self) -> Vec<QueueId> {
        let state = self.shared().state.lock();
        let named = |queue: &QueueId| !queue.is_spill() && *queue != QueueId::BODIES;
        state.queues.keys().copied().filter(named).collect()
    }

    /// The lowest position that was never used in this queue, as far as the store knows.
    pub fn next_position(&self, queue: QueueId) -> Position {
        self.shared()
            .state
            .lock()
            .queues
            .get(&queue)
            .map_or(Position(0), |log| log.next_unused())
    }

    /// How many live messages a queue has.
    pub fn message_count(&self, queue: QueueId) -> u64 {
        self.shared().state.lock().queues.get(&queue).map_or(0, |log| log.live)
    }

    /// What a queue has, without reading its messages.
    pub fn contents(&self, queue: QueueId) -> QueueContents {
        let state = self.shared().state.lock();
        let Some(log) = state.queues.get(&queue) else {
            return QueueContents::default();
        };
        QueueContents {
            messages: log.live,
            body_bytes: log.chunks.iter().map(|chunk| u64::from(chunk.body)).sum(),
            expires: log
                .chunks
                .iter()
                .map(|chunk| chunk.expiry().first)
                .min()
                .filter(|expires| *expires != NEVER),
            first: log.chunks.front().map_or(log.next, |chunk| chunk.first()),
            next: log.next_unused(),
            delivered: log.delivered,
        }
    }

    /// Commits happen only when they are asked for: see [`StoreOptions::manual_commit`].
    pub fn is_manual(&self) -> bool {
        self.shared().options.manual_commit
    }

    /// Shows the live messages of a queue in order. A damaged chunk is passed over: the rest is shown, then the first error
    /// returned.
    pub fn recover_queue(
        &self,
        queue: QueueId,
        visit: &mut dyn FnMut(RecoveredMessage<'_>),
    ) -> Result<(), StorageError> {
        let mut first_error = None;
        let mut show = |shown: Shown<'_>| {
            if let Shown::Message(message) = shown {
                visit(message);
            }
            ControlFlow::Continue(())
        };
        let mut damaged = |error| {
            tracing::error!(queue = queue.0, %error, "messages cannot be read");
            first_error.get_or_insert(error);
            ControlFlow::Continue(())
        };
        read::visit(self.shared(), queue, Position(0), &mut show, &mut damaged)?;
        first_error.map_or(Ok(()), Err)
    }

    /// Shows the live messages of a queue from one position up to another, in order, until they have `max_bytes` of payload or
    /// there are no more; it ends with a chunk if half of that is reached. Returns the position below which all were shown.
    /// Damaged chunks are passed over and logged.
    ///
    /// Errors: the engine cannot read at the moment. What was shown until then is no more than the beginning.
    pub fn read_range(
        &self,
        queue: QueueId,
        range: Range<Position>,
        max_bytes: u64,
        visit: &mut dyn FnMut(RecoveredMessage<'_>),
    ) -> Result<Position, StorageError> {
        let (mut bytes, mut reached, mut next) = (0, range.end, range.start);
        let mut show = |shown: Shown<'_>| {
            let Shown::Message(message) = shown else {
                // What is left of a chunk would have to be read once more.
                if bytes == 0 || bytes < max_bytes / 2 {
                    return ControlFlow::Continue(());
                }
                reached = next;
                return ControlFlow::Break(());
            };
            if message.position >= range.end {
                return ControlFlow::Break(());
            }
            if bytes >= max_bytes {
                reached = message.position;
                return ControlFlow::Break(());
            }
            bytes += message.payload.len() as u64;
            next = message.position.next();
            visit(message);
            ControlFlow::Continue(())
        };
        let mut damaged = |error| {
            tracing::error!(queue = queue.0, %error, "messages cannot be read");
            ControlFlow::Continue(())
        };
        read::visit(self.shared(), queue, range.start, &mut show, &mut damaged)?;
        Ok(reached)
    }

    /// Like [`read_range`](Self::read_range), for what was [spilled](Writer::spill).
    pub fn read_spilled(
        &self,
        queue: QueueId,
        range: Range<Position>,
        max_bytes: u64,
        visit: &mut dyn FnMut(RecoveredMessage<'_>),
    ) -> Result<Position, StorageError> {
        self.read_range(queue.spill(), range, max_bytes, visit)
    }

    /// Reads live messages from a position on, in order: whole chunks, until there are `max_bytes` of payload or the queue
    /// ends. Nothing means that there is nothing. Errors: the first chunk with something to read is damaged.
    pub fn read(&self, queue: QueueId, from: Position, max_bytes: usize) -> Result<Vec<StoredMessage>, StorageError> {
        let (mut messages, mut bytes, mut failure) = (Vec::new(), 0, None);
        let mut show = |shown: Shown<'_>| match shown {
            Shown::Message(RecoveredMessage {
                position,
                redelivered,
                delivery_count,
                payload,
                ..
            }) => {
                bytes += payload.len();
                let payload = payload.to_vec();
                messages.push(StoredMessage {
                    position,
                    redelivered,
                    delivery_count,
                    payload,
                });
                ControlFlow::Continue(())
            }
            Shown::EndOfValue(_) if bytes < max_bytes => ControlFlow::Continue(()),
            Shown::EndOfValue(_) => ControlFlow::Break(()),
        };
        let mut damaged = |error| {
            failure = Some(error);
            ControlFlow::Break(())
        };
        read::visit(self.shared(), queue, from, &mut show, &mut damaged)?;
        match failure {
            Some(error) if messages.is_empty() => Err(error),
            _ => Ok(messages),
        }
    }

    /// Writes and syncs everything, and ends the commit thread. The store takes nothing any more; it can still be read.
    pub fn close(&self) -> Result<(), StorageError> {
        let shared = self.shared();
        shared.state.lock().stop = Some(Stop::Flush);
        if shared.options.manual_commit {
            shared.commit(true, true);
        } else {
            shared.wake();
            self.inner.join();
        }
        shared.refuse();
        shared.failed().map_or(Ok(()), |error| Err(StorageError::Failed(error)))
    }

    /// What the store has done and has.
    pub fn statistics(&self) -> StoreStatistics {
        let shared = self.shared();
        let state = shared.state.lock();
        let logs = || state.queues.values();
        let bodies_live = state.queues.get(&QueueId::BODIES).map_or(0, |log| log.live);
        StoreStatistics {
            commits: shared.commits.load(Ordering::Relaxed),
            syncs: shared.syncs.load(Ordering::Relaxed),
            bytes_written: shared.bytes_written.load(Ordering::Relaxed),
            messages_appended: state.appended,
            messages_settled: state.settled,
            messages_live: logs().map(|log| log.live).sum::<u64>() - bodies_live,
            bodies_live,
            chunks_live: logs().map(|log| log.chunks.len() as u64).sum(),
            pending_bytes: (state.pending.bytes + state.writing_bytes) as u64,
        }
    }

    fn start(engine: Box<dyn Engine>, options: StoreOptions) -> Result<Store, StorageError> {
        let (state, next_queue_id) = load::load(&*engine, options.weigh)?;
        Ok(Self::spawn(Shared::new(engine, options, state, next_queue_id)))
    }

    fn spawn(shared: Shared) -> Store {
        let shared = Arc::new(shared);
        let mut threads = Vec::new();
        let mut start = |name: &str, life: fn(&Shared)| {
            let shared = shared.clone();
            let living = shared.clone();
            let builder = thread::Builder::new().name(name.into());
            match builder.spawn(move || life(&living)) {
                Ok(thread) => threads.push(thread),
                Err(error) => shared.fail(StorageError::Engine {
                    operation: "starting a thread",
                    message: error.to_string(),
                }),
            }
        };
        if !shared.options.manual_commit {
            start("leveret-commit", Shared::run);
            start("leveret-reclaim", |shared| shared.reclaimer.run(shared));
        }
        Store {
            inner: Arc::new(Inner {
                shared,
                threads: Mutex::new(threads),
            }),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.inner.shared
    }
}

impl Inner {
    fn join(&self) {
        self.shared.reclaimer.stop();
        for running in std::mem::take(&mut *self.threads.lock()) {
            // A listener may drop the last handle on the commit thread itself, which then ends by itself.
            if running.thread().id() != thread::current().id() && running.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
            // The commit thread is the first, and there is nothing to write behind its last commit.
            self.shared.engine.stop();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.abandon();
        self.join();
    }
}
