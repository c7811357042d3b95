//! Both engines behind one face, so that every test of behaviour runs on each.

#![allow(dead_code, reason = "each test binary uses some of it")]

use std::path::Path;
use std::time::Duration;

use leveret_storage::{
    CheckReport, Crash, Fsync, MemoryDisk, Position, QueueId, StorageError, Store, StoreOptions, Ticket, Writer,
};
use tempfile::TempDir;

/// Where a store under test lives.
pub enum Disk {
    Rocks(TempDir),
    Memory(MemoryDisk),
}

impl Disk {
    pub fn both() -> [Disk; 2] {
        [
            Disk::Rocks(tempfile::tempdir().unwrap()),
            Disk::Memory(MemoryDisk::new()),
        ]
    }

    pub fn open(&self, options: &StoreOptions) -> Store {
        match self {
            Disk::Rocks(dir) => Store::open(dir.path(), options.clone()).unwrap(),
            Disk::Memory(disk) => Store::on_memory_disk(disk, options.clone()).unwrap(),
        }
    }

    /// Opens what is there after the process died, the store having been dropped without closing it.
    pub fn reopen_killed(&mut self, store: Store, options: &StoreOptions) -> Store {
        drop(store);
        if let Disk::Memory(disk) = self {
            *disk = disk.crash(Crash::Killed);
        }
        self.open(options)
    }
}

/// Options under which nothing lazy happens by itself.
pub fn patient() -> StoreOptions {
    StoreOptions {
        fsync: Fsync::Always,
        lazy_flush: Duration::from_secs(3600),
        ..StoreOptions::default()
    }
}

/// Options under which nothing at all happens by itself.
pub fn manual() -> StoreOptions {
    StoreOptions {
        manual_commit: true,
        ..StoreOptions::default()
    }
}

/// A live message: position, redelivered, delivery count, payload.
pub type Seen = (u64, bool, u32, Vec<u8>);

pub fn recover(store: &Store, queue: QueueId) -> Vec<Seen> {
    let mut seen = Vec::new();
    store
        .recover_queue(queue, &mut |message| {
            let payload = message.payload.to_vec();
            seen.push((message.position.0, message.redelivered, message.delivery_count, payload));
        })
        .unwrap();
    seen
}

pub fn positions(store: &Store, queue: QueueId) -> Vec<u64> {
    recover(store, queue)
        .into_iter()
        .map(|(position, ..)| position)
        .collect()
}

/// Writes through one writer and waits until it is durable.
pub fn write(store: &Store, fill: impl FnOnce(&mut Writer<'_>)) -> Ticket {
    let mut writer = store.writer();
    fill(&mut writer);
    let ticket = writer.submit();
    store.wait(ticket).unwrap();
    ticket
}

/// Appends messages, each its own position as text, in one commit.
pub fn append(store: &Store, queue: QueueId, range: std::ops::Range<u64>) -> Ticket {
    write(store, |writer| {
        for position in range {
            writer.append(queue, Position(position), &[position.to_string().as_bytes()]);
        }
    })
}

/// Checks a store whose settings name no logs.
pub fn check(directory: &Path) -> Result<CheckReport, StorageError> {
    leveret_storage::check(directory, &|_| None)
}

/// Repairs a store whose settings name no logs.
pub fn repair(directory: &Path) -> Result<CheckReport, StorageError> {
    leveret_storage::repair(directory, &|_| None)
}
