//! Values under small ids that stay the same until the value is removed.

/// A vector with holes: ids of removed values are given out again, the last freed first.
///
/// Ids are 32 bits wide; memory ends long before they do.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Arena<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// The id the next [`Arena::insert`] will give.
    pub(crate) fn next_id(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.slots.len() as u32)
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let id = self.next_id();
        match self.free.pop().and_then(|id| self.slots.get_mut(id as usize)) {
            Some(slot) => *slot = Some(value),
            None => self.slots.push(Some(value)),
        }
        id
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let value = self.slots.get_mut(id as usize)?.take()?;
        self.free.push(id);
        Some(value)
    }

    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.slots.get(id as usize)?.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.slots.get_mut(id as usize)?.as_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Every value, in the order of ids.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_ids_are_given_out_again() {
        let mut arena = Arena::new();
        assert_eq!((arena.insert('a'), arena.insert('b')), (0, 1));
        assert_eq!(arena.remove(0), Some('a'));
        assert_eq!(arena.remove(0), None);
        assert_eq!(arena.get(0), None);
        assert_eq!(arena.next_id(), 0);
        assert_eq!(arena.insert('c'), 0);
        assert_eq!(arena.insert('d'), 2);
        assert_eq!(arena.len(), 3);
        assert_eq!(arena.values().collect::<String>(), "cbd");
    }
}
