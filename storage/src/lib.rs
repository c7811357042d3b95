//! What Leveret keeps on disk: definitions, and the messages of durable queues, over RocksDB.
//!
//! # The rule
//!
//! What was [submitted](Writer::submit) under a [`Ticket`] is durable once [`Store::durable`] has reached it, as far as
//! [`Fsync`] promises; a commit is there as a whole or not at all, and never without those before it. Settling a message is
//! lazy: a crash soon after may bring it back, never lose another. After a failed write or sync nothing is written any more,
//! and no further ticket becomes durable.
//!
//! # Layout
//!
//! Messages that are here only because they do not fit into memory are [spilled](Writer::spill): they are kept in the same way,
//! under an id of their own, nobody waits for their sync, and a start drops them.
//!
//! A queue is a sequence of *chunks*: one value per queue and commit, holding that commit's messages of the queue back to back.
//! Which of them are alive is kept in memory and written late, in a small index entry per chunk; a dead chunk is deleted as a
//! whole. The keys are listed in `keys.rs`, the values in `chunk.rs` and `records.rs`.
//!
//! ```
//! use leveret_storage::{Position, Store, StoreOptions};
//!
//! # fn main() -> Result<(), leveret_storage::StorageError> {
//! let store = Store::in_memory(StoreOptions::default());
//! let queue = store.allocate_queue_id();
//! let mut writer = store.writer();
//! writer.append(queue, Position(0), &[b"head", b"body"]);
//! let ticket = writer.submit();
//! store.wait(ticket)?;
//! store.recover_queue(queue, &mut |message| assert_eq!(message.payload, b"headbody"))?;
//! store.close()
//! # }
//! ```

#![warn(missing_docs)]

mod bodies;
mod check;
mod chunk;
mod commit;
mod directory;
mod engine;
mod error;
mod expiry;
mod gate;
mod ids;
mod index;
mod keys;
mod live;
mod load;
mod log;
mod memory;
mod options;
mod pending;
mod read;
mod reclaim;
mod records;
mod rewrite;
mod rocks;
mod schedule;
mod store;
mod varint;
mod writer;

pub use check::{CheckReport, LogOfSetting, NamedLog, check, repair};
pub use commit::CommitListener;
pub use directory::DATABASE_FOLDER;
pub use error::StorageError;
pub use expiry::ExpiredFound;
pub use ids::{BodyId, NEVER, Position, QueueId, Ticket, Weighed, Weight};
pub use memory::{Crash, MemoryDisk};
pub use options::{
    CHUNK_BYTES, Fsync, LAZY_FLUSH_MILLIS, PENDING_BYTES_MAX, RECLAIM_BYTES_MIN, RECLAIM_PAUSE_SECONDS,
    SPARSE_PATIENCE_MILLIS, StoreOptions,
};
pub use read::{RecoveredMessage, StoredMessage};
pub use records::{
    BindingRecord, Definition, DefinitionKey, ExchangeRecord, PermissionRecord, QueueRecord, SettingRecord, UserRecord,
    VhostRecord,
};
pub use schedule::Moment;
pub use store::{QueueContents, Store, StoreStatistics};
pub use writer::{Hold, PAYLOAD_BYTES_MAX, Writer};
