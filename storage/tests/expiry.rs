//! Messages that expire are found by the index, without reading those that do not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end that way")]

mod common;

use common::{Disk, manual, write};
use leveret_storage::{ExpiredFound, NEVER, Position, QueueId, Store, StoreOptions, Weight};

const QUEUE: QueueId = QueueId(1);

/// A payload is the time at which it expires, or nothing.
fn expiring() -> StoreOptions {
    StoreOptions {
        weigh: |payload| Weight {
            body_bytes: 1,
            expires_at: payload.try_into().map_or(NEVER, u64::from_be_bytes),
        },
        chunk_bytes: 500,
        ..manual()
    }
}

/// Ten batches of ten messages; message 57 expires at 1057 and so on, but for those that never do.
fn fill(store: &Store, spilled: bool) {
    for batch in 0..10 {
        write(store, |writer| {
            for position in (batch * 10..batch * 10 + 10).map(Position) {
                let payload = match position.0 % 5 {
                    4 => Vec::new(),
                    _ => (1000 + position.0).to_be_bytes().to_vec(),
                };
                if spilled {
                    writer.spill(QUEUE, position, &[&payload]);
                } else {
                    writer.append(QUEUE, position, &[&payload]);
                }
            }
        });
    }
}

fn search(store: &Store, from: u64, until: u64, now: u64) -> (Vec<u64>, ExpiredFound) {
    let mut positions = Vec::new();
    let range = Position(from)..Position(until);
    let found = store.read_expired(QUEUE, range, now, &mut |message| positions.push(message.position.0));
    (positions, found.unwrap())
}

#[test]
fn only_chunks_in_which_something_expired_are_looked_at_and_only_once() {
    for mut disk in Disk::both() {
        let store = disk.open(&expiring());
        fill(&store, false);
        assert_eq!(store.contents(QUEUE).expires, Some(1000));
        let (positions, found) = search(&store, 0, 100, 999);
        assert_eq!((positions, found.seen, found.next), (vec![], 0, 1000));

        let (positions, found) = search(&store, 0, 100, 1012);
        assert_eq!(positions, [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12]);
        assert_eq!((found.seen, found.expired, found.next), (20, 11, 1013));
        // Nothing was done about it, so it is found again.
        assert_eq!(search(&store, 0, 100, 1012).0.len(), 11);
        write(&store, |writer| {
            positions
                .iter()
                .for_each(|position| writer.settle(QUEUE, Position(*position)));
            writer.saw_expired(QUEUE, &found);
        });
        let (positions, found) = search(&store, 0, 100, 1012);
        assert_eq!((positions, found.seen, found.next), (vec![], 0, 1013));

        // A part of the queue that somebody else takes care of.
        let (positions, _) = search(&store, 25, 27, 5000);
        assert_eq!(positions, [25, 26]);

        store.flush().unwrap();
        let store = disk.reopen_killed(store, &expiring());
        assert_eq!(
            store.contents(QUEUE).expires,
            Some(1000),
            "the index knows the first of all"
        );
        let (positions, found) = search(&store, 0, 100, 1013);
        assert_eq!((positions, found.next), (vec![13], 1015));
    }
}

#[test]
fn a_search_reads_a_few_chunks_those_that_waited_longest_first() {
    for disk in Disk::both() {
        let store = disk.open(&expiring());
        fill(&store, false);
        let (positions, found) = search(&store, 0, 100, 5000);
        assert_eq!((positions.len(), found.next), (64, 1080));
        write(&store, |writer| writer.saw_expired(QUEUE, &found));
        let (positions, found) = search(&store, 0, 100, 5000);
        assert_eq!((positions.first(), found.next), (Some(&80), NEVER));
    }
}

/// However many chunks want to be looked at all the time, each has its turn: the more chunks, the later, in proportion.
#[test]
fn no_chunk_waits_for_more_searches_than_its_share() {
    const CHUNKS: u64 = 40;
    /// `SEARCHED_CHUNKS_MAX` of them are read at once.
    const ROUNDS: u64 = CHUNKS / 8;
    for disk in Disk::both() {
        let store = disk.open(&expiring());
        // In every chunk one message expires in each round: all chunks want every search.
        for chunk in 0..CHUNKS {
            write(&store, |writer| {
                for round in 0..10 {
                    let expires = 1000 * (1 + round) + (chunk * 7) % CHUNKS;
                    writer.append(QUEUE, Position(chunk * 10 + round), &[&expires.to_be_bytes()]);
                }
            });
        }
        let mut left_at = vec![None; 10 * CHUNKS as usize];
        for now in (1..=10 + ROUNDS).map(|round| round * 1000 + CHUNKS) {
            let (positions, found) = search(&store, 0, 10 * CHUNKS, now);
            write(&store, |writer| {
                for position in positions {
                    left_at[position as usize] = Some(now);
                    writer.settle(QUEUE, Position(position));
                }
                writer.saw_expired(QUEUE, &found);
            });
        }
        for (position, left_at) in left_at.iter().enumerate() {
            let expired_by = (1 + position as u64 % 10) * 1000 + CHUNKS;
            let waited = left_at.unwrap_or(u64::MAX) - expired_by;
            assert!(waited <= ROUNDS * 1000, "{position} left {waited} ms late");
        }
    }
}

#[test]
fn what_came_since_a_search_is_not_missed() {
    for disk in Disk::both() {
        let store = disk.open(&expiring());
        let append = |position: u64, expires: u64| {
            let mut writer = store.writer();
            writer.append(QUEUE, Position(position), &[&expires.to_be_bytes()]);
            writer.submit();
        };
        append(0, 10);
        append(1, 90);
        let (positions, found) = search(&store, 0, 100, 50);
        assert_eq!((positions, found.next), (vec![0], 90));
        append(2, 60);
        write(&store, |writer| writer.saw_expired(QUEUE, &found));
        assert_eq!(search(&store, 1, 100, 60).0, [2]);
    }
}

#[test]
fn chunks_written_anew_keep_the_time_of_the_first_to_expire() {
    for disk in Disk::both() {
        let store = disk.open(&expiring());
        fill(&store, false);
        write(&store, |writer| {
            (0..100)
                .filter(|position| position % 10 != 7)
                .for_each(|position| writer.settle(QUEUE, Position(position)));
        });
        (0..100).for_each(|_| store.commit(true));
        assert!(store.statistics().chunks_live < 10);
        assert_eq!(search(&store, 0, 100, 1027).0, [7, 17, 27]);
    }
}

#[test]
fn spilled_messages_are_found_and_given_up_one_by_one() {
    for disk in Disk::both() {
        let store = disk.open(&expiring());
        fill(&store, true);
        let search = |now: u64| {
            let mut positions = Vec::new();
            let range = Position(0)..Position(100);
            let take = &mut |message: leveret_storage::RecoveredMessage<'_>| positions.push(message.position.0);
            let found = store.read_spilled_expired(QUEUE, range, now, take).unwrap();
            (positions, found)
        };
        let (positions, found) = search(1001);
        assert_eq!(positions, [0, 1]);
        let mut writer = store.writer();
        writer.settle_spilled(QUEUE, Position(0));
        writer.settle_spilled(QUEUE, Position(1));
        writer.saw_spilled_expired(QUEUE, &found);
        writer.submit();
        assert_eq!(search(1001).0, [0_u64; 0]);
        let mut left = Vec::new();
        let range = Position(0)..Position(5);
        let mut take = |message: leveret_storage::RecoveredMessage<'_>| left.push(message.position.0);
        store.read_spilled(QUEUE, range, 1000, &mut take).unwrap();
        assert_eq!(left, [2, 3, 4]);
    }
}
