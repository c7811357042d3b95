//! RocksDB's log cut off and damaged anywhere: what is left is a prefix of history, with all that was confirmed in it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end that way")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Seen, manual, recover};
use leveret_storage::{Definition, Position, QueueId, Store, VhostRecord};
use tempfile::TempDir;

/// What a store holds: the messages of each queue, and the names of the virtual hosts.
type Contents = (BTreeMap<u64, Vec<Seen>>, Vec<String>);

fn contents(store: &Store) -> Contents {
    let queues = (1..=QUEUES)
        .map(|queue| (queue, recover(store, QueueId(queue))))
        .collect();
    let names = store
        .definitions()
        .unwrap()
        .into_iter()
        .map(|definition| match definition {
            Definition::Vhost(vhost) => vhost.name,
            other => panic!("{other:?} was never put"),
        });
    (queues, names.collect())
}

/// A history of commits: after each, what the store holds on disk, and how long the log was.
struct History {
    dir: TempDir,
    log: PathBuf,
    commits: Vec<(Contents, u64)>,
}

impl History {
    fn write() -> History {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path(), manual()).unwrap());
        let store = Store::open(dir.path(), manual()).unwrap();
        let log = newest_log(dir.path());
        let mut commits = vec![(contents(&store), fs::metadata(&log).unwrap().len())];
        for step in 0..20u64 {
            one_step(&store, step);
            // Lazy state too, so that what is in memory is what is on disk.
            store.flush().unwrap();
            commits.push((contents(&store), fs::metadata(&log).unwrap().len()));
        }
        assert_eq!(newest_log(dir.path()), log, "the history fits into one log");
        drop(store);
        History { dir, log, commits }
    }

    /// Opens a copy of the directory, with the log replaced.
    fn open_with_log(&self, log: &[u8]) -> Contents {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(self.dir.path(), copy.path());
        let name = self.log.strip_prefix(self.dir.path()).unwrap();
        fs::write(copy.path().join(name), log).unwrap();
        let store = Store::open(copy.path(), manual()).unwrap();
        let found = contents(&store);
        // What is left is a store like any other.
        let position = store.next_position(QueueId(1));
        let mut writer = store.writer();
        writer.append(QueueId(1), position, &[b"goes on"]);
        let ticket = writer.submit();
        store.wait(ticket).unwrap();
        assert_eq!(recover(&store, QueueId(1)).len(), found.0[&1].len() + 1);
        found
    }

    fn index_of(&self, found: &Contents) -> usize {
        let index = self.commits.iter().rposition(|(contents, _)| contents == found);
        index.unwrap_or_else(|| panic!("not a state that ever was: {found:?}"))
    }
}

/// A step changes several queues and definitions at once, so that half a step would be noticed.
fn one_step(store: &Store, step: u64) {
    let mut writer = store.writer();
    for queue in 1..=QUEUES {
        let queue = QueueId(queue);
        let at = step * 10;
        for position in at..at + 1 + step % 4 {
            let body = vec![step as u8; (step * 7 % 50) as usize];
            writer.append(queue, Position(position), &[b"m", &body]);
        }
        if step % 3 == 1 {
            writer.delivered(queue, Position(at));
            writer.requeued(queue, Position(at), step as u32);
        }
        if step % 3 == 2 {
            writer.settle(queue, Position(at - 10));
        }
        if step % 11 == 10 {
            writer.purge(queue, Position(at - 20), &[Position(10)]);
        }
    }
    if step == 17 {
        writer.delete_queue(QueueId(2));
    }
    writer.put(&Definition::Vhost(VhostRecord {
        name: format!("vhost {step:02}"),
        ..VhostRecord::default()
    }));
    writer.submit();
}

#[test]
fn a_log_cut_anywhere_leaves_all_commits_before_the_cut() {
    let history = History::write();
    let log = fs::read(&history.log).unwrap();
    let ends: Vec<u64> = history.commits.iter().map(|(_, end)| *end).collect();
    assert!(ends.is_sorted());
    let mut cuts: Vec<u64> = (0..log.len() as u64).step_by(149).collect();
    for end in &ends {
        cuts.extend([end.saturating_sub(1), *end, end + 1]);
    }
    cuts.retain(|cut| *cut <= log.len() as u64);
    cuts.sort_unstable();
    cuts.dedup();
    for cut in cuts {
        let found = history.open_with_log(&log[..cut as usize]);
        let index = history.index_of(&found);
        let whole = ends.iter().rposition(|end| *end <= cut).unwrap_or(0);
        assert!(index >= whole, "cut at {cut}: only commit {index} of {whole} is left");
    }
}

#[test]
fn a_damaged_byte_in_the_log_leaves_a_prefix_of_history() {
    let history = History::write();
    let log = fs::read(&history.log).unwrap();
    for at in (0..log.len()).step_by(log.len() / 60) {
        let mut damaged = log.clone();
        damaged[at] ^= 0x40;
        let found = history.open_with_log(&damaged);
        let index = history.index_of(&found);
        let before = history
            .commits
            .iter()
            .rposition(|(_, end)| *end <= at as u64)
            .unwrap_or(0);
        assert!(
            index >= before,
            "damage at {at}: only commit {index} of {before} is left"
        );
    }
}

#[test]
fn a_store_cut_off_in_mid_write_again_and_again_keeps_what_was_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let mut confirmed: Vec<u64> = Vec::new();
    for round in 0..8u64 {
        let store = Store::open(dir.path(), Default::default()).unwrap();
        let seen: Vec<u64> = recover(&store, QueueId(1)).iter().map(|seen| seen.0).collect();
        assert!(seen.is_sorted());
        for position in &confirmed {
            assert!(
                seen.binary_search(position).is_ok(),
                "round {round}: {position} is lost"
            );
        }
        confirmed = seen;
        let next = store.next_position(QueueId(1)).0;
        let mut tickets = Vec::new();
        for position in next..next + 200 {
            let mut writer = store.writer();
            writer.append(QueueId(1), Position(position), &[&position.to_be_bytes()]);
            tickets.push((position, writer.submit()));
        }
        // The store is dropped with commits under way; only what it has called durable counts.
        store.wait(tickets[20].1).unwrap();
        let durable = store.durable();
        drop(store);
        confirmed.extend(
            tickets
                .iter()
                .filter(|(_, ticket)| *ticket <= durable)
                .map(|(position, _)| position),
        );
    }
}

fn newest_log(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir.join("db")).unwrap().map(|file| file.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .max()
        .unwrap()
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

const QUEUES: u64 = 3;
