//! The engine of tests and simulations: an ordered map that can lose power and refuse to write.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::{Batch, Engine, Fill, Retry, Space, Visit};
use crate::error::StorageError;

type Map = BTreeMap<(Space, Vec<u8>), Arc<[u8]>>;

/// A disk in memory. Clones are the same disk: a test keeps one to break it, or to see what a crash would leave.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    platter: Arc<Mutex<Platter>>,
}

#[derive(Default)]
struct Platter {
    /// Everything written: what a process sees after it was killed.
    written: Map,
    /// Everything synced: what is left at the least after the power went.
    synced: Map,
    /// The batches written since the last sync, oldest first.
    unsynced: Vec<Vec<Change>>,
    writes_before_failure: Option<u64>,
    syncs_before_failure: Option<u64>,
    reads_fail: bool,
    full: bool,
    read_only: bool,
}

/// What is left of a [`MemoryDisk`] after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process was killed: everything written is there.
    Killed,
    /// The power went: only what was synced is there.
    PowerCut,
    /// The power went, and this many of the unsynced writes had reached the disk by themselves, oldest first.
    PowerCutAfter(usize),
}

#[derive(Clone)]
enum Change {
    Put(Space, Vec<u8>, Arc<[u8]>),
    Delete(Space, Vec<u8>),
    DeleteRange(Space, Vec<u8>, Vec<u8>),
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a crash at this moment would leave, as a new disk. This one goes on as if nothing had happened.
    pub fn crash(&self, crash: Crash) -> MemoryDisk {
        let platter = self.platter.lock();
        let mut left = match crash {
            Crash::Killed => platter.written.clone(),
            Crash::PowerCut | Crash::PowerCutAfter(_) => platter.synced.clone(),
        };
        if let Crash::PowerCutAfter(kept) = crash {
            for batch in platter.unsynced.iter().take(kept) {
                apply(&mut left, batch);
            }
        }
        let platter = Platter {
            written: left.clone(),
            synced: left,
            ..Platter::default()
        };
        MemoryDisk {
            platter: Arc::new(Mutex::new(platter)),
        }
    }

    /// How many writes a power cut could take away.
    pub fn unsynced_writes(&self) -> usize {
        self.platter.lock().unsynced.len()
    }

    /// Lets this many more writes succeed, then fails every one (`None`: never again).
    pub fn fail_writes_after(&self, writes: Option<u64>) {
        self.platter.lock().writes_before_failure = writes;
    }

    /// Lets this many more syncs succeed, then fails every one (`None`: never again). A write that asks for a sync counts.
    pub fn fail_syncs_after(&self, syncs: Option<u64>) {
        self.platter.lock().syncs_before_failure = syncs;
    }

    /// Makes every read fail, or work again.
    pub fn fail_reads(&self, fail: bool) {
        self.platter.lock().reads_fail = fail;
    }

    /// Makes every write find the disk full, or room again.
    pub fn fill(&self, full: bool) {
        self.platter.lock().full = full;
    }

    /// Refuses every write from now on, or no longer.
    pub fn make_read_only(&self, read_only: bool) {
        self.platter.lock().read_only = read_only;
    }

    /// Flips one bit in the middle of the `index`-th stored chunk, as a rotting disk would. False if there is no such chunk.
    pub fn damage_chunk(&self, index: usize) -> bool {
        let mut platter = self.platter.lock();
        let Some((key, value)) = platter
            .written
            .iter()
            .filter(|((space, _), _)| *space == Space::Chunks)
            .nth(index)
        else {
            return false;
        };
        let (key, mut damaged) = (key.clone(), value.to_vec());
        let middle = damaged.len() / 2;
        if let Some(byte) = damaged.get_mut(middle) {
            *byte ^= 0x10;
        }
        platter.written.insert(key, damaged.into());
        true
    }
}

impl Platter {
    fn check_read(&self) -> Result<(), StorageError> {
        if self.reads_fail {
            return Err(StorageError::Engine {
                operation: "reading",
                message: "the test asked for it".into(),
            });
        }
        Ok(())
    }

    fn check_room(&self) -> Result<(), StorageError> {
        if self.full {
            return Err(StorageError::DiskFull {
                operation: "writing",
                message: "the test asked for it".into(),
            });
        }
        if self.read_only {
            return Err(StorageError::ReadOnly {
                operation: "writing",
                message: "the test asked for it".into(),
            });
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        count_down(&mut self.syncs_before_failure, "syncing")?;
        for batch in std::mem::take(&mut self.unsynced) {
            apply(&mut self.synced, &batch);
        }
        Ok(())
    }
}

impl Engine for MemoryDisk {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let platter = self.platter.lock();
        platter.check_read()?;
        Ok(platter.written.get(&(space, key.to_vec())).map(|value| value.to_vec()))
    }

    fn scan(&self, space: Space, from: &[u8], until: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        if from >= until {
            return Ok(());
        }
        let range = (
            Bound::Included((space, from.to_vec())),
            Bound::Excluded((space, until.to_vec())),
        );
        let found: Vec<(Vec<u8>, Arc<[u8]>)> = {
            let platter = self.platter.lock();
            platter.check_read()?;
            platter
                .written
                .range(range)
                .map(|((_, key), value)| (key.clone(), value.clone()))
                .collect()
        };
        for (key, value) in found {
            if visit(&key, &value)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, fill: Fill<'_>, sync: bool) -> Result<(), StorageError> {
        let mut batch = Vec::new();
        fill(&mut batch);
        let mut platter = self.platter.lock();
        count_down(&mut platter.writes_before_failure, "writing")?;
        platter.check_room()?;
        apply(&mut platter.written, &batch);
        platter.unsynced.push(batch);
        if sync {
            platter.sync()?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.platter.lock().sync()
    }

    fn reopen(&self) -> Result<Retry, StorageError> {
        self.platter.lock().check_room().map(|()| Retry::Missing)
    }

    fn copy_to(&self, _folder: &Path) -> Result<(), StorageError> {
        Err(StorageError::Engine {
            operation: "copying",
            message: "a disk in memory cannot be copied into a folder".into(),
        })
    }
}

impl Batch for Vec<Change> {
    fn put(&mut self, space: Space, key: &[u8], value: &[u8]) {
        self.push(Change::Put(space, key.to_vec(), value.into()));
    }

    fn delete(&mut self, space: Space, key: &[u8]) {
        self.push(Change::Delete(space, key.to_vec()));
    }

    fn single_delete(&mut self, space: Space, key: &[u8]) {
        self.push(Change::Delete(space, key.to_vec()));
    }

    fn delete_range(&mut self, space: Space, from: &[u8], until: &[u8]) {
        self.push(Change::DeleteRange(space, from.to_vec(), until.to_vec()));
    }
}

fn apply(map: &mut Map, batch: &[Change]) {
    for change in batch {
        match change {
            Change::Put(space, key, value) => {
                map.insert((*space, key.clone()), value.clone());
            }
            Change::Delete(space, key) => {
                map.remove(&(*space, key.clone()));
            }
            Change::DeleteRange(space, from, until) if from < until => {
                let range = (
                    Bound::Included((*space, from.clone())),
                    Bound::Excluded((*space, until.clone())),
                );
                let doomed: Vec<_> = map.range(range).map(|(key, _)| key.clone()).collect();
                for key in doomed {
                    map.remove(&key);
                }
            }
            Change::DeleteRange(..) => {}
        }
    }
}

fn count_down(left: &mut Option<u64>, operation: &'static str) -> Result<(), StorageError> {
    match left {
        Some(0) => Err(StorageError::Engine {
            operation,
            message: "the test asked for it".into(),
        }),
        Some(left) => {
            *left -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}
