//! The little that the store asks of a key-value engine: bytes in order, and atomic writes.

use std::ops::ControlFlow;
use std::path::Path;

use crate::error::StorageError;
use crate::reclaim::KeyRange;

/// The two key spaces. What is small and rewritten lives apart from the bodies of messages, so that compacting the one never
/// moves the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Space {
    /// Definitions, counters, the state of queues, the index of their chunks.
    Meta,
    /// Chunks: the messages. A key of this space is written once in its life, and so may be single-deleted.
    Chunks,
}

/// What a scan calls for each key and value; a break ends the scan.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StorageError>;

/// What a write calls to fill its batch.
pub(crate) type Fill<'a> = &'a mut dyn FnMut(&mut dyn Batch);

/// An ordered key-value store with atomic batches.
///
/// A `write` is atomic: after a crash at any moment, the whole batch is there or none of it, and never a later batch without an
/// earlier one. It is *durable* (survives the loss of power) once a `write` with `sync`, or a `sync`, that began after it has
/// returned. After an error of `write` or `sync` nothing is known about that batch, and the caller must not write again, unless
/// the error [may pass](StorageError::may_pass) and [`reopen`](Self::reopen) has succeeded.
pub(crate) trait Engine: Send + Sync {
    /// The value of one key.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// Visits the keys from `from` (included) to `until` (excluded), in order.
    fn scan(&self, space: Space, from: &[u8], until: &[u8], visit: Visit<'_>) -> Result<(), StorageError>;

    /// Visits the keys of many ranges, which ascend and do not overlap, as one scan of each would.
    fn scan_ranges(&self, space: Space, ranges: &[KeyRange], visit: Visit<'_>) -> Result<(), StorageError> {
        ranges
            .iter()
            .try_for_each(|(from, until)| self.scan(space, from, until, visit))
    }

    /// Writes what `fill` puts into the batch, atomically and in that order.
    fn write(&self, fill: Fill<'_>, sync: bool) -> Result<(), StorageError>;

    /// Makes every write that returned before durable.
    fn sync(&self) -> Result<(), StorageError>;

    /// The same after a write that failed with an error that [may pass](StorageError::may_pass).
    fn sync_log(&self) -> Result<(), StorageError> {
        self.sync()
    }

    /// The bytes that chunks take on the disk, dead ones included.
    fn table_bytes(&self) -> u64 {
        0
    }

    /// Frees the space of dead chunks: of all that lie in `dead`, and if more than `most_bytes` are left then, of all. May take
    /// long.
    fn reclaim(&self, _dead: &[KeyRange], _most_bytes: u64) -> Result<(), StorageError> {
        Ok(())
    }

    /// Ends a [`reclaim`](Self::reclaim) that is under way, and all work in the background. Nothing will be written any more.
    fn stop(&self) {}

    /// After a write that failed because the disk was full or read-only, once that is over: makes sure that every earlier write is there
    /// and durable, and tells whether the failed one is there too.
    fn reopen(&self) -> Result<Retry, StorageError>;

    /// Makes a copy of everything written in a new folder.
    fn copy_to(&self, folder: &Path) -> Result<(), StorageError>;
}

/// What became of a write that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It is not there: write it again.
    Missing,
    /// It is there after all, and must not be written again.
    Present,
}

/// A batch being filled.
pub(crate) trait Batch {
    /// About so many bytes of keys and values will follow. Said first, if at all: an engine may make room for them at once.
    fn reserve(&mut self, _bytes: usize) {}
    /// Sets a key.
    fn put(&mut self, space: Space, key: &[u8], value: &[u8]);
    /// Removes a key, present or not.
    fn delete(&mut self, space: Space, key: &[u8]);
    /// Removes a key that was written exactly once in its life, which costs the engine less.
    fn single_delete(&mut self, space: Space, key: &[u8]);
    /// Removes all keys from `from` (included) to `until` (excluded).
    fn delete_range(&mut self, space: Space, from: &[u8], until: &[u8]);
}
