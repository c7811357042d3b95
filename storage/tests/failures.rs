//! What the store does when the disk, the directory or its caller fails.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end that way")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Disk, append, manual, patient, positions, recover, write};
use leveret_storage::{
    CommitListener, Crash, Definition, Fsync, MemoryDisk, Position, QueueId, StorageError, Store, StoreOptions, Ticket,
    VhostRecord,
};

const QUEUE: QueueId = QueueId(1);

#[derive(Default)]
struct Woken(AtomicUsize);

impl CommitListener for Woken {
    fn committed(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn append_one(store: &Store, position: u64) -> Ticket {
    let mut writer = store.writer();
    writer.append(QUEUE, Position(position), &[b"x"]);
    writer.submit()
}

fn assert_refuses(store: &Store, failed: Ticket) {
    assert!(matches!(store.wait(failed), Err(StorageError::Failed(_))));
    assert!(store.failed().is_some());
    let durable = store.durable();
    assert!(durable < failed);
    for position in 1000..1010 {
        let ticket = append_one(store, position);
        assert!(ticket > durable);
        assert!(matches!(store.wait(ticket), Err(StorageError::Failed(_))));
    }
    assert_eq!(store.durable(), durable);
    assert!(store.flush().is_err());
    let late = Arc::new(Woken::default());
    store.wake_on_commit(late.clone());
    assert_eq!(late.times(), 1, "who registers afterwards is told at once");
    assert!(matches!(store.close(), Err(StorageError::Failed(_))));
}

#[test]
fn after_a_failed_write_or_sync_no_ticket_becomes_durable_ever_again() {
    for fails in [MemoryDisk::fail_writes_after, MemoryDisk::fail_syncs_after] {
        let disk = MemoryDisk::new();
        let store = Store::on_memory_disk(&disk, patient()).unwrap();
        append(&store, QUEUE, 0..3);
        let woken = Arc::new(Woken::default());
        store.wake_on_commit(woken.clone());
        fails(&disk, Some(0));
        let failed = append_one(&store, 3);
        assert!(store.wait(failed).is_err());
        fails(&disk, None);
        assert_refuses(&store, failed);
        assert_eq!(woken.times(), 1, "those that wait are told");
        assert!(
            positions(&store, QUEUE).starts_with(&[0, 1, 2]),
            "what is there stays readable"
        );
        drop(store);
        let after = Store::on_memory_disk(&disk.crash(Crash::PowerCut), patient()).unwrap();
        assert_eq!(positions(&after, QUEUE), [0, 1, 2]);
    }
}

#[test]
fn a_failing_late_sync_fails_the_store() {
    let disk = MemoryDisk::new();
    let fsync = Fsync::Interval(Duration::from_millis(1));
    let store = Store::on_memory_disk(&disk, StoreOptions { fsync, ..patient() }).unwrap();
    append(&store, QUEUE, 0..1);
    disk.fail_syncs_after(Some(0));
    let woken = Arc::new(Woken::default());
    let mut position = 1;
    // Each commit may or may not be the one that syncs; soon one is, or the interval ends.
    while store.failed().is_none() {
        store.wake_on_commit(woken.clone());
        append_one(&store, position);
        position += 1;
    }
    assert_refuses(&store, Ticket(u64::MAX));
}

#[test]
fn a_caller_that_breaks_a_rule_fails_the_store_and_is_never_confirmed() {
    for disk in Disk::both() {
        let store = disk.open(&patient());
        append(&store, QUEUE, 0..3);
        let failed = append_one(&store, 2);
        assert!(matches!(store.wait(failed), Err(StorageError::Failed(_))));
        assert!(matches!(store.failed().as_deref(), Some(StorageError::Misused { .. })));
        assert_refuses(&store, failed);
    }
}

#[test]
fn a_failing_read_is_an_error_and_harms_nothing() {
    let disk = MemoryDisk::new();
    let store = Store::on_memory_disk(&disk, patient()).unwrap();
    append(&store, QUEUE, 0..3);
    disk.fail_reads(true);
    assert!(store.read(QUEUE, Position(0), 1).is_err());
    assert!(store.recover_queue(QUEUE, &mut |_| ()).is_err());
    assert!(store.definitions().is_err());
    disk.fail_reads(false);
    append(&store, QUEUE, 3..4);
    assert_eq!(positions(&store, QUEUE), [0, 1, 2, 3]);
}

#[test]
fn a_damaged_chunk_is_named_and_the_others_are_still_read() {
    let disk = MemoryDisk::new();
    let store = Store::on_memory_disk(&disk, manual()).unwrap();
    for batch in 0..5 {
        append(&store, QUEUE, batch * 10..batch * 10 + 10);
    }
    store.flush().unwrap();
    assert!(disk.damage_chunk(2));
    for store in [store, Store::on_memory_disk(&disk, manual()).unwrap()] {
        let mut seen = Vec::new();
        let error = store
            .recover_queue(QUEUE, &mut |message| seen.push(message.position.0))
            .unwrap_err();
        assert!(error.to_string().contains("chunk 20 of queue 1"), "{error}");
        assert_eq!(seen, Vec::from_iter((0..20).chain(30..50)));
        let read = store.read(QUEUE, Position(0), usize::MAX).unwrap();
        assert_eq!(read.len(), 20, "reading stops before the damage");
        assert!(matches!(
            store.read(QUEUE, Position(20), 1),
            Err(StorageError::Corrupt { .. })
        ));
        assert_eq!(store.read(QUEUE, Position(30), usize::MAX).unwrap().len(), 20);
    }
}

#[test]
fn a_damaged_chunk_without_index_entry_does_not_keep_the_store_from_opening() {
    let disk = MemoryDisk::new();
    let store = Store::on_memory_disk(&disk, manual()).unwrap();
    for batch in 0..5 {
        append(&store, QUEUE, batch * 10..batch * 10 + 10);
    }
    // One in the middle, and the last, whose end nobody knows.
    assert!(disk.damage_chunk(2) && disk.damage_chunk(4));
    let disk = disk.crash(Crash::Killed);
    for _ in 0..2 {
        let store = Store::on_memory_disk(&disk, manual()).unwrap();
        let mut seen = Vec::new();
        let error = store.recover_queue(QUEUE, &mut |message| seen.push(message.position.0));
        assert!(error.unwrap_err().to_string().contains("chunk 20 of queue 1"));
        assert_eq!(seen, Vec::from_iter((0..20).chain(30..40)));
        let next = store.next_position(QUEUE).0;
        assert!(
            next > u64::from(u32::MAX),
            "no position of the damaged chunk is used again: {next}"
        );
        // Now it gets an index entry.
        store.flush().unwrap();
    }
    let store = Store::on_memory_disk(&disk, manual()).unwrap();
    let next = store.next_position(QUEUE).0;
    append(&store, QUEUE, next..next + 1);
    assert_eq!(store.read(QUEUE, Position(next), 1).unwrap().len(), 1);
    write(&store, |writer| {
        writer.purge::<Position>(QUEUE, Position(u64::MAX), &[])
    });
    assert!(positions(&store, QUEUE).is_empty(), "a purge is the end of it");
}

#[test]
fn a_full_disk_confirms_nothing_and_the_store_goes_on_when_there_is_room() {
    let disk = MemoryDisk::new();
    let store = Store::on_memory_disk(&disk, patient()).unwrap();
    append(&store, QUEUE, 0..3);
    disk.fill(true);
    let first = append_one(&store, 3);
    until("the store notices", || store.trouble().is_some());
    let second = append_one(&store, 4);
    assert!(store.failed().is_none(), "it has not failed for good");
    assert!(store.durable() < first);
    assert_eq!(positions(&store, QUEUE), [0, 1, 2, 3, 4], "all can be read meanwhile");
    disk.fill(false);
    store.wait(second).unwrap();
    assert!(store.trouble().is_none());
    drop(store);
    let store = Store::on_memory_disk(&disk.crash(Crash::PowerCut), patient()).unwrap();
    assert_eq!(positions(&store, QUEUE), [0, 1, 2, 3, 4]);
}

#[test]
fn a_disk_that_has_become_read_only_confirms_nothing_and_the_store_goes_on_when_it_is_writable() {
    let disk = MemoryDisk::new();
    let store = Store::on_memory_disk(&disk, patient()).unwrap();
    append(&store, QUEUE, 0..3);
    disk.make_read_only(true);
    let waits = append_one(&store, 3);
    until("the store notices", || store.trouble().is_some());
    let trouble = store.trouble().unwrap().to_string();
    assert!(trouble.contains("not writable"), "{trouble}");
    assert!(store.failed().is_none() && store.durable() < waits);
    assert_eq!(positions(&store, QUEUE), [0, 1, 2, 3], "all can be read meanwhile");
    disk.make_read_only(false);
    store.wait(waits).unwrap();
    assert!(store.trouble().is_none());
}

#[test]
fn what_was_confirmed_before_its_interval_was_over_is_synced_when_the_disk_is_found_full() {
    let disk = MemoryDisk::new();
    let options = StoreOptions {
        fsync: Fsync::Interval(Duration::from_secs(3600)),
        ..patient()
    };
    let store = Store::on_memory_disk(&disk, options.clone()).unwrap();
    for position in 0..5 {
        append(&store, QUEUE, position..position + 1);
    }
    assert!(disk.unsynced_writes() > 0);
    disk.fill(true);
    append_one(&store, 5);
    until("the store has synced", || disk.unsynced_writes() == 0);
    let left = Store::on_memory_disk(&disk.crash(Crash::PowerCut), options).unwrap();
    assert_eq!(positions(&left, QUEUE), [0, 1, 2, 3, 4]);
    disk.fill(false);
}

/// Needs a file system with immutable files and the right to make them; without it, nothing is shown.
#[test]
fn rocksdb_in_a_directory_that_has_become_read_only_goes_on_when_it_is_writable() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let store = Store::open(&data, patient()).unwrap();
    append(&store, QUEUE, 0..3);
    let Some(frozen) = Frozen::freeze(&data) else {
        eprintln!("left out: no right to make files immutable");
        return;
    };
    let waits = append_one(&store, 3);
    until("the store notices", || store.trouble().is_some());
    assert!(store.failed().is_none(), "{:?}", store.failed());
    assert!(store.durable() < waits);
    assert_eq!(positions(&store, QUEUE), [0, 1, 2, 3]);
    drop(frozen);
    store.wait(waits).unwrap();
    assert!(store.trouble().is_none());
    drop(store);
    let store = Store::open(&data, patient()).unwrap();
    assert_eq!(positions(&store, QUEUE), [0, 1, 2, 3]);
}

/// Files and folders that cannot be changed as long as this lives.
struct Frozen(std::path::PathBuf);

impl Frozen {
    fn freeze(path: &std::path::Path) -> Option<Self> {
        let frozen = Self(path.to_owned());
        frozen.change("+i").then_some(frozen)
    }

    fn change(&self, attribute: &str) -> bool {
        let chattr = std::process::Command::new("chattr")
            .args(["-R", attribute])
            .arg(&self.0)
            .output();
        chattr.is_ok_and(|changed| changed.status.success())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.change("-i");
    }
}

#[test]
fn a_store_with_a_full_disk_can_be_closed_and_says_what_it_could_not_keep() {
    let disk = MemoryDisk::new();
    let store = Store::on_memory_disk(&disk, patient()).unwrap();
    append(&store, QUEUE, 0..3);
    disk.fill(true);
    let lost = append_one(&store, 3);
    until("the store notices", || store.trouble().is_some());
    let error = store.close().unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    assert!(matches!(store.wait(lost), Err(StorageError::Failed(_))));
}

/// Needs the right to mount a small file system; without it, nothing is shown.
#[test]
fn rocksdb_on_a_full_file_system_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=32m", "leveret-test"])
        .arg(dir.path())
        .output();
    if !mounted.is_ok_and(|mounted| mounted.status.success()) {
        eprintln!("left out: no right to mount a file system");
        return;
    }
    let unmount = Unmount(dir.path().to_owned());
    let store = Store::open(&dir.path().join("data"), patient()).unwrap();
    let ballast = dir.path().join("ballast");
    let payload = vec![7; 100_000];
    let mut position = 0;
    let mut append = |store: &Store| {
        let mut writer = store.writer();
        writer.append(QUEUE, Position(position), &[&payload]);
        position += 1;
        writer.submit()
    };
    for round in 0..3u64 {
        store.wait(append(&store)).unwrap();
        // As large as the file system allows, which ends with an error.
        let _ = std::fs::write(&ballast, vec![0; 40 << 20]);
        let mut tickets = Vec::new();
        while store.trouble().is_none() {
            // Little at a time: what waits for room must fit when the ballast is gone.
            if tickets.last().is_none_or(|last| store.durable() >= *last) {
                tickets.push(append(&store));
            }
            std::thread::yield_now();
        }
        tickets.push(append(&store));
        let last = *tickets.last().unwrap();
        assert!(
            store.durable() < last && store.failed().is_none(),
            "round {round}: {:?}",
            store.failed()
        );
        let readable = store.read(QUEUE, Position(0), 1).unwrap();
        assert_eq!(readable.len(), 1, "round {round}");
        std::fs::remove_file(&ballast).unwrap();
        store.wait(last).unwrap();
        assert!(store.trouble().is_none());
    }
    drop(store);
    let store = Store::open(&dir.path().join("data"), patient()).unwrap();
    assert!(
        positions(&store, QUEUE).into_iter().eq(0..position),
        "all, once, in order"
    );
    drop((store, unmount));
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[track_caller]
fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_power_cut_takes_nothing_that_was_durable() {
    let disk = MemoryDisk::new();
    let store = Store::on_memory_disk(&disk, manual()).unwrap();
    append(&store, QUEUE, 0..10);
    let mut writer = store.writer();
    writer.settle(QUEUE, Position(5));
    writer.submit();
    store.commit(true);
    assert_eq!(disk.unsynced_writes(), 1, "settling is written, but not synced");
    let left = |crash| {
        let store = Store::on_memory_disk(&disk.crash(crash), manual()).unwrap();
        positions(&store, QUEUE).len()
    };
    assert_eq!(left(Crash::PowerCut), 10);
    assert_eq!(left(Crash::PowerCutAfter(1)), 9);
    assert_eq!(left(Crash::Killed), 9);
    append_one(&store, 10);
    assert_eq!(left(Crash::Killed), 9, "pending is nowhere yet");
    store.flush().unwrap();
    assert_eq!(left(Crash::PowerCut), 10);
}

#[test]
fn without_fsync_a_power_cut_takes_what_was_confirmed_and_a_kill_does_not() {
    let never = StoreOptions {
        fsync: Fsync::Never,
        ..manual()
    };
    let disk = MemoryDisk::new();
    let store = Store::on_memory_disk(&disk, never).unwrap();
    append(&store, QUEUE, 0..10);
    let left = |crash| {
        let store = Store::on_memory_disk(&disk.crash(crash), manual()).unwrap();
        recover(&store, QUEUE).len()
    };
    assert_eq!((left(Crash::Killed), left(Crash::PowerCut)), (10, 0));
    store.close().unwrap();
    assert_eq!(left(Crash::PowerCut), 10, "an orderly end syncs all the same");
}

#[test]
fn with_an_interval_everything_is_synced_after_it_and_not_each_commit_before() {
    let with = |interval| StoreOptions {
        fsync: Fsync::Interval(interval),
        ..patient()
    };
    let store = Store::in_memory(with(Duration::from_secs(3600)));
    for position in 0..20 {
        append(&store, QUEUE, position..position + 1);
    }
    assert!(store.statistics().syncs <= 1, "the first commit begins the interval");
    let disk = MemoryDisk::new();
    let store = Store::on_memory_disk(&disk, with(Duration::from_millis(20))).unwrap();
    for position in 0..20 {
        append(&store, QUEUE, position..position + 1);
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while disk.unsynced_writes() > 0 {
        assert!(std::time::Instant::now() < deadline, "the interval never ended");
        std::thread::yield_now();
    }
}

#[test]
fn a_flush_syncs_even_when_a_lazy_commit_takes_its_ticket() {
    let disk = MemoryDisk::new();
    let lazy_flush = Duration::from_millis(1);
    let store = Store::on_memory_disk(
        &disk,
        StoreOptions {
            lazy_flush,
            ..patient()
        },
    )
    .unwrap();
    append(&store, QUEUE, 0..1);
    store.flush().unwrap();
    let hold = store.hold();
    let mut writer = store.writer();
    writer.settle(QUEUE, Position(0));
    writer.submit();
    // Time enough for the lazy commit to begin, and to wait for the hold. If it is not, this shows nothing.
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(30) {
        std::thread::yield_now();
    }
    std::thread::scope(|scope| {
        let flush = scope.spawn(|| store.flush());
        while begun.elapsed() < Duration::from_millis(60) {
            std::thread::yield_now();
        }
        drop(hold);
        flush.join().unwrap().unwrap();
    });
    assert_eq!(disk.unsynced_writes(), 0);
}

#[test]
fn a_second_open_of_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), patient()).unwrap();
    let error = Store::open(dir.path(), patient()).err().unwrap();
    assert!(matches!(&error, StorageError::InUse { directory } if directory == dir.path()));
    assert!(error.to_string().contains("in use"));
    drop(store);
    Store::open(dir.path(), patient()).unwrap();
}

#[test]
fn a_directory_in_use_by_another_process_is_refused() {
    const OTHER: &str = "LEVERET_TEST_DIRECTORY_IN_USE";
    if let Some(directory) = std::env::var_os(OTHER) {
        let directory = std::path::Path::new(&directory);
        let error = Store::open(directory, patient()).err().unwrap();
        assert!(matches!(&error, StorageError::InUse { .. }), "{error}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), patient()).unwrap();
    append(&store, QUEUE, 0..1);
    let other = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_directory_in_use_by_another_process_is_refused"])
        .env(OTHER, dir.path())
        .output()
        .unwrap();
    assert!(other.status.success(), "{other:?}");
    append(&store, QUEUE, 1..2);
}

#[test]
fn a_directory_of_a_newer_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("FORMAT"), "leveret storage format 4\n").unwrap();
    let error = Store::open(dir.path(), patient()).err().unwrap();
    assert!(matches!(
        error,
        StorageError::NewerFormat {
            found: 4,
            supported: 3,
            ..
        }
    ));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn what_is_not_a_data_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = Store::open(&path, patient()).err().unwrap();
        assert!(
            matches!(&error, StorageError::NotADirectory { path } if *path == file),
            "{error}"
        );
    }
    for text in ["nonsense", "leveret storage format x", ""] {
        std::fs::write(dir.path().join("FORMAT"), text).unwrap();
        let error = Store::open(dir.path(), patient()).err().unwrap();
        assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
    }
    // Not writable, even for root.
    let error = Store::open(std::path::Path::new("/proc/leveret"), patient())
        .err()
        .unwrap();
    assert!(matches!(error, StorageError::NotWritable { .. }), "{error}");
}

#[test]
fn a_missing_file_of_the_database_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), patient()).unwrap();
    append(&store, QUEUE, 0..3);
    drop(store);
    std::fs::remove_file(dir.path().join("FORMAT")).unwrap();
    let error = Store::open(dir.path(), patient()).err().unwrap();
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
    std::fs::write(dir.path().join("FORMAT"), "leveret storage format 1\n").unwrap();
    for file in std::fs::read_dir(dir.path().join("db")).unwrap() {
        let file = file.unwrap();
        if file.file_name().to_string_lossy().starts_with("MANIFEST") {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    let error = Store::open(dir.path(), patient()).err().unwrap();
    assert!(
        matches!(error, StorageError::Corrupt { .. } | StorageError::Engine { .. }),
        "{error}"
    );
}

#[test]
fn a_closed_store_takes_nothing_more_and_tells_those_that_wait() {
    for disk in Disk::both() {
        let store = disk.open(&patient());
        append(&store, QUEUE, 0..3);
        let woken = Arc::new(Woken::default());
        store.wake_on_commit(woken.clone());
        store.close().unwrap();
        store.close().unwrap();
        assert!(woken.times() > 0);
        let ticket = append_one(&store, 3);
        assert!(matches!(store.wait(ticket), Err(StorageError::Closed)));
        assert!(matches!(store.flush(), Err(StorageError::Closed)));
        assert_eq!(positions(&store, QUEUE), [0, 1, 2]);
    }
}

#[test]
fn a_store_can_be_dropped_by_its_own_listener() {
    struct Last(parking_lot::Mutex<Option<Store>>);
    impl CommitListener for Last {
        fn committed(&self) {
            drop(self.0.lock().take());
        }
    }
    let store = Store::in_memory(patient());
    let last = Arc::new(Last(parking_lot::Mutex::new(Some(store.clone()))));
    store.wake_on_commit(last.clone());
    let mut writer = store.writer();
    writer.put(&Definition::Vhost(VhostRecord::default()));
    writer.submit();
    drop(store);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while last.0.lock().is_some() {
        assert!(std::time::Instant::now() < deadline, "the listener was not called");
        std::thread::yield_now();
    }
}

#[test]
fn publishers_are_asked_to_pause_and_to_go_on() {
    let options = StoreOptions {
        pending_bytes_max: 10_000,
        ..manual()
    };
    let store = Store::in_memory(options);
    let mut position = 0;
    while !store.is_congested() {
        append_one_of(&store, position, 1000);
        position += 1;
    }
    assert!((9..=10).contains(&position), "{position}");
    assert!(store.statistics().pending_bytes > 10_000);
    store.commit(false);
    assert!(!store.is_congested());
    assert_eq!(store.statistics().pending_bytes, 0);
    write(&store, |writer| writer.append(QUEUE, Position(position), &[b"x"]));
    assert!(!store.is_congested());
}

fn append_one_of(store: &Store, position: u64, bytes: usize) {
    let mut writer = store.writer();
    writer.append(QUEUE, Position(position), &[&vec![0; bytes]]);
    writer.submit();
}
