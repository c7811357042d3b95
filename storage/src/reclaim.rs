//! Disk space comes back: what was settled, purged or deleted leaves the table files.
//!
//! The engine drops dead keys when it compacts, and it compacts because much is written: what was drained and left alone would
//! lie on the disk for ever. So a thread of its own looks, a while after something died, how much larger the tables are than
//! what is alive. Files that hold nothing but the drained beginning of a queue go as a whole; the rest is compacted when it is
//! more than what lives, so that no byte is moved more than once for each that is freed.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::commit::Shared;
use crate::ids::Position;
use crate::keys::{ChunkKey, Key, Prefix};
use crate::pending::State;

/// The keys of chunks from the first (included) to the second (excluded).
pub(crate) type KeyRange = (Vec<u8>, Vec<u8>);

/// What the thread waits for.
#[derive(Default)]
pub(crate) struct Reclaimer {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Default)]
struct Wanted {
    noted: bool,
    stopped: bool,
}

impl Reclaimer {
    /// Something died.
    pub(crate) fn note(&self) {
        let mut wanted = self.wanted.lock();
        if !std::mem::replace(&mut wanted.noted, true) {
            self.changed.notify_all();
        }
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.wanted.lock().stopped = true;
        self.changed.notify_all();
    }

    /// The life of the thread.
    pub(crate) fn run(&self, shared: &Shared) {
        while self.wait(shared.options.reclaim_pause) {
            reclaim(shared);
        }
    }

    /// Waits until something died a while ago. False if the thread is to end.
    fn wait(&self, pause: Duration) -> bool {
        let mut wanted = self.wanted.lock();
        while !wanted.noted && !wanted.stopped {
            self.changed.wait(&mut wanted);
        }
        // What dies now is probably followed by more.
        while !wanted.stopped && !self.changed.wait_for(&mut wanted, pause).timed_out() {}
        wanted.noted = false;
        !wanted.stopped
    }
}

/// Frees what can be freed.
pub(crate) fn reclaim(shared: &Shared) {
    let drained = |state: &mut State| {
        let mut ranges = std::mem::take(&mut state.pending.gone);
        for (queue, log) in &mut state.queues {
            if log.freed_bytes >= state.pending.freed_bytes_min {
                log.freed_bytes = 0;
                let low = ChunkKey {
                    first: log.low(),
                    generation: 0,
                };
                let (from, _) = Prefix::Chunks(*queue, Position(0)).range();
                ranges.push((from, Key::Chunk(*queue, low).encode()));
            }
        }
        ranges
    };
    let garbage_bytes_min = shared.options.reclaim_bytes_min;
    let (ranges, live_bytes, ticket) = {
        let mut state = shared.state.lock();
        let live = state.queues.values().flat_map(|log| &log.chunks);
        let live_bytes: u64 = live.map(|chunk| u64::from(chunk.bytes)).sum();
        let most = live_bytes + garbage_bytes_min;
        // The last commit of a store that is to stop may be over, and nobody would make the one that is waited for here.
        if shared.engine.table_bytes() <= most || state.refusing || state.stop.is_some() {
            return;
        }
        let ranges = drained(&mut state);
        // A file may hold the grave of a key that lies in another, so the keys are buried once more.
        for (from, until) in &ranges {
            let space = Prefix::Spilled.space();
            state.pending.ranges.push((space, from.clone(), until.clone()));
        }
        (ranges, live_bytes, shared.ask_for_flush(&mut state))
    };
    // What is gone here only, and not yet in the log, may be wanted again after a crash.
    if shared.wait(ticket).is_err() {
        return;
    }
    let garbage_max = garbage_bytes_min.max(live_bytes);
    if let Err(error) = shared.engine.reclaim(&ranges, live_bytes + garbage_max) {
        tracing::warn!(%error, "disk space of what is gone could not be freed; it will be tried again");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::ids::QueueId;
    use crate::load;
    use crate::options::StoreOptions;
    use crate::pending::Stop;
    use crate::rocks::Rocks;
    use crate::writer::Writer;

    #[test]
    fn a_store_that_is_to_stop_is_asked_for_no_commit() {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            manual_commit: true,
            ..StoreOptions::restless()
        };
        let engine = Box::new(Rocks::open(directory.path()).unwrap());
        let shared = Shared::new(engine, options, load::empty(), 1);
        let mut writer = Writer::new(&shared);
        writer.append(QueueId(1), Position(0), &[&[7; 1000]]);
        writer.submit();
        shared.commit(false, false);
        shared.engine.reclaim(&[], 0).unwrap();
        Writer::new(&shared).settle(QueueId(1), Position(0));
        shared.state.lock().stop = Some(Stop::Flush);
        let before = shared.commits.load(Ordering::Relaxed);
        reclaim(&shared);
        assert_eq!(shared.commits.load(Ordering::Relaxed), before, "nobody would make it");
        shared.state.lock().stop = None;
        reclaim(&shared);
        assert_eq!(shared.commits.load(Ordering::Relaxed), before + 1);
    }
}
