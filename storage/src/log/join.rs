//! Small chunks that follow one another become one chunk, in memory and in the index. What is stored of them stays where it is.
//!
//! A long queue that came in small commits has many: thousands of queues that fill in turn get a message each with every commit. So
//! the index of a queue costs memory by its bytes and not by its messages, and no message is written twice for it.

use std::ops::Range;

use crate::ids::QueueId;
use crate::log::{Chunk, QueueLog};
use crate::pending::Pending;

impl QueueLog {
    /// Joins what is small among the chunks before the newest, which may be about to be settled.
    pub(super) fn join_small(&mut self, queue: QueueId, pending: &mut Pending) {
        let mut end = self.chunks.len().saturating_sub(pending.unjoined_chunks);
        let oldest = end.saturating_sub(LOOKED_AT_FACTOR * pending.unjoined_chunks);
        // From behind, so that the places of those before stay the same.
        while oldest < end {
            let start = self.start_of_neighbours(oldest..end);
            if start + 1 < end {
                self.join(queue, start..end, pending);
            }
            // One that cannot be joined with any other is passed over.
            end = start.min(end - 1);
        }
        self.release_spare_memory();
    }

    /// The first of the last chunks of a range that can become one.
    fn start_of_neighbours(&self, range: Range<usize>) -> usize {
        let (mut bytes, mut values, mut end) = (0u32, 0, None);
        let mut start = range.end;
        for chunk in self.chunks.range(range).rev() {
            let end = *end.get_or_insert(chunk.last());
            bytes = bytes.saturating_add(chunk.bytes);
            values += chunk.values_count();
            let fits = bytes <= JOINED_BYTES_MAX && values <= JOINED_VALUES_MAX;
            let near = end.0 - chunk.first().0 < u64::from(u32::MAX);
            if !chunk.is_joinable(SMALL_BYTES) || !fits || !near {
                break;
            }
            start -= 1;
        }
        start
    }

    /// Makes one chunk of several. The entries of the others leave the index in the commit that brings one for all.
    fn join(&mut self, queue: QueueId, range: Range<usize>, pending: &mut Pending) {
        let others: Vec<Chunk> = self.chunks.drain(range.start + 1..range.end).collect();
        let Some(chunk) = self.chunks.get_mut(range.start) else {
            return;
        };
        // Something of it may be on its way into the index under a key that is nobody's from now on.
        let mut at_once = !chunk.is_whole();
        for other in &others {
            at_once |= other.indexed || !other.is_whole();
            if other.indexed {
                pending.dead_entries.push((queue, other.key()));
            }
            chunk.join(other);
        }
        self.note_stale(queue, range.start, at_once, pending);
    }
}

/// So many times as many chunks as are left alone are looked at: the rest of them was looked at before.
const LOOKED_AT_FACTOR: usize = 3;
/// What is larger is worth a place of its own in memory and in the index.
const SMALL_BYTES: u32 = 16 << 10;
/// Joined chunks do not become larger than this,
const JOINED_BYTES_MAX: u32 = 256 << 10;
/// nor have more values: the index entry of all of them is written when one of their messages is settled.
const JOINED_VALUES_MAX: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::Shared;
    use crate::ids::Position;
    use crate::load;
    use crate::memory::MemoryDisk;
    use crate::options::StoreOptions;
    use crate::writer::Writer;

    const QUEUE: QueueId = QueueId(1);

    /// A store whose queue got one message of so many bytes with each commit.
    fn filled(lengths: impl IntoIterator<Item = usize>) -> Shared {
        let options = StoreOptions {
            manual_commit: true,
            unjoined_chunks: 4,
            ..StoreOptions::default()
        };
        let shared = Shared::new(Box::new(MemoryDisk::new()), options, load::empty(), 1);
        for (position, length) in (0..).zip(lengths) {
            let mut writer = Writer::new(&shared);
            writer.append(QUEUE, Position(position), &[&vec![7; length]]);
            writer.submit();
            shared.commit(false, false);
        }
        shared
    }

    /// How many values each of the queue's chunks has.
    fn values(shared: &Shared) -> Vec<u32> {
        let state = shared.state.lock();
        state.queues[&QUEUE].chunks.iter().map(Chunk::values_count).collect()
    }

    #[test]
    fn all_but_the_newest_become_one_until_it_is_large() {
        assert_eq!(values(&filled([10; 3])), [1, 1, 1]);
        assert_eq!(values(&filled([10; 10])), [4, 1, 1, 1, 1, 1, 1]);
        let large = values(&filled([10; 600]));
        assert!(large.iter().all(|values| *values <= JOINED_VALUES_MAX));
        assert!(large.iter().sum::<u32>() == 600 && large.len() < 12, "{large:?}");
        let heavy = values(&filled([10_000; 100]));
        assert!(heavy.iter().all(|values| *values <= 26), "{heavy:?}");
        assert!(heavy.len() < 20, "{heavy:?}");
    }

    #[test]
    fn what_is_large_stays_what_it_is() {
        let lengths = (0..40).map(|position| if position % 10 == 5 { 20_000 } else { 10 });
        let shared = filled(lengths);
        let state = shared.state.lock();
        let large = state.queues[&QUEUE].chunks.iter().filter(|chunk| chunk.bytes >= 20_000);
        assert!(large.into_iter().map(Chunk::values_count).eq([1; 4]));
    }

    #[test]
    fn each_message_is_found_under_the_key_it_was_written_with() {
        let shared = filled([10; 100]);
        let state = shared.state.lock();
        let log = &state.queues[&QUEUE];
        for position in 0..100 {
            let (index, distance) = log.find(Position(position)).unwrap();
            let key = log.chunks[index].value_key_at(distance);
            assert_eq!((key.first, key.generation), (Position(position), 0));
            assert!(log.chunks[index].has_value(key));
        }
        let keys = log.chunks.iter().flat_map(|chunk| chunk.value_keys());
        assert!(keys.map(|key| key.first.0).eq(0..100));
    }

    /// The engine must never see a key deleted that another commit is still to bring the index entry of.
    #[test]
    fn entries_of_joined_chunks_leave_in_the_commit_that_brings_one_for_all() {
        let shared = filled([10; 5]);
        let mut writer = Writer::new(&shared);
        for position in 5..9 {
            writer.append(QUEUE, Position(position), &[&[7; 60_000]]);
            writer.submit();
            shared.commit(true, false);
            writer = Writer::new(&shared);
        }
        drop(writer);
        let indexed = |shared: &Shared| {
            let state = shared.state.lock();
            let chunks = state.queues[&QUEUE].chunks.iter();
            chunks.filter(|chunk| chunk.indexed).count()
        };
        assert!(indexed(&shared) >= 5, "the small ones are not young any more");
        let mut writer = Writer::new(&shared);
        (9..14).for_each(|position| writer.append(QUEUE, Position(position), &[&[7; 10]]));
        writer.submit();
        for position in 14..20 {
            let mut writer = Writer::new(&shared);
            writer.append(QUEUE, Position(position), &[&[7; 10]]);
            writer.submit();
            let before = shared.state.lock().pending.dead_entries.len();
            let at_once = shared.state.lock().pending.index_now.len();
            assert_eq!(before > 0, at_once > 0);
            shared.commit(false, false);
        }
        assert_eq!(values(&shared)[0], 5);
    }
}
