//! What a matcher finds: entries, one for each binding, that say where the message goes next.

/// Where a binding leads, with exchanges as ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target<Q> {
    Queue(Q),
    Exchange(u32),
}

/// One binding as its source's matcher keeps it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<Q> {
    pub(crate) target: Target<Q>,
    /// Id of the binding, so that the table can be told when the entry moves.
    pub(crate) binding: u32,
}

/// The entries under one key. Order means nothing.
///
/// Two bindings to one target are two entries (they may differ in their arguments): the route
/// buffer takes a queue once anyway.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "most keys have one entry; the box halves the list")]
pub(crate) enum EntryList<Q> {
    Empty,
    One(Entry<Q>),
    Many(Box<Vec<Entry<Q>>>),
}

impl<Q: Copy> EntryList<Q> {
    /// Adds an entry and says at which slot of the list it now is.
    pub(crate) fn push(&mut self, entry: Entry<Q>) -> u32 {
        match self {
            Self::Empty => *self = Self::One(entry),
            Self::One(first) => *self = Self::Many(Box::new(vec![*first, entry])),
            Self::Many(entries) => entries.push(entry),
        }
        self.as_slice().len() as u32 - 1
    }

    /// Removes the entry at a slot; the last one takes its place. Returns the binding that has
    /// moved into the slot, if one has.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<u32> {
        match self {
            Self::Empty => None,
            Self::One(_) => {
                *self = Self::Empty;
                None
            }
            Self::Many(entries) => {
                let slot = slot as usize;
                if slot < entries.len() {
                    entries.swap_remove(slot);
                }
                let moved = entries.get(slot).map(|entry| entry.binding);
                if let [only] = entries.as_slice() {
                    *self = Self::One(*only);
                }
                moved
            }
        }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[Entry<Q>] {
        match self {
            Self::Empty => &[],
            Self::One(entry) => std::slice::from_ref(entry),
            Self::Many(entries) => entries,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_entry_takes_the_place_of_a_removed_one() {
        let mut list = EntryList::Empty;
        let entry = |binding| Entry {
            target: Target::Queue(binding),
            binding,
        };
        assert_eq!([10, 11, 12].map(|b| list.push(entry(b))), [0, 1, 2]);
        assert_eq!(list.remove(0), Some(12));
        assert_eq!(list.remove(1), None);
        assert!(matches!(list, EntryList::One(Entry { binding: 12, .. })));
        assert_eq!(list.remove(0), None);
        assert!(list.is_empty());
        assert_eq!(list.remove(0), None);
    }
}
