//! The group commit: everything that waits becomes one write and at most one sync, and while that goes on the next commit
//! collects. No timer delays what somebody waits for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::engine::{Engine, Retry};
use crate::error::StorageError;
use crate::gate::Gate;
use crate::ids::Ticket;
use crate::options::{Fsync, StoreOptions};
use crate::pending::{Cut, State, Stop};
use crate::reclaim::Reclaimer;
use crate::rewrite::{Rewriter, Rewritten};

/// Is told when a commit became durable, or the store failed or closed.
pub trait CommitListener: Send + Sync {
    /// Called on the commit thread, without any lock of the store: it may call the store, but must not take long.
    fn committed(&self);
}

/// What the handles of a store and its commit thread share.
pub(crate) struct Shared {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) options: StoreOptions,
    /// Closed to the commit thread while a hold lives.
    pub(crate) gate: Gate,
    pub(crate) state: Mutex<State>,
    /// The lowest queue id that was never given out.
    pub(crate) next_queue_id: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    pub(crate) reclaimer: Reclaimer,
    /// With `state`: the commit thread has something to do.
    work: Condvar,
    /// With `state`: a commit became durable, or the store failed or closed.
    progress: Condvar,
    durable: AtomicU64,
    failed: OnceLock<Arc<StorageError>>,
    /// Why nothing can be written at the moment, though it may again.
    stalled: Mutex<Option<Arc<StorageError>>>,
    congested: AtomicBool,
    listeners: Mutex<Vec<Arc<dyn CommitListener>>>,
    committer: Mutex<Committer>,
}

/// What only the one who is committing needs.
#[derive(Default)]
struct Committer {
    rewriter: Rewriter,
    last_sync: Option<Instant>,
    /// When commits that were written but not synced must be.
    sync_due: Option<Instant>,
}

/// What the commit thread is to do next.
enum Work {
    Commit { lazily: bool, force_sync: bool },
    Sync,
    Stop(Stop),
}

impl Shared {
    pub(crate) fn new(engine: Box<dyn Engine>, options: StoreOptions, mut state: State, next_queue_id: u64) -> Self {
        state.pending.freed_bytes_min = options.reclaim_bytes_min / 2;
        state.pending.unjoined_chunks = options.unjoined_chunks;
        Self {
            engine,
            options,
            gate: Gate::default(),
            state: Mutex::new(state),
            next_queue_id: AtomicU64::new(next_queue_id),
            commits: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            reclaimer: Reclaimer::default(),
            work: Condvar::new(),
            progress: Condvar::new(),
            durable: AtomicU64::new(0),
            failed: OnceLock::new(),
            stalled: Mutex::new(None),
            congested: AtomicBool::new(false),
            listeners: Mutex::new(Vec::new()),
            committer: Mutex::new(Committer::default()),
        }
    }

    /// The life of the commit thread.
    pub(crate) fn run(&self) {
        let _guard = FailOnPanic(self);
        loop {
            match self.wait_for_work() {
                Work::Commit { lazily, force_sync } => self.commit(lazily, force_sync),
                Work::Sync => self.sync_late(),
                Work::Stop(Stop::Abandon) => return,
                Work::Stop(Stop::Flush) => {
                    self.commit(true, true);
                    return;
                }
            }
        }
    }

    /// Tells the commit thread that there is something for it in `state`.
    pub(crate) fn wake(&self) {
        self.work.notify_one();
    }

    /// Has everything written and synced at once, lazy things too. Returns the ticket of that commit.
    pub(crate) fn ask_for_flush(&self, state: &mut State) -> Ticket {
        state.flush = true;
        self.wake();
        state.ticket
    }

    /// Ends the commit thread at once unless it is ending, and whoever waits for it.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        state.stop.get_or_insert(Stop::Abandon);
        state.refusing = true;
        drop(state);
        self.wake();
        self.progress.notify_all();
    }

    pub(crate) fn durable(&self) -> Ticket {
        Ticket(self.durable.load(Ordering::Acquire))
    }

    pub(crate) fn failed(&self) -> Option<Arc<StorageError>> {
        self.failed.get().cloned()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.get().is_some()
    }

    pub(crate) fn stalled(&self) -> Option<Arc<StorageError>> {
        self.stalled.lock().clone()
    }

    pub(crate) fn is_congested(&self) -> bool {
        self.congested.load(Ordering::Relaxed)
    }

    /// Notes how much waits, after something was added or a commit was written.
    pub(crate) fn note_congestion(&self, state: &State) {
        let bytes = state.pending.bytes + state.writing_bytes;
        let limit = self.options.pending_bytes_max;
        if bytes > limit {
            self.congested.store(true, Ordering::Relaxed);
        } else if bytes <= limit / 2 {
            self.congested.store(false, Ordering::Relaxed);
        }
    }

    pub(crate) fn listen(&self, listener: Arc<dyn CommitListener>) {
        // Under the lock that `refusing` is set under: a listener is either in the list that is called after it, or called here.
        let state = self.state.lock();
        if !state.refusing {
            self.listeners.lock().push(listener);
            return;
        }
        drop(state);
        // Nothing will commit any more: whoever waits must look again now.
        listener.committed();
    }

    /// Waits until a ticket is durable, or cannot become so.
    pub(crate) fn wait(&self, ticket: Ticket) -> Result<(), StorageError> {
        if self.options.manual_commit && self.durable() < ticket {
            self.commit(false, false);
        }
        let mut state = self.state.lock();
        while self.durable() < ticket {
            if let Some(error) = self.failed() {
                return Err(StorageError::Failed(error));
            }
            if state.refusing {
                return Err(StorageError::Closed);
            }
            if self.options.manual_commit {
                let rule = "a ticket was waited for while a hold kept its commit back".into();
                return Err(StorageError::Misused { rule });
            }
            self.progress.wait(&mut state);
        }
        Ok(())
    }

    /// Refuses everything from now on.
    pub(crate) fn refuse(&self) {
        self.state.lock().refusing = true;
        self.progress.notify_all();
        self.call_listeners();
    }

    /// Takes what waits as one commit, writes it and publishes its ticket. With `lazily`, sparse chunks are rewritten and the
    /// index is brought up to date.
    pub(crate) fn commit(&self, lazily: bool, force_sync: bool) {
        let mut committer = self.committer.lock();
        let rewritten = if lazily {
            committer.rewriter.prepare(self)
        } else {
            Vec::new()
        };
        let cut = match self.cut(lazily, rewritten, &mut committer.rewriter) {
            Ok(Some(cut)) => cut,
            Ok(None) => return,
            Err(misuse) => {
                drop(committer);
                return self.fail(misuse);
            }
        };
        let sync = force_sync || cut.flush || committer.wants_sync(cut.needs_sync, self.options.fsync);
        let written = self.write(&cut, sync);
        if sync && written.is_ok() {
            committer.synced();
        }
        drop(committer);
        match written {
            Ok(()) => self.publish(cut),
            Err(error) if error.may_pass() && !self.options.manual_commit => {
                self.wait_for_room(error, cut, sync);
            }
            Err(error) => self.fail(error),
        }
    }

    /// Tries a commit that found the disk full or read-only until it is written, or the store is to stop. Meanwhile nothing is
    /// confirmed, what waits grows until publishers are asked to pause, and everything can be read.
    fn wait_for_room(&self, error: StorageError, cut: Cut, sync: bool) {
        tracing::error!(%error, "nothing is confirmed until it can be written");
        *self.stalled.lock() = Some(Arc::new(error));
        if let Err(error) = self.sync_what_is_written() {
            return self.fail(error);
        }
        let mut told = false;
        let written = loop {
            let stop = self.wait_for_stop(Duration::from_millis(DISK_FULL_RETRY_MILLIS));
            match self.write_again(&cut, sync) {
                Err(error) if error.may_pass() && !stop => {
                    // A try that looks first says how much room it needs, which is what an operator has to know.
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(%error, "it still cannot be written");
                    }
                    *self.stalled.lock() = Some(Arc::new(error));
                }
                written => break written,
            }
        };
        *self.stalled.lock() = None;
        if let Err(error) = written {
            return self.fail(error);
        }
        tracing::info!("what waited is written, and confirmed");
        if sync {
            self.committer.lock().synced();
        }
        self.publish(cut);
    }

    /// What was confirmed before its interval was over must not wait for room as well.
    fn sync_what_is_written(&self) -> Result<(), StorageError> {
        if self.committer.lock().sync_due.is_none() {
            return Ok(());
        }
        self.engine.sync_log()?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.committer.lock().synced();
        Ok(())
    }

    fn write_again(&self, cut: &Cut, sync: bool) -> Result<(), StorageError> {
        match self.engine.reopen()? {
            Retry::Missing => self.write(cut, sync),
            Retry::Present => self.engine.sync(),
        }
    }

    /// Whether the store is told to stop within this time.
    fn wait_for_stop(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut state = self.state.lock();
        while state.stop.is_none() && Instant::now() < end {
            self.work.wait_until(&mut state, end);
        }
        state.stop.is_some()
    }

    /// Takes what waits, once no hold lives. `None` if nothing may be taken.
    fn cut(
        &self,
        lazily: bool,
        rewritten: Vec<Rewritten>,
        rewriter: &mut Rewriter,
    ) -> Result<Option<Cut>, StorageError> {
        let (mut state, holds) = loop {
            if !self.options.manual_commit {
                self.gate.wait_for_turn();
            }
            let state = self.state.lock();
            match self.gate.close() {
                Some(holds) => break (state, holds),
                None if self.options.manual_commit => return Ok(None),
                None => {}
            }
        };
        // Who asks for a flush waits for the ticket of this commit, though it was begun for something else.
        let lazily = lazily || state.flush;
        let mut cut = None;
        let misuse = state.misuse.take();
        if misuse.is_none() && !state.refusing {
            rewritten.into_iter().for_each(|chunk| chunk.apply(&mut state));
            cut = Some(state.cut(lazily));
            if lazily {
                rewriter.note(std::mem::take(&mut state.pending.sparse));
                let soon = Duration::from_millis(REWRITE_PAUSE_MILLIS).min(self.options.lazy_flush);
                let pause = if rewriter.is_behind() {
                    soon
                } else {
                    self.options.lazy_flush
                };
                state.lazy_due = rewriter.is_waiting().then(|| Instant::now() + pause);
            }
        }
        drop(state);
        self.gate.open(holds);
        misuse.map_or(Ok(cut), Err)
    }

    fn wait_for_work(&self) -> Work {
        let sync_due = self.committer.lock().sync_due;
        let mut state = self.state.lock();
        loop {
            if let Some(stop) = state.stop {
                return Work::Stop(stop);
            }
            if state.flush {
                return Work::Commit {
                    lazily: true,
                    force_sync: true,
                };
            }
            let due = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
            let lazily = due(state.lazy_due);
            if state.pending.urgent || lazily || state.misuse.is_some() {
                return Work::Commit {
                    lazily,
                    force_sync: false,
                };
            }
            if due(sync_due) {
                return Work::Sync;
            }
            match state.lazy_due.into_iter().chain(sync_due).min() {
                Some(at) => {
                    self.work.wait_until(&mut state, at);
                }
                None => self.work.wait(&mut state),
            }
        }
    }

    fn write(&self, cut: &Cut, sync: bool) -> Result<(), StorageError> {
        if cut.is_empty() {
            if sync {
                self.engine.sync()?;
            }
        } else {
            let mut bytes = 0;
            self.engine.write(&mut |batch| bytes = cut.fill(batch), sync)?;
            self.commits.fetch_add(1, Ordering::Relaxed);
            self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
        }
        if sync {
            self.syncs.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Syncs what was written since the last sync.
    fn sync_late(&self) {
        let mut committer = self.committer.lock();
        match self.engine.sync() {
            Ok(()) => {
                committer.synced();
                self.syncs.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                drop(committer);
                self.fail(error);
            }
        }
    }

    fn publish(&self, cut: Cut) {
        let ticket = cut.ticket;
        if cut.frees() {
            self.reclaimer.note();
        }
        let mut state = self.state.lock();
        state.stored(cut);
        self.durable.store(ticket.0, Ordering::Release);
        self.note_congestion(&state);
        drop(state);
        self.progress.notify_all();
        self.call_listeners();
    }

    /// Ends all writing for good: after a failed write or sync nobody knows what is on the disk, and asking again may be told
    /// that all is well.
    pub(crate) fn fail(&self, error: StorageError) {
        tracing::error!(%error, "the store failed and refuses all writes from now on");
        let mut state = self.state.lock();
        // Both under one lock, so that who sees the one and then locks sees the other.
        let _ = self.failed.set(Arc::new(error));
        state.refusing = true;
        // The chunks that wait stay with their queues, where they can be read; the rest is of no use any more.
        state.pending = Default::default();
        state.lazy_due = None;
        state.flush = false;
        drop(state);
        self.progress.notify_all();
        self.call_listeners();
    }

    fn call_listeners(&self) {
        let listeners = std::mem::take(&mut *self.listeners.lock());
        listeners.iter().for_each(|listener| listener.committed());
    }
}

impl Committer {
    fn wants_sync(&mut self, needs_sync: bool, fsync: Fsync) -> bool {
        match fsync {
            Fsync::Always => needs_sync,
            Fsync::Never => false,
            Fsync::Interval(interval) => {
                let due = self.last_sync.map(|last| last + interval);
                if needs_sync && self.sync_due.is_none() {
                    self.sync_due = Some(due.unwrap_or_else(Instant::now));
                }
                self.sync_due.is_some_and(|due| due <= Instant::now())
            }
        }
    }

    fn synced(&mut self) {
        self.last_sync = Some(Instant::now());
        self.sync_due = None;
    }
}

/// A commit thread that panics must not leave its clients waiting, nor confirm anything.
struct FailOnPanic<'a>(&'a Shared);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let message = "the commit thread panicked".into();
            self.0.fail(StorageError::Engine {
                operation: "committing",
                message,
            });
        }
    }
}

/// A rewriter that is behind gives commits this long before it goes on.
const REWRITE_PAUSE_MILLIS: u64 = 20;
/// How often a store that found the disk full looks whether there is room again.
const DISK_FULL_RETRY_MILLIS: u64 = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Position, QueueId};
    use crate::load;
    use crate::memory::{Crash, MemoryDisk};
    use crate::store::Store;
    use crate::writer::Writer;

    /// The commit thread may have decided what its next commit is for when somebody asks for a flush.
    #[test]
    fn a_flush_that_was_asked_for_goes_with_the_commit_of_its_ticket() {
        let options = StoreOptions {
            manual_commit: true,
            ..StoreOptions::default()
        };
        let disk = MemoryDisk::new();
        let shared = Shared::new(Box::new(disk.clone()), options.clone(), load::empty(), 1);
        let queue = QueueId(1);
        let mut writer = Writer::new(&shared);
        (0..3).for_each(|position| writer.append(queue, Position(position), &[b"message"]));
        writer.submit();
        shared.commit(false, false);
        let mut writer = Writer::new(&shared);
        writer.settle(queue, Position(1));
        writer.submit();
        let ticket = shared.ask_for_flush(&mut shared.state.lock());
        shared.commit(false, false);
        assert!(shared.durable() >= ticket);
        let left = Store::on_memory_disk(&disk.crash(Crash::PowerCut), options).unwrap();
        assert_eq!(left.message_count(queue), 2);
    }
}
