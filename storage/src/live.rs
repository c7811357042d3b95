//! Which messages of a chunk are alive, in as little memory as their pattern allows.

use crate::varint;

/// The live messages of a chunk, by their distance from the chunk's first position.
///
/// Queues are mostly settled in order, so the usual form is two numbers. What is settled out of order costs a bit per position,
/// and the few survivors of a wide chunk cost four bytes each.
///
/// A store may have a million of these, of which nearly all are ranges: the other forms are boxed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveSet(Shape);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    None,
    /// All from the first to the second, both included.
    Range(u32, u32),
    Bits(Box<Bits>),
    /// Ascending.
    #[expect(clippy::box_collection, reason = "as said above")]
    List(Box<Vec<u32>>),
}

/// One bit per distance.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bits {
    words: Vec<u64>,
    /// How many of them are set.
    count: u32,
}

impl LiveSet {
    /// One live message, the first of a chunk.
    pub(crate) fn first() -> Self {
        Self(Shape::Range(0, 0))
    }

    /// Adds a message behind all that were ever added.
    pub(crate) fn push(&mut self, distance: u32) {
        match &mut self.0 {
            Shape::None => self.0 = Shape::Range(distance, distance),
            Shape::Range(_, last) if *last + 1 == distance => *last = distance,
            Shape::Bits(bits) if fits_bits(distance, bits.count) => bits.set(distance),
            Shape::List(list) => list.push(distance),
            Shape::Range(..) | Shape::Bits(_) => self.0 = shape_of(self.iter().chain([distance]).collect()),
        }
    }

    /// Removes a message. False if it was not alive.
    pub(crate) fn remove(&mut self, distance: u32) -> bool {
        if !self.contains(distance) {
            return false;
        }
        let is_last = self.count() == 1;
        match &mut self.0 {
            Shape::None => {}
            _ if is_last => self.0 = Shape::None,
            Shape::Range(first, _) if *first == distance => *first += 1,
            Shape::Range(_, last) if *last == distance => *last -= 1,
            Shape::Range(..) => self.0 = shape_of(self.iter().filter(|&alive| alive != distance).collect()),
            Shape::Bits(bits) => bits.unset(distance),
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
        if distances.len() != self.count() as usize {
            *self = Self::from_sorted(distances);
        }
    }

    pub(crate) fn contains(&self, distance: u32) -> bool {
        match &self.0 {
            Shape::None => false,
            Shape::Range(first, last) => (*first..=*last).contains(&distance),
            Shape::Bits(bits) => bits.contains(distance),
            Shape::List(list) => list.binary_search(&distance).is_ok(),
        }
    }

    /// How many are alive.
    pub(crate) fn count(&self) -> u32 {
        match &self.0 {
            Shape::None => 0,
            // Nothing stands at the highest distance in a chunk of all distances: no chunk is that wide.
            Shape::Range(first, last) => (last - first).saturating_add(1),
            Shape::Bits(bits) => bits.count,
            Shape::List(list) => u32::try_from(list.len()).unwrap_or(u32::MAX),
        }
    }

    /// The highest live one.
    pub(crate) fn last(&self) -> Option<u32> {
        match &self.0 {
            Shape::None => None,
            Shape::Range(_, last) => Some(*last),
            Shape::Bits(bits) => bits.last(),
            Shape::List(list) => list.last().copied(),
        }
    }

    /// The live ones, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let (range, words, list): (_, &[u64], &[u32]) = match &self.0 {
            Shape::None => (None, &[], &[]),
            Shape::Range(first, last) => (Some(*first..=*last), &[], &[]),
            Shape::Bits(bits) => (None, &bits.words, &[]),
            Shape::List(list) => (None, &[], list),
        };
        let bits = words.iter().zip(0u32..).flat_map(|(&word, index)| bits_of(word, index));
        range.into_iter().flatten().chain(bits).chain(list.iter().copied())
    }

    /// Those from one distance to another, both included, by their distance from the first of the two.
    pub(crate) fn part(&self, from: u32, last: u32) -> Self {
        let shift = |alive: u32| alive - from;
        Self(match &self.0 {
            Shape::None => Shape::None,
            Shape::Range(start, end) => match ((*start).max(from), (*end).min(last)) {
                (start, end) if start <= end => Shape::Range(start - from, end - from),
                _ => Shape::None,
            },
            Shape::Bits(bits) => shape_of(bits.within(from, last).map(shift).collect()),
            Shape::List(list) => {
                let start = list.partition_point(|alive| *alive < from);
                let rest = list.iter().copied().skip(start).take_while(|alive| *alive <= last);
                shape_of(rest.map(shift).collect())
            }
        })
    }

    /// The highest one that is not above a distance.
    pub(crate) fn floor(&self, distance: u32) -> Option<u32> {
        match &self.0 {
            Shape::None => None,
            Shape::Range(first, last) => (*first <= distance).then_some(distance.min(*last)),
            Shape::Bits(bits) => bits.within(0, distance).last(),
            Shape::List(list) => list
                .get(..list.partition_point(|alive| *alive <= distance))?
                .last()
                .copied(),
        }
    }

    /// The set of these, which must ascend.
    pub(crate) fn from_sorted(distances: Vec<u32>) -> Self {
        Self(shape_of(distances))
    }

    /// Appends the stored form.
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Shape::None => out.extend([form::LIST, 0]),
            Shape::Range(first, last) => {
                out.push(form::RANGE);
                varint::write(u64::from(*first), out);
                varint::write(u64::from(*last), out);
            }
            Shape::Bits(bits) => {
                let words = &bits.words;
                out.push(form::BITS);
                varint::write(words.len() as u64, out);
                words.iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
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
        let shape = match *tag {
            form::RANGE => {
                let (first, last) = (varint::read_u32(&mut rest)?, varint::read_u32(&mut rest)?);
                last.checked_sub(first)?.checked_add(1)?;
                Shape::Range(first, last)
            }
            form::BITS => {
                let count = varint::read_u32(&mut rest)?;
                let (words, left) = rest.as_chunks::<8>();
                if words.len() != count as usize || !left.is_empty() {
                    return None;
                }
                rest = &[];
                Bits::shape(words.iter().map(|word| u64::from_be_bytes(*word)).collect())
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
                match list.is_empty() {
                    true => Shape::None,
                    false => Shape::List(Box::new(list)),
                }
            }
            _ => return None,
        };
        rest.is_empty().then_some(Self(shape))
    }
}

impl Bits {
    /// The set with these bits.
    fn shape(words: Vec<u64>) -> Shape {
        match words.iter().map(|word| word.count_ones()).sum() {
            0 => Shape::None,
            count => Shape::Bits(Box::new(Bits { words, count })),
        }
    }

    fn contains(&self, distance: u32) -> bool {
        let word = self.words.get(word_of(distance));
        word.is_some_and(|word| word >> (distance % 64) & 1 == 1)
    }

    /// Sets a bit that is not set.
    fn set(&mut self, distance: u32) {
        set_bit(&mut self.words, distance);
        self.count += 1;
    }

    /// Unsets a bit that is set.
    fn unset(&mut self, distance: u32) {
        if let Some(word) = self.words.get_mut(word_of(distance)) {
            *word &= !(1 << (distance % 64));
            self.count -= 1;
        }
    }

    /// Those from one distance to another, both included.
    fn within(&self, from: u32, last: u32) -> impl Iterator<Item = u32> {
        let words = self.words.iter().zip(0u32..).skip(word_of(from));
        let words = words.take_while(move |(_, index)| index * 64 <= last);
        let all = words.flat_map(|(&word, index)| bits_of(word, index));
        all.filter(move |distance| (from..=last).contains(distance))
    }

    fn last(&self) -> Option<u32> {
        let (index, word) = self.words.iter().enumerate().rfind(|(_, word)| **word != 0)?;
        Some(index as u32 * 64 + 63 - word.leading_zeros())
    }
}

/// The distances that a word of bits stands for.
fn bits_of(word: u64, index: u32) -> impl Iterator<Item = u32> {
    (0..64)
        .filter(move |bit| word >> bit & 1 == 1)
        .map(move |bit| index * 64 + bit)
}

/// The smallest form for these ascending distances.
fn shape_of(distances: Vec<u32>) -> Shape {
    let (Some(&first), Some(&last)) = (distances.first(), distances.last()) else {
        return Shape::None;
    };
    let count = u32::try_from(distances.len()).unwrap_or(u32::MAX);
    if last - first == count - 1 {
        return Shape::Range(first, last);
    }
    if !fits_bits(last, count) {
        return Shape::List(Box::new(distances));
    }
    let mut words = vec![0; word_of(last) + 1];
    distances.iter().for_each(|&distance| set_bit(&mut words, distance));
    Bits::shape(words)
}

/// Whether bits up to `last` take no more memory than a list of `count`.
fn fits_bits(last: u32, count: u32) -> bool {
    u64::from(last) <= 512 + 32 * u64::from(count)
}

fn set_bit(words: &mut Vec<u64>, distance: u32) {
    let word = word_of(distance);
    if words.len() <= word {
        words.resize(word + 1, 0);
    }
    if let Some(word) = words.get_mut(word) {
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
            for (from, last) in [(0, below), (below, last), (below / 2, below), (last, last)] {
                let part: BTreeSet<u32> = model.iter().filter(|at| (from..=last).contains(*at)).map(|at| at - from).collect();
                check(&set.part(from, last), &part);
                prop_assert_eq!(set.floor(from), model.range(..=from).next_back().copied());
            }
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
        assert_eq!(set.0, Shape::Range(500, 999));
    }

    #[test]
    fn few_survivors_of_a_wide_chunk_are_a_list() {
        let mut set = LiveSet::first();
        for distance in [1_000_000, 2_000_000, u32::MAX - 1] {
            set.push(distance);
        }
        assert!(matches!(&set.0, Shape::List(list) if list.len() == 4));
    }
}
