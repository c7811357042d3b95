//! The RocksDB engine: two column families, one log, one sync per commit.

use std::cmp;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB, DBCompressionType,
    DBRecoveryMode, Env, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions, properties,
};

use crate::directory;
use crate::engine::{Batch, Engine, Fill, Retry, Space, Visit};
use crate::error::StorageError;
use crate::reclaim::KeyRange;

/// RocksDB in one directory.
pub(crate) struct Rocks {
    directory: PathBuf,
    /// None while it is opened again. Whoever reads has it open for that long.
    db: RwLock<Option<Arc<DB>>>,
    /// RocksDB's number of the last change that was written.
    written: AtomicU64,
}

impl Rocks {
    /// Opens the database in `directory`, creating it if it is not there. Errors: in use, damaged, anything the engine says.
    pub(crate) fn open(directory: &Path) -> Result<Self, StorageError> {
        let db = DB::open_cf_descriptors(&database_options(), directory, families())
            .map_err(|error| open_error(directory, &error))?;
        Ok(Self::of(directory, db))
    }

    /// Opens a database to look at it, without changing or locking it.
    pub(crate) fn open_read_only(directory: &Path) -> Result<Self, StorageError> {
        let mut options = database_options();
        options.create_if_missing(false);
        let db = DB::open_cf_descriptors_read_only(&options, directory, families(), false)
            .map_err(|error| open_error(directory, &error))?;
        Ok(Self::of(directory, db))
    }

    /// Opens a copy of a database that does not open: by its newest list of files if there is one, else by whatever tables are
    /// there. Without any list, RocksDB cannot tell what the log holds besides definitions and indexes.
    pub(crate) fn salvage(directory: &Path) -> Result<Self, StorageError> {
        let not_writable = |error| StorageError::not_writable(directory, error);
        let files = std::fs::read_dir(directory).map_err(not_writable)?.flatten();
        let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        if let Some(list) = names.filter(|name| name.starts_with(FILE_LIST)).max() {
            std::fs::write(directory.join(CURRENT_FILE_LIST), list + "\n").map_err(not_writable)?;
            if let Ok(opened) = Self::open(directory) {
                return Ok(opened);
            }
        }
        DB::repair(&database_options(), directory).map_err(|error| open_error(directory, &error))?;
        Self::open(directory)
    }

    fn of(directory: &Path, db: DB) -> Self {
        Self {
            directory: directory.to_owned(),
            written: AtomicU64::new(db.latest_sequence_number()),
            db: RwLock::new(Some(Arc::new(db))),
        }
    }

    fn open_database(&self) -> Result<Arc<DB>, StorageError> {
        self.db.read().clone().ok_or_else(|| StorageError::Engine {
            operation: "reading",
            message: "the database is being opened again".into(),
        })
    }

    /// Closes the database, once nobody reads it any more.
    fn close(&self) {
        let mut open = self.db.write().take();
        while let Some(db) = open.take() {
            open = Arc::try_unwrap(db).err();
            std::thread::yield_now();
        }
    }
}

/// What is scanned is scanned once: it must not push out what is looked up.
fn scan_options(until: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(until);
    options.fill_cache(false);
    options
}

fn family(db: &DB, space: Space) -> Result<&ColumnFamily, StorageError> {
    let name = match space {
        Space::Meta => META,
        Space::Chunks => CHUNKS,
    };
    db.cf_handle(name)
        .ok_or_else(|| StorageError::corrupt(format!("column family {name} is missing")))
}

impl Engine for Rocks {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let db = self.open_database()?;
        db.get_cf(family(&db, space)?, key)
            .map_err(|error| engine_error("reading", &error))
    }

    fn scan(&self, space: Space, from: &[u8], until: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        let db = self.open_database()?;
        let mut entries = db.raw_iterator_cf_opt(family(&db, space)?, scan_options(until));
        entries.seek(from);
        while let Some((key, value)) = entries.item() {
            if visit(key, value)?.is_break() {
                return Ok(());
            }
            entries.next();
        }
        entries.status().map_err(|error| engine_error("reading", &error))
    }

    /// Making an iterator costs more than reading a few keys with it, so one goes through all ranges. Behind the last key of a range
    /// it looks for the next one, though: where it meets too many that were deleted, it is left alone and each range read for itself.
    fn scan_ranges(&self, space: Space, ranges: &[KeyRange], visit: Visit<'_>) -> Result<(), StorageError> {
        let Some((_, end)) = ranges.last() else {
            return Ok(());
        };
        let mut options = scan_options(end);
        options.set_max_skippable_internal_keys(SKIPPED_KEYS_MAX);
        let db = self.open_database()?;
        let mut entries = db.raw_iterator_cf_opt(family(&db, space)?, options);
        let mut next = Vec::new();
        for (from, until) in ranges {
            if entries.key().is_none_or(|key| key < from.as_slice()) {
                entries.seek(from);
            }
            next.clone_from(from);
            while let Some((key, value)) = entries.item().filter(|(key, _)| *key < until.as_slice()) {
                if visit(key, value)?.is_break() {
                    next.clone_from(until);
                    break;
                }
                next.clear();
                next.extend_from_slice(key);
                next.push(0);
                entries.next();
            }
            match entries.status() {
                Err(error) if error.kind() == rocksdb::ErrorKind::Incomplete => {
                    self.scan(space, &next, until, visit)?;
                }
                status => status.map_err(|error| engine_error("reading", &error))?,
            }
        }
        Ok(())
    }

    fn write(&self, fill: Fill<'_>, sync: bool) -> Result<(), StorageError> {
        let db = self.open_database()?;
        let mut batch = RocksBatch {
            batch: WriteBatch::default(),
            meta: family(&db, Space::Meta)?,
            chunks: family(&db, Space::Chunks)?,
        };
        fill(&mut batch);
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        db.write_opt(batch.batch, &options).map_err(|error| {
            // RocksDB would go on by itself, and put one family into a table file before the other. If it ended between the two,
            // it would never open again: a table file must not reach beyond a log whose end is torn.
            db.cancel_all_background_work(false);
            write_error(&error)
        })?;
        self.written.store(db.latest_sequence_number(), Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.open_database()?
            .flush_wal(true)
            .map_err(|error| engine_error("syncing", &error))
    }

    /// RocksDB syncs nothing after an error, but the system does.
    fn sync_log(&self) -> Result<(), StorageError> {
        let failed = |error: std::io::Error| StorageError::Engine {
            operation: "syncing",
            message: error.to_string(),
        };
        for entry in std::fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == LOG_EXTENSION) {
                std::fs::File::open(path)
                    .and_then(|log| log.sync_data())
                    .map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Opening replays the log into table files, which are synced, and says by its sequence number where the log ended. The
    /// database is closed only when there is room for that, because until then it can still be read.
    fn reopen(&self) -> Result<Retry, StorageError> {
        if self.db.read().is_some() {
            check_room(&self.directory)?;
            check_writable(&self.directory)?;
        }
        self.close();
        let opened =
            DB::open_cf_descriptors(&database_options(), &self.directory, families()).map_err(
                |error| match write_error(&error) {
                    error if error.may_pass() => error,
                    _ => open_error(&self.directory, &error),
                },
            )?;
        let (found, written) = (opened.latest_sequence_number(), self.written.load(Ordering::Relaxed));
        *self.db.write() = Some(Arc::new(opened));
        match found.cmp(&written) {
            cmp::Ordering::Less => Err(StorageError::corrupt(format!(
                "after the disk was full the log ends at change {found} instead of {written}"
            ))),
            cmp::Ordering::Equal => Ok(Retry::Missing),
            cmp::Ordering::Greater => {
                self.written.store(found, Ordering::Relaxed);
                Ok(Retry::Present)
            }
        }
    }

    fn copy_to(&self, folder: &Path) -> Result<(), StorageError> {
        let db = self.open_database()?;
        Checkpoint::new(&db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(folder))
            .map_err(|error| engine_error("copying", &error))
    }

    fn table_bytes(&self) -> u64 {
        let bytes = |db: &DB| -> Option<u64> {
            let chunks = family(db, Space::Chunks).ok()?;
            db.property_int_value_cf(chunks, properties::TOTAL_SST_FILES_SIZE)
                .ok()?
        };
        self.open_database().ok().and_then(|db| bytes(&db)).unwrap_or(0)
    }

    fn reclaim(&self, dead: &[KeyRange], most_bytes: u64) -> Result<(), StorageError> {
        let failed = |error| engine_error("freeing disk space", &error);
        let db = self.open_database()?;
        // The graves must be in tables too, and the log goes with what it repeats.
        for space in [Space::Meta, Space::Chunks] {
            db.flush_cf(family(&db, space)?).map_err(failed)?;
        }
        let chunks = family(&db, Space::Chunks)?;
        for (from, until) in dead {
            // RocksDB also takes a file that ends with the last key it is given.
            db.delete_file_in_range_cf(chunks, from, &last_below(until))
                .map_err(failed)?;
        }
        if self.table_bytes() > most_bytes {
            let mut options = CompactOptions::default();
            options.set_exclusive_manual_compaction(false);
            db.compact_range_cf_opt(chunks, None::<&[u8]>, None::<&[u8]>, &options);
        }
        Ok(())
    }

    fn stop(&self) {
        if let Ok(db) = self.open_database() {
            db.cancel_all_background_work(false);
        }
    }
}

struct RocksBatch<'a> {
    batch: WriteBatch,
    meta: &'a ColumnFamily,
    chunks: &'a ColumnFamily,
}

impl<'a> RocksBatch<'a> {
    fn family(&self, space: Space) -> &'a ColumnFamily {
        match space {
            Space::Meta => self.meta,
            Space::Chunks => self.chunks,
        }
    }
}

impl Batch for RocksBatch<'_> {
    /// A batch that grows copies itself: with large chunks, that costs as much as writing them to the log.
    fn reserve(&mut self, bytes: usize) {
        self.batch = WriteBatch::with_capacity_bytes(bytes);
    }

    fn put(&mut self, space: Space, key: &[u8], value: &[u8]) {
        self.batch.put_cf(self.family(space), key, value);
    }

    fn delete(&mut self, space: Space, key: &[u8]) {
        self.batch.delete_cf(self.family(space), key);
    }

    fn single_delete(&mut self, space: Space, key: &[u8]) {
        self.batch.single_delete_cf(self.family(space), key);
    }

    fn delete_range(&mut self, space: Space, from: &[u8], until: &[u8]) {
        self.batch.delete_range_cf(self.family(space), from, until);
    }
}

/// A key that is below `until` and not below any key of the store that is.
fn last_below(until: &[u8]) -> Vec<u8> {
    let mut last = until.to_vec();
    match last.pop() {
        // Nothing lies between a key and the same key with a zero behind it.
        None | Some(0) => {}
        Some(byte) => {
            last.push(byte - 1);
            last.extend([u8::MAX; KEY_BYTES_MAX]);
        }
    }
    last
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // A torn tail of the log is where a crash cut it: everything before it is history, nothing after it is.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_max_total_wal_size(LOG_BYTES_MAX);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_bytes_per_sync(FILE_SYNC_BYTES);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX);
    options.set_keep_log_file_num(INFO_LOG_FILES_MAX);
    options.set_compaction_readahead_size(MERGE_AHEAD_BYTES);
    // Nobody waits for merges, as long as they keep up; what somebody waits for goes first. Without an environment there is no database
    // either, and opening says so.
    if let Ok(mut environment) = Env::new() {
        environment.lower_thread_pool_cpu_priority();
        options.set_env(&environment);
    }
    // No threads that wake an idle broker to print or store statistics nobody reads.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

fn families() -> [ColumnFamilyDescriptor; 2] {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    [
        ColumnFamilyDescriptor::new(META, family_options(&cache, META_WRITE_BUFFER_BYTES, META_BLOCK_BYTES)),
        ColumnFamilyDescriptor::new(
            CHUNKS,
            family_options(&cache, CHUNKS_WRITE_BUFFER_BYTES, CHUNKS_BLOCK_BYTES),
        ),
    ]
}

/// Whether what is in the logs can be written once more.
fn check_room(database: &Path) -> Result<(), StorageError> {
    let full = |message: String| StorageError::DiskFull {
        operation: "opening the database again",
        message,
    };
    let looked = || -> std::io::Result<(u64, u64)> {
        let mut needed = ROOM_BYTES_MIN;
        for entry in std::fs::read_dir(database)? {
            let entry = entry?;
            if entry
                .path()
                .extension()
                .is_some_and(|extension| extension == LOG_EXTENSION)
            {
                needed += entry.metadata()?.len();
            }
        }
        Ok((directory::free_bytes(database)?, needed))
    };
    let (free, needed) = looked().map_err(|error| full(error.to_string()))?;
    if free < needed {
        return Err(full(format!("{free} bytes are free, {needed} are needed")));
    }
    Ok(())
}

/// Whether files can be made in the database's directory.
fn check_writable(database: &Path) -> Result<(), StorageError> {
    let probe = database.join(PROBE);
    std::fs::write(&probe, b"")
        .and_then(|()| std::fs::remove_file(&probe))
        .map_err(|error| StorageError::ReadOnly {
            operation: "opening the database again",
            message: error.to_string(),
        })
}

/// A write that found the disk full or was not allowed has not been synced by anybody, and what it left of the log is recognised by its
/// checksums. After any other error, and after any error of a sync, nothing is certain.
fn write_error(error: &rocksdb::Error) -> StorageError {
    let message = error.to_string();
    let full = ["No space left on device", "Disk quota exceeded", "File too large"];
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    if says(&full) && !says(&["sync"]) {
        return StorageError::DiskFull {
            operation: "writing",
            message,
        };
    }
    let refused = ["Read-only file system", "Operation not permitted", "Permission denied"];
    if says(&refused) && !says(&["sync"]) {
        return StorageError::ReadOnly {
            operation: "writing",
            message,
        };
    }
    engine_error("writing", error)
}

fn family_options(cache: &Cache, write_buffer_bytes: usize, block_bytes: usize) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(block_bytes);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(write_buffer_bytes);
    options.set_level_zero_file_num_compaction_trigger(MERGED_BUFFERS);
    options.set_level_zero_slowdown_writes_trigger(SLOWING_BUFFERS);
    options.set_level_zero_stop_writes_trigger(STOPPING_BUFFERS);
    options
}

fn open_error(database: &Path, error: &rocksdb::Error) -> StorageError {
    let directory = database.parent().unwrap_or(database);
    let message = error.to_string();
    // RocksDB has no codes of its own for these, only words.
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    if says(&["lock hold by current process", "While lock file"]) {
        return StorageError::InUse {
            directory: directory.to_owned(),
        };
    }
    if says(&["Permission denied", "Read-only file system"]) {
        return StorageError::not_writable(directory, std::io::Error::other(message));
    }
    engine_error("opening the database", error)
}

fn engine_error(operation: &'static str, error: &rocksdb::Error) -> StorageError {
    match error.kind() {
        rocksdb::ErrorKind::Corruption => StorageError::corrupt(error.to_string()),
        _ => StorageError::Engine {
            operation,
            message: error.to_string(),
        },
    }
}

/// RocksDB's lists of its files, and the file that names the one in force.
const FILE_LIST: &str = "MANIFEST-";
const CURRENT_FILE_LIST: &str = "CURRENT";
const LOG_EXTENSION: &str = "log";
/// Made and removed to see whether that is possible.
const PROBE: &str = "writable";
const META: &str = "default";
const CHUNKS: &str = "chunks";

/// Chunks collect in memory until this much is there; a chunk that dies before never reaches a table file.
const CHUNKS_WRITE_BUFFER_BYTES: usize = 32 << 20;
/// Definitions and indexes are small.
const META_WRITE_BUFFER_BYTES: usize = 8 << 20;
/// So many buffers that were written out are merged at once. Where thousands of queues grow together each merge goes through all
/// that lies below, so half as many are half the work; but each read looks into as many tables.
const MERGED_BUFFERS: i32 = 16;
/// Writers are slowed down when so many were written out and not merged yet, and stopped at the second. What waits longer is merged
/// in larger steps, at less cost for each byte, so there is no hurry: a merge of much may take longer than sixteen buffers take to fill.
const SLOWING_BUFFERS: i32 = 64;
const STOPPING_BUFFERS: i32 = 96;
/// A merge reads ahead so much of each of its tables, all at once.
const MERGE_AHEAD_BYTES: usize = 256 << 10;
/// An open table keeps the first key of each of its blocks in memory, which counts where chunks are small.
const CHUNKS_BLOCK_BYTES: usize = 32 << 10;
/// These are looked up one by one at times.
const META_BLOCK_BYTES: usize = 8 << 10;
/// Old logs are kept until what they hold is in table files, but not beyond this.
const LOG_BYTES_MAX: u64 = 128 << 20;
/// Blocks of table files kept in memory. Queues are read once and forward, so a large cache would be idle memory.
const BLOCK_CACHE_BYTES: usize = 8 << 20;
/// Room that is asked for besides that of the logs before a database that found the disk full is opened again.
const ROOM_BYTES_MIN: u64 = 16 << 20;
const BACKGROUND_JOBS: i32 = 2;
const OPEN_FILES_MAX: i32 = 512;
/// Table files are handed to the disk in steps of this size, so that a flush does not stall the syncs of the log.
const FILE_SYNC_BYTES: u64 = 1 << 20;
const INFO_LOG_BYTES_MAX: usize = 1 << 20;
const INFO_LOG_FILES_MAX: usize = 3;
/// A scan of many ranges passes over so many deleted keys before it begins anew.
const SKIPPED_KEYS_MAX: u64 = 256;
/// No key of a chunk is longer.
const KEY_BYTES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end that way")]

    use super::*;

    fn keys(rocks: &Rocks) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        rocks
            .scan(Space::Chunks, &[], &[u8::MAX], &mut |key, _| {
                keys.push(key.to_vec());
                Ok(std::ops::ControlFlow::Continue(()))
            })
            .unwrap();
        keys
    }

    /// A database with these keys, in one file and not in its first level.
    fn with_keys(directory: &Path, keys: &[[u8; 3]]) -> Rocks {
        let rocks = Rocks::open(directory).unwrap();
        let mut fill = |batch: &mut dyn Batch| keys.iter().for_each(|key| batch.put(Space::Chunks, key, &[9; 100]));
        rocks.write(&mut fill, false).unwrap();
        rocks.reclaim(&[], 0).unwrap();
        rocks
    }

    /// The first chunk that lives is where the range of the dead ones ends, and it may be the last of a file, or alone in it.
    #[test]
    fn reclaiming_leaves_the_key_at_which_the_dead_ones_end() {
        for until in [[1, 5, 0], [1, 5, 7]] {
            let dead = [([1, 3, 0].to_vec(), until.to_vec())];
            for lives in [vec![[1, 4, 0], until], vec![until], vec![until, [1, 5, 8]]] {
                let directory = tempfile::tempdir().unwrap();
                let rocks = with_keys(directory.path(), &lives);
                rocks.reclaim(&dead, u64::MAX).unwrap();
                assert_eq!(keys(&rocks), lives);
            }
            let directory = tempfile::tempdir().unwrap();
            let rocks = with_keys(directory.path(), &[[1, 3, 0], [1, 4, 255]]);
            rocks.reclaim(&dead, u64::MAX).unwrap();
            assert!(keys(&rocks).is_empty());
        }
    }

    /// Merges of a large store would take their part of the processors from commits.
    #[test]
    #[cfg(target_os = "linux")]
    fn merges_give_way_to_what_somebody_waits_for() {
        let directory = tempfile::tempdir().unwrap();
        drop(with_keys(directory.path(), &[[1, 3, 0]]));
        let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
        let nice = stats.filter_map(|stat| {
            let fields = stat.split_once("(rocksdb:low) ")?.1;
            fields.split(' ').nth(NICE_FIELD)?.parse::<i32>().ok()
        });
        let nice: Vec<_> = nice.collect();
        assert!(!nice.is_empty() && nice.iter().all(|nice| *nice > 0), "{nice:?}");
    }

    /// Of what follows the name of a thread in its `stat`.
    #[cfg(target_os = "linux")]
    const NICE_FIELD: usize = 16;

    /// All ranges in one scan, and each for itself. A scan ends with this key.
    fn both_scans(rocks: &Rocks, ranges: &[KeyRange], last: Option<[u8; 3]>) -> [Vec<Vec<u8>>; 2] {
        let (mut one, mut each) = (Vec::new(), Vec::new());
        let show = |seen: &mut Vec<Vec<u8>>, key: &[u8]| {
            seen.push(key.to_vec());
            Ok(match last {
                Some(last) if key == last => std::ops::ControlFlow::Break(()),
                _ => std::ops::ControlFlow::Continue(()),
            })
        };
        let space = Space::Chunks;
        rocks
            .scan_ranges(space, ranges, &mut |key, _| show(&mut one, key))
            .unwrap();
        for (from, until) in ranges {
            rocks
                .scan(space, from, until, &mut |key, _| show(&mut each, key))
                .unwrap();
        }
        [one, each]
    }

    fn ranges<const N: usize>(ranges: [(&[u8], &[u8]); N]) -> Vec<KeyRange> {
        ranges.map(|(from, until)| (from.to_vec(), until.to_vec())).to_vec()
    }

    #[test]
    fn many_ranges_in_one_scan_show_what_a_scan_of_each_shows() {
        let directory = tempfile::tempdir().unwrap();
        let keys = [[1, 1, 0], [1, 2, 0], [2, 1, 0], [4, 1, 0], [4, 9, 9], [6, 0, 0]];
        let rocks = with_keys(directory.path(), &keys);
        for ranges in [
            ranges([]),
            ranges([(&[1], &[2]), (&[2], &[3]), (&[3], &[4]), (&[4], &[5])]),
            ranges([(&[0], &[1]), (&[1, 2], &[2]), (&[4, 1, 1], &[5])]),
            ranges([(&[4, 2], &[4, 3]), (&[7], &[8]), (&[9], &[10])]),
        ] {
            for last in [None, Some([1, 1, 0]), Some([4, 1, 0])] {
                let [one, each] = both_scans(&rocks, &ranges, last);
                assert_eq!(one, each, "{ranges:?} {last:?}");
            }
        }
    }

    #[test]
    fn many_deleted_keys_do_not_end_a_scan_of_many_ranges() {
        let directory = tempfile::tempdir().unwrap();
        let rocks = Rocks::open(directory.path()).unwrap();
        let keys = |queue: u8| {
            (0..=u16::MAX)
                .step_by(61)
                .map(move |key| [queue, (key >> 8) as u8, key as u8])
        };
        let all: Vec<[u8; 3]> = (1..6).flat_map(keys).collect();
        let mut put = |batch: &mut dyn Batch| all.iter().for_each(|key| batch.put(Space::Chunks, key, b"x"));
        rocks.write(&mut put, false).unwrap();
        // Nearly all of the second, the beginning of the third, the middle of the fourth.
        let lives = |key: &[u8; 3]| match key[0] {
            2 => key[1] == 200,
            3 => key[1] >= 150,
            4 => !(20..220).contains(&key[1]),
            _ => true,
        };
        let dead: Vec<[u8; 3]> = all.iter().copied().filter(|key| !lives(key)).collect();
        let mut delete = |batch: &mut dyn Batch| dead.iter().for_each(|key| batch.single_delete(Space::Chunks, key));
        rocks.write(&mut delete, false).unwrap();
        let ranges = ranges([
            (&[1], &[2]),
            (&[2], &[3]),
            (&[3, 160], &[4]),
            (&[4], &[5]),
            (&[5], &[6]),
        ]);
        let [one, each] = both_scans(&rocks, &ranges, None);
        assert_eq!(one, each);
        let expected = all.iter().filter(|key| lives(key) && (key[0] != 3 || key[1] >= 160));
        assert!(one.iter().eq(expected));
        let [one, each] = both_scans(&rocks, &ranges, Some([4, 0, 0]));
        assert_eq!(one, each);
    }

    #[test]
    fn the_last_key_below_another_is_just_below_it() {
        assert_eq!(last_below(&[1, 2, 0, 0]), [1, 2, 0]);
        assert!(last_below(&[1, 2]) > [1, 1].to_vec());
        assert!(last_below(&[1, 2]) < [1, 2].to_vec());
        assert!(last_below(&[]).is_empty());
    }

    fn newest_log(directory: &Path) -> PathBuf {
        let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == LOG_EXTENSION));
        logs.max().unwrap()
    }

    fn flush(rocks: &Rocks, space: Space) -> Result<(), rocksdb::Error> {
        let db = rocks.open_database().unwrap();
        db.flush_cf(family(&db, space).unwrap())
    }

    /// What RocksDB does with one family in a table file, and the other in a log with a torn end: it does not open. A write that
    /// finds the disk full leaves such a log.
    #[test]
    fn no_family_may_be_flushed_without_the_other_behind_a_torn_log() {
        for (flushed, opens) in [
            (vec![], true),
            (vec![Space::Meta, Space::Chunks], true),
            (vec![Space::Meta], false),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let rocks = Rocks::open(directory.path()).unwrap();
            let mut fill = |batch: &mut dyn Batch| {
                batch.put(Space::Meta, b"one", b"1");
                batch.put(Space::Chunks, b"two", b"2");
            };
            rocks.write(&mut fill, true).unwrap();
            // As when there was room for half of it.
            let mut fill = |batch: &mut dyn Batch| batch.put(Space::Chunks, b"torn", &[7; 100_000]);
            rocks.write(&mut fill, true).unwrap();
            let log = std::fs::File::options()
                .write(true)
                .open(newest_log(directory.path()))
                .unwrap();
            log.set_len(log.metadata().unwrap().len() - 50_000).unwrap();
            flushed.iter().for_each(|space| flush(&rocks, *space).unwrap());
            drop(rocks);
            assert_eq!(Rocks::open(directory.path()).is_ok(), opens, "{flushed:?}");
        }
    }

    /// Needs the right to mount a small file system; without it, nothing is shown.
    #[test]
    fn nothing_is_flushed_after_a_write_that_found_the_disk_full() {
        let Some(mounted) = Mounted::new() else { return };
        let rocks = Rocks::open(mounted.0.path()).unwrap();
        let put = |number: u8| {
            let mut fill = |batch: &mut dyn Batch| batch.put(Space::Chunks, &[1, number, 0], &[number; 1 << 20]);
            rocks.write(&mut fill, true)
        };
        let failed = (0..=u8::MAX).find_map(|number| put(number).err()).unwrap();
        assert!(failed.may_pass(), "{failed}");
        let flushed = flush(&rocks, Space::Meta).unwrap_err().to_string();
        assert!(
            flushed.contains("hutdown"),
            "RocksDB has been stopped, and does not wait for room: {flushed}"
        );
        assert_eq!(rocks.get(Space::Chunks, &[1, 0, 0]).unwrap().unwrap(), [0; 1 << 20]);
    }

    struct Mounted(tempfile::TempDir);

    impl Mounted {
        fn new() -> Option<Self> {
            let directory = tempfile::tempdir().unwrap();
            let mut mount = std::process::Command::new("mount");
            mount
                .args(["-t", "tmpfs", "-o", "size=16m", "leveret-test"])
                .arg(directory.path());
            match mount.output() {
                Ok(mounted) if mounted.status.success() => Some(Self(directory)),
                _ => {
                    eprintln!("left out: no right to mount a file system");
                    None
                }
            }
        }
    }

    impl Drop for Mounted {
        fn drop(&mut self) {
            let mut unmount = std::process::Command::new("umount");
            let _ = unmount.arg("-l").arg(self.0.path()).status();
        }
    }
}
