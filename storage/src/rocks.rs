//! The RocksDB engine: two column families, one log, one sync per commit.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB, DBCompressionType,
    DBRecoveryMode, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions, properties,
};

use crate::engine::{Batch, Engine, Fill, Space, Visit};
use crate::error::StorageError;
use crate::reclaim::KeyRange;

/// RocksDB in one directory.
pub(crate) struct Rocks {
    db: DB,
}

impl Rocks {
    /// Opens the database in `directory`, creating it if it is not there. Errors: in use, damaged, anything the engine says.
    pub(crate) fn open(directory: &Path) -> Result<Self, StorageError> {
        let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
        let families = [
            ColumnFamilyDescriptor::new(META, family_options(&cache, META_WRITE_BUFFER_BYTES)),
            ColumnFamilyDescriptor::new(CHUNKS, family_options(&cache, CHUNKS_WRITE_BUFFER_BYTES)),
        ];
        let db = DB::open_cf_descriptors(&database_options(), directory, families)
            .map_err(|error| open_error(directory, &error))?;
        Ok(Self { db })
    }

    fn family(&self, space: Space) -> Result<&ColumnFamily, StorageError> {
        let name = match space {
            Space::Meta => META,
            Space::Chunks => CHUNKS,
        };
        self.db
            .cf_handle(name)
            .ok_or_else(|| StorageError::corrupt(format!("column family {name} is missing")))
    }
}

impl Engine for Rocks {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.db
            .get_cf(self.family(space)?, key)
            .map_err(|error| engine_error("reading", &error))
    }

    fn scan(&self, space: Space, from: &[u8], until: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(until);
        // What is scanned is scanned once: it must not push out what is looked up.
        options.fill_cache(false);
        let mut entries = self.db.raw_iterator_cf_opt(self.family(space)?, options);
        entries.seek(from);
        while let Some((key, value)) = entries.item() {
            if visit(key, value)?.is_break() {
                return Ok(());
            }
            entries.next();
        }
        entries.status().map_err(|error| engine_error("reading", &error))
    }

    fn write(&self, fill: Fill<'_>, sync: bool) -> Result<(), StorageError> {
        let mut batch = RocksBatch {
            batch: WriteBatch::default(),
            meta: self.family(Space::Meta)?,
            chunks: self.family(Space::Chunks)?,
        };
        fill(&mut batch);
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.db
            .write_opt(batch.batch, &options)
            .map_err(|error| engine_error("writing", &error))
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.db.flush_wal(true).map_err(|error| engine_error("syncing", &error))
    }

    fn table_bytes(&self) -> u64 {
        let bytes = |family| self.db.property_int_value_cf(family, properties::TOTAL_SST_FILES_SIZE);
        let bytes = self.family(Space::Chunks).map(bytes);
        bytes.ok().and_then(Result::ok).flatten().unwrap_or(0)
    }

    fn reclaim(&self, dead: &[KeyRange], most_bytes: u64) -> Result<(), StorageError> {
        let failed = |error| engine_error("freeing disk space", &error);
        // The graves must be in tables too, and the log goes with what it repeats.
        for space in [Space::Meta, Space::Chunks] {
            self.db.flush_cf(self.family(space)?).map_err(failed)?;
        }
        let chunks = self.family(Space::Chunks)?;
        for (from, until) in dead {
            self.db.delete_file_in_range_cf(chunks, from, until).map_err(failed)?;
        }
        if self.table_bytes() > most_bytes {
            let mut options = CompactOptions::default();
            options.set_exclusive_manual_compaction(false);
            self.db
                .compact_range_cf_opt(chunks, None::<&[u8]>, None::<&[u8]>, &options);
        }
        Ok(())
    }

    fn stop(&self) {
        self.db.cancel_all_background_work(false);
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
    // No threads that wake an idle broker to print or store statistics nobody reads.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

fn family_options(cache: &Cache, write_buffer_bytes: usize) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(write_buffer_bytes);
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

const META: &str = "default";
const CHUNKS: &str = "chunks";

/// Chunks collect in memory until this much is there; a chunk that dies before never reaches a table file.
const CHUNKS_WRITE_BUFFER_BYTES: usize = 64 << 20;
/// Definitions and indexes are small.
const META_WRITE_BUFFER_BYTES: usize = 8 << 20;
/// Old logs are kept until what they hold is in table files, but not beyond this.
const LOG_BYTES_MAX: u64 = 128 << 20;
/// Blocks of table files kept in memory. Queues are read once and forward, so a large cache would be idle memory.
const BLOCK_CACHE_BYTES: usize = 8 << 20;
const BACKGROUND_JOBS: i32 = 2;
const OPEN_FILES_MAX: i32 = 512;
/// Table files are handed to the disk in steps of this size, so that a flush does not stall the syncs of the log.
const FILE_SYNC_BYTES: u64 = 1 << 20;
const INFO_LOG_BYTES_MAX: usize = 1 << 20;
const INFO_LOG_FILES_MAX: usize = 3;
