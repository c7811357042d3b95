//! The ready messages of a queue by priority: those of a higher one leave first, those of the same one in order of position.
//!
//! Each priority that is used has a [`Ready`] of its own, with messages of its own on disk; the store knows nothing of priorities, so
//! whoever [loads](Load) leaves those of the others where they are. The lowest one is always there. A queue without priorities, or
//! with nothing but messages of the lowest, has no other.
//!
//! ```text
//!   used: one bit each   255 … 9 … 4 … 1        lowest
//!                            │   │   │            │
//!                          Ready Ready Ready    Ready
//! ```

use super::kept::Kept;
use super::ready::{Entry, Ready};
use super::{Amount, ExpiresAt, Found, History, Load, Loaded, Position, QueueMessage, Search};

/// A load for one priority asks for so much, however much the others have in memory.
const LEVEL_LOAD_BYTES_MIN: u64 = 16 << 10;

pub(super) struct Levels<M> {
    lowest: Ready<M>,
    higher: Option<Box<Higher<M>>>,
    /// Messages of a higher priority have this one.
    max_priority: u8,
    /// What is paged is being searched for what has expired.
    searching: Option<Search>,
}

/// The levels above the lowest.
struct Higher<M> {
    /// Which of them have messages.
    used: [u64; 4],
    /// By priority, as far as they were ever used.
    levels: Vec<Option<Box<Ready<M>>>>,
    sums: Sums,
}

/// What is known of several levels together.
#[derive(Clone, Copy, Default)]
struct Sums {
    len: usize,
    paged: usize,
    body_bytes: u64,
    memory_bytes: u64,
}

impl<M: QueueMessage> Levels<M> {
    pub(super) fn new(max_priority: u8) -> Self {
        Self {
            lowest: Ready::new(),
            higher: None,
            max_priority,
            searching: None,
        }
    }

    /// Drops all messages.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.max_priority);
    }

    /// The level of a message in a queue of this highest priority.
    pub(super) fn level_of(&self, message: &M) -> u8 {
        match self.max_priority {
            0 => 0,
            max_priority => message.priority().min(max_priority),
        }
    }

    /// Whether messages may overtake others.
    pub(super) fn has_higher(&self) -> bool {
        self.higher.is_some()
    }

    /// Appends a message that was never handed out. Its position is higher than that of all appended before.
    pub(super) fn push(&mut self, position: Position, message: M, expires_at: ExpiresAt) {
        let level = self.level_of(&message);
        self.change(level, |ready| ready.push(position, message, expires_at));
    }

    /// Puts a message back to its place.
    pub(super) fn put_back(&mut self, position: Position, history: History, kept: Kept<M>) {
        let level = match &kept {
            Kept::Memory(message) => self.level_of(message),
            Kept::Disk(stub) => stub.level,
        };
        self.change(level, |ready| ready.put_back(position, history, kept));
    }

    /// Counts messages that are in the store. They stand behind all of their level that were appended before.
    pub(super) fn page(
        &mut self,
        level: u8,
        first: Position,
        until: Position,
        count: usize,
        body_bytes: u64,
        expires: ExpiresAt,
    ) {
        self.change(level, |ready| ready.page(first, until, count, body_bytes, expires));
    }

    /// What is paged from now on stands behind something else.
    pub(super) fn end_stretch(&mut self, level: u8) {
        if self.level(level).is_some() {
            self.change(level, Ready::end_stretch);
        }
    }

    /// Takes the message that leaves next.
    pub(super) fn pop(&mut self) -> Option<Entry<M>> {
        match self.highest_used() {
            0 => self.lowest.pop(),
            level => self.change(level, Ready::pop),
        }
    }

    /// Takes the first message of the lowest priority that there is.
    pub(super) fn pop_lowest(&mut self) -> Option<Entry<M>> {
        let level = self.lowest_used();
        self.change(level, Ready::pop)
    }

    /// The load that brings what [`pop_lowest`](Self::pop_lowest) takes next, unless one is under way.
    pub(super) fn next_load_of_lowest(&mut self, bytes: u64) -> Option<Load> {
        self.loads_of(self.lowest_used(), bytes)
    }

    pub(super) fn peek(&self) -> Option<Entry<&M>> {
        self.head().peek()
    }

    /// Whether the last message of a level is paged.
    pub(super) fn ends_paged(&self, level: u8) -> bool {
        self.level(level).is_some_and(Ready::ends_paged)
    }

    /// Whether there are messages on disk at the level from which messages leave.
    pub(super) fn is_paging(&self) -> bool {
        self.head().is_paging()
    }

    /// Whether the message that leaves next is paged.
    pub(super) fn is_head_paged(&self) -> bool {
        self.head().is_head_paged()
    }

    /// The next load to ask for, unless one is under way or there is more than `ahead_bytes` to hand out before. The levels together
    /// load no more ahead than one queue without levels would, but for a little each.
    pub(super) fn next_load(&mut self, ahead_bytes: u64) -> Option<Load> {
        let level = self.highest_used();
        if self.higher.is_none() {
            return self.loads_of(level, ahead_bytes);
        }
        let others_bytes = self.memory_bytes() - self.head().memory_bytes();
        let ahead_bytes = ahead_bytes.saturating_sub(others_bytes).max(LEVEL_LOAD_BYTES_MIN);
        self.loads_of(level, ahead_bytes)
    }

    /// Takes in what a load brought. False if nobody waits for it any more.
    pub(super) fn loaded(&mut self, load: Load, loaded: Loaded<M>) -> bool {
        self.level(load.level).is_some() && self.change(load.level, |ready| ready.loaded(load, loaded))
    }

    /// The position before which nothing is paged.
    pub(super) fn first_paged(&self) -> Option<Position> {
        self.all().filter_map(Ready::first_paged).min()
    }

    /// Before this there is nothing to do about what expires, in milliseconds since 1970.
    pub(super) fn expires(&self) -> u64 {
        match self.searching {
            Some(_) => self.first_expiry(),
            None => self.first_expiry().min(self.search_at()),
        }
    }

    /// The search to ask for, if something that is paged has expired and none is under way.
    pub(super) fn next_search(&mut self, now_millis: u64) -> Option<Search> {
        if self.searching.is_some() || self.search_at() > now_millis {
            return None;
        }
        let ranges: Vec<_> = self.all_mut().filter_map(Ready::begin_search).collect();
        self.searching = Some(Search {
            from: ranges.iter().map(|(from, _)| *from).min()?,
            until: ranges.iter().map(|(_, until)| *until).max()?,
            now_millis,
        });
        self.searching
    }

    /// Whether this search was asked for and nothing has made it useless.
    pub(super) fn waits_for(&self, search: &Search) -> bool {
        self.searching.as_ref() == Some(search)
    }

    /// Takes in the answer to a search: the messages that were still paged, and whether the search need not be repeated.
    pub(super) fn found(&mut self, found: Found<M>) -> (Vec<(Position, M)>, bool) {
        let Found {
            search,
            mut messages,
            next_millis,
        } = found;
        if !self.waits_for(&search) {
            return (Vec::new(), false);
        }
        self.searching = None;
        let mut is_complete = true;
        for ready in self.all_mut() {
            is_complete &= ready.end_search(search.now_millis, next_millis);
        }
        messages.retain(|(position, message)| {
            let level = self.level_of(message);
            self.change(level, |ready| ready.lose(*position, message.body_len()))
        });
        (messages, is_complete)
    }

    fn first_expiry(&self) -> u64 {
        self.all().map(Ready::first_expiry).min().unwrap_or(u64::MAX)
    }

    fn search_at(&self) -> u64 {
        self.all().map(Ready::search_at).min().unwrap_or(u64::MAX)
    }

    /// Takes a message whose time is over.
    pub(super) fn take_expired(&mut self, now_millis: u64) -> Option<Entry<Kept<M>>> {
        let entry = self.lowest.take_expired(now_millis);
        if entry.is_some() || self.higher.is_none() {
            return entry;
        }
        let first = self.first_expiry();
        let level = (1..=self.max_priority).find(|level| {
            let ready = self.level(*level);
            ready.is_some_and(|ready| ready.first_expiry() == first)
        })?;
        self.change(level, |ready| ready.take_expired(now_millis))
    }

    /// Gives memory back after a burst; cheap when there is nothing to give.
    pub(super) fn release_spare_memory(&mut self) {
        self.lowest.release_spare_memory();
        if self.higher.as_ref().is_some_and(|higher| higher.used == [0; 4]) {
            self.higher = None;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head().is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.lowest.len() + self.sums().len
    }

    /// How many are in the store only.
    pub(super) fn paged_len(&self) -> usize {
        self.lowest.paged_len() + self.sums().paged
    }

    /// What is in the store only.
    pub(super) fn paged(&self) -> Amount {
        self.all().map(Ready::paged).fold(Amount::default(), Amount::plus)
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.lowest.body_bytes() + self.sums().body_bytes
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.lowest.memory_bytes() + self.sums().memory_bytes
    }

    #[cfg(test)]
    pub(super) fn waits_for_load(&self, level: u8, load: Load) -> bool {
        self.level(level).is_some_and(|ready| ready.waits_for_load(load))
    }

    #[cfg(test)]
    pub(super) fn paged_ranges(&self) -> Vec<(u8, std::ops::Range<u64>)> {
        let levels = (0..=self.max_priority).filter_map(|level| Some((level, self.level(level)?)));
        let ranges =
            levels.flat_map(|(level, ready)| ready.paged_ranges().into_iter().map(move |range| (level, range)));
        ranges.collect()
    }

    /// The highest level that has messages; the lowest if none has.
    fn highest_used(&self) -> u8 {
        self.higher.as_ref().map_or(0, |higher| higher.highest_used())
    }

    /// The lowest level that has messages.
    fn lowest_used(&self) -> u8 {
        match &self.higher {
            Some(higher) if self.lowest.is_empty() => higher.lowest_used(),
            _ => 0,
        }
    }

    /// The level from which messages leave.
    fn head(&self) -> &Ready<M> {
        self.level(self.highest_used()).unwrap_or(&self.lowest)
    }

    fn level(&self, level: u8) -> Option<&Ready<M>> {
        if level == 0 {
            return Some(&self.lowest);
        }
        self.higher.as_ref()?.levels.get(usize::from(level))?.as_deref()
    }

    fn all(&self) -> impl Iterator<Item = &Ready<M>> {
        let higher = self.higher.iter().flat_map(|higher| &higher.levels);
        std::iter::once(&self.lowest).chain(higher.filter_map(Option::as_deref))
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Ready<M>> {
        let higher = self.higher.iter_mut().flat_map(|higher| &mut higher.levels);
        std::iter::once(&mut self.lowest).chain(higher.filter_map(Option::as_deref_mut))
    }

    fn sums(&self) -> Sums {
        self.higher.as_ref().map(|higher| higher.sums).unwrap_or_default()
    }

    fn loads_of(&mut self, level: u8, ahead_bytes: u64) -> Option<Load> {
        let load = self.change(level, |ready| ready.next_load(ahead_bytes))?;
        let max_priority = self.max_priority;
        Some(Load {
            level,
            max_priority,
            ..load
        })
    }

    /// Does something to a level, which is there from now on.
    fn change<R>(&mut self, level: u8, change: impl FnOnce(&mut Ready<M>) -> R) -> R {
        if level == 0 {
            return change(&mut self.lowest);
        }
        self.higher.get_or_insert_with(Box::default).change(level, change)
    }
}

impl<M> Default for Higher<M> {
    fn default() -> Self {
        Self {
            used: [0; 4],
            levels: Vec::new(),
            sums: Sums::default(),
        }
    }
}

impl<M: QueueMessage> Higher<M> {
    fn highest_used(&self) -> u8 {
        let word = self.used.iter().rposition(|word| *word != 0);
        // A word has 64 bits and there are four, so the number fits.
        word.map_or(0, |word| (word as u32 * 64 + self.used[word].ilog2()) as u8)
    }

    fn lowest_used(&self) -> u8 {
        let word = self.used.iter().position(|word| *word != 0);
        word.map_or(0, |word| (word as u32 * 64 + self.used[word].trailing_zeros()) as u8)
    }

    fn change<R>(&mut self, level: u8, change: impl FnOnce(&mut Ready<M>) -> R) -> R {
        let index = usize::from(level);
        if self.levels.len() <= index {
            self.levels.resize_with(index + 1, || None);
        }
        let ready = self.levels[index].get_or_insert_with(|| Box::new(Ready::new()));
        let before = Sums::of(ready);
        let result = change(ready);
        ready.release_spare_memory();
        let (after, bit) = (Sums::of(ready), 1 << (level % 64));
        if ready.is_empty() {
            self.used[index / 64] &= !bit;
        } else {
            self.used[index / 64] |= bit;
        }
        self.sums.len = self.sums.len + after.len - before.len;
        self.sums.paged = self.sums.paged + after.paged - before.paged;
        self.sums.body_bytes = self.sums.body_bytes + after.body_bytes - before.body_bytes;
        self.sums.memory_bytes = self.sums.memory_bytes + after.memory_bytes - before.memory_bytes;
        result
    }
}

impl Sums {
    fn of<M: QueueMessage>(ready: &Ready<M>) -> Sums {
        Sums {
            len: ready.len(),
            paged: ready.paged_len(),
            body_bytes: ready.body_bytes(),
            memory_bytes: ready.memory_bytes(),
        }
    }
}
