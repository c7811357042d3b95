//! Which messages of a chunk are alive, in as little memory as their pattern allows.

use crate::varint;

/// The live messages of a chunk, by their distance from the chunk's first position.
///
/// Queues are mostly settled in order, so the usual form is one number. What is settled out of order costs a bit per position,
/// and the few survivors of a wide chunk cost four bytes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveSet {
    shape: Shape,
    /// How many are alive.
    count: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// All from the first to the second, both included.
    Range(u32, u32),
    /// One bit per distance.
    #[expect(
        clippy::box_collection,
        reason = "a store may have a million chunks, of which nearly all are ranges"
    )]
    Bits(Box<Vec<u64>>),
    /// Ascending.
    #[expect(clippy::box_collection, reason = "as above")]
    List(Box<Vec<u32>>),
}

impl LiveSet {
    /// One live message, the first of a chunk.
    pub(crate) fn first() -> Self {
        Self {
            shape: Shape::Range(0, 0),
            count: 1,
        }
    }

    /// Adds a message behind all that were ever added.
    pub(crate) fn push(&mut self, distance: u32) {
        match &mut self.shape {
            _ if self.count == 0 => self.shape = Shape::Range(distance, distance),
            Shape::Range(_, last) if *last + 1 == distance => *last = distance,
            Shape::Bits(bits) if fits_bits(distance, self.count) => set_bit(bits, distance),
            Shape::List(list) => list.push(distance),
            Shape::Range(..) | Shape::Bits(_) => {
                let distances = self.iter().chain([distance]).collect();
                self.shape = shape_of(distances);
            }
        }
        self.count += 1;
    }

    /// Removes a message. False if it was not alive.
    pub(crate) fn remove(&mut self, distance: u32) -> bool {
        if !self.contains(distance) {
            return false;
        }
        self.count -= 1;
        match &mut self.shape {
            // The last one: any empty form will do.
            _ if self.count == 0 => self.shape = Shape::List(Box::default()),
            Shape::Range(first, _) if *first == distance => *first += 1,
            Shape::Range(_, last) if *last == distance => *last -= 1,
            Shape::Range(..) => {
                let distances = self.iter().filter(|&alive| alive != distance).collect();
                self.shape = shape_of(distances);
            }
            Shape::Bits(bits) => {
                if let Some(word) = bits.get_mut(word_of(distance)) {
                    *word &= !(1 << (distance % 64));
                }
            }
            Shape::List(list) => {
                if let Ok(at) = list.binary_search(&distance) {
                    list.remove(at);
                }
            }
        }
        true
    }

    /// Removes all below `distance` but those that `keep` asks for.
    pub(crate) fn remove_below(&mut self, distance: u32, keep: impl Fn(u32) -> bool) {
        let distances: Vec<u32> = self.iter().filter(|&alive| alive >= distance || keep(alive)).collect();
        if distances.len() != self.count as usize {
            *self = Self::from_sorted(distances);
        }
    }

    pub(crate) fn contains(&self, distance: u32) -> bool {
        match &self.shape {
            Shape::Range(first, last) => (*first..=*last).contains(&distance),
            Shape::Bits(bits) => bits
                .get(word_of(distance))
                .is_some_and(|word| word >> (distance % 64) & 1 == 1),
            Shape::List(list) => list.binary_search(&distance).is_ok(),
        }
    }

    /// How many are alive.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The highest live one.
    pub(crate) fn last(&self) -> Option<u32> {
        match &self.shape {
            Shape::Range(_, last) => Some(*last),
            Shape::Bits(bits) => {
                let (index, word) = bits.iter().enumerate().rfind(|(_, word)| **word != 0)?;
                Some(index as u32 * 64 + 63 - word.leading_zeros())
            }
            Shape::List(list) => list.last().copied(),
        }
    }

    /// The live ones, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let (range, bits, list): (_, &[u64], &[u32]) = match &self.shape {
            Shape::Range(first, last) => (Some(*first..=*last), &[], &[]),
            Shape::Bits(bits) => (None, bits, &[]),
            Shape::List(list) => (None, &[], list),
        };
        let bits = bits.iter().zip(0u32..).flat_map(|(&word, index)| {
            (0..64)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| index * 64 + bit)
        });
        range.into_iter().flatten().chain(bits).chain(list.iter().copied())
    }

    /// The set of these, which must ascend.
    pub(crate) fn from_sorted(distances: Vec<u32>) -> Self {
        let count = u32::try_from(distances.len()).unwrap_or(u32::MAX);
        Self {
            shape: shape_of(distances),
            count,
        }
    }

    /// Appends the stored form.
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        match &self.shape {
            Shape::Range(first, last) => {
                out.push(form::RANGE);
                varint::write(u64::from(*first), out);
                varint::write(u64::from(*last), out);
            }
            Shape::Bits(bits) => {
                out.push(form::BITS);
                varint::write(bits.len() as u64, out);
                bits.iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
            }
            Shape::List(list) => {
                out.push(form::LIST);
                varint::write(list.len() as u64, out);
                let mut previous = 0;
                for &distance in list.iter() {
                    varint::write(u64::from(distance - previous), out);
                    previous = distance;
                }
            }
        }
    }

    /// Reads the stored form, which takes all of `stored`. `None` if it is damaged.
    pub(crate) fn decode(stored: &[u8]) -> Option<Self> {
        let (tag, mut rest) = stored.split_first()?;
        let set = match *tag {
            form::RANGE => {
                let (first, last) = (varint::read_u32(&mut rest)?, varint::read_u32(&mut rest)?);
                let count = last.checked_sub(first)?.checked_add(1)?;
                Self {
                    shape: Shape::Range(first, last),
                    count,
                }
            }
            form::BITS => {
                let words = varint::read_u32(&mut rest)?;
                let (bytes, left) = rest.as_chunks::<8>();
                if bytes.len() != words as usize || !left.is_empty() {
                    return None;
                }
                rest = &[];
                let bits: Vec<u64> = bytes.iter().map(|word| u64::from_be_bytes(*word)).collect();
                let count = bits.iter().map(|word| word.count_ones()).sum();
                Self {
                    shape: Shape::Bits(Box::new(bits)),
                    count,
                }
            }
            form::LIST => {
                let count = varint::read_u32(&mut rest)?;
                let mut list: Vec<u32> = Vec::new();
                for index in 0..count {
                    let step = varint::read_u32(&mut rest)?;
                    if index > 0 && step == 0 {
                        return None;
                    }
                    list.push(list.last().copied().unwrap_or(0).checked_add(step)?);
                }
                Self {
                    shape: Shape::List(Box::new(list)),
                    count,
                }
            }
            _ => return None,
        };
        rest.is_empty().then_some(set)
    }
}

/// The smallest form for these ascending distances.
fn shape_of(distances: Vec<u32>) -> Shape {
    let (Some(&first), Some(&last)) = (distances.first(), distances.last()) else {
        return Shape::List(Box::new(distances));
    };
    let count = u32::try_from(distances.len()).unwrap_or(u32::MAX);
    if last - first == count - 1 {
        return Shape::Range(first, last);
    }
    if !fits_bits(last, count) {
        return Shape::List(Box::new(distances));
    }
    let mut bits = vec![0; word_of(last) + 1];
    distances.iter().for_each(|&distance| set_bit(&mut bits, distance));
    Shape::Bits(Box::new(bits))
}

/// Whether bits up to `last` take no more memory than a list of `count`.
fn fits_bits(last: u32, count: u32) -> bool {
    u64::from(last) <= 512 + 32 * u64::from(count)
}

fn set_bit(bits: &mut Vec<u64>, distance: u32) {
    let word = word_of(distance);
    if bits.len() <= word {
        bits.resize(word + 1, 0);
    }
    if let Some(word) = bits.get_mut(word) {
        *word |= 1 << (distance % 64);
    }
}

fn word_of(distance: u32) -> usize {
    distance as usize / 64
}

mod form {
    pub(super) const RANGE: u8 = 0;
    pub(super) const BITS: u8 = 1;
    pub(super) const LIST: u8 = 2;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn check(set: &LiveSet, model: &BTreeSet<u32>) {
        assert_eq!(set.count() as usize, model.len());
        assert!(set.iter().eq(model.iter().copied()), "{set:?} {model:?}");
        assert_eq!(set.last(), model.last().copied());
        let mut stored = Vec::new();
        set.encode_into(&mut stored);
        let read = LiveSet::decode(&stored).unwrap();
        assert!(read.iter().eq(model.iter().copied()));
        assert_eq!(read.count(), set.count());
    }

    proptest! {
        #[test]
        fn agrees_with_an_ordinary_set(
            steps in prop::collection::vec(prop_oneof![8 => 1u32..3, 1 => 1u32..5000], 0..300),
            removals in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..300),
            below in 0u32..3000,
        ) {
            let (mut set, mut model, mut last) = (LiveSet::first(), BTreeSet::from([0]), 0);
            let mut ever = vec![0];
            for step in steps {
                last += step;
                set.push(last);
                model.insert(last);
                ever.push(last);
            }
            check(&set, &model);
            for (index, in_order) in removals {
                let victim = match model.first() {
                    Some(&first) if in_order => first,
                    _ => *index.get(&ever),
                };
                prop_assert_eq!(set.remove(victim), model.remove(&victim));
                prop_assert!(!set.contains(victim));
            }
            check(&set, &model);
            set.push(last + 1);
            model.insert(last + 1);
            set.remove_below(below, |distance| distance % 7 == 0);
            model.retain(|&distance| distance >= below || distance % 7 == 0);
            check(&set, &model);
        }

        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(set) = LiveSet::decode(&bytes) && set.count() < 10_000 {
                prop_assert_eq!(set.iter().count(), set.count() as usize);
            }
        }
    }

    #[test]
    fn settling_in_order_costs_no_memory() {
        let mut set = LiveSet::first();
        (1..1000).for_each(|distance| set.push(distance));
        (0..500).for_each(|distance| assert!(set.remove(distance)));
        assert_eq!(set.shape, Shape::Range(500, 999));
    }

    #[test]
    fn few_survivors_of_a_wide_chunk_are_a_list() {
        let mut set = LiveSet::first();
        for distance in [1_000_000, 2_000_000, u32::MAX - 1] {
            set.push(distance);
        }
        assert!(matches!(&set.shape, Shape::List(list) if list.len() == 4));
    }
}
