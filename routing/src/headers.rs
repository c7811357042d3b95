//! Headers exchange: the message's headers match the binding's arguments.
//!
//! A binding is found through an **anchor**: a hash of one of its tests, under which a message
//! that may match has a header. A binding that wants all its tests met needs one anchor, and takes
//! the rarest; a binding content with any of them has one for each. A message is looked up by each
//! of its headers and only the bindings so found are checked, so the cost depends on the headers
//! of the message and on the bindings that share an anchor with it, not on all bindings.

use std::hash::{BuildHasher, Hash, Hasher};

use amq_protocol_types::{AMQPValue, FieldTable};
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::{
    arena::Arena,
    buffer::Found,
    entry::Entry,
    error::RoutingError,
    value::{hash_value, values_equal},
};

/// Name of the binding argument that says how the others are to match.
pub const X_MATCH: &str = "x-match";

/// How the arguments of a binding to a headers exchange match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MatchMode {
    /// Every argument must match; those starting with `x-` are ignored. Without arguments to
    /// check, every message matches.
    #[default]
    All,
    /// One argument must match; those starting with `x-` are ignored. Without arguments to check,
    /// no message matches.
    Any,
    /// As [`MatchMode::All`], with the arguments starting with `x-` (but for `x-match`).
    AllWithX,
    /// As [`MatchMode::Any`], with the arguments starting with `x-` (but for `x-match`).
    AnyWithX,
}

impl MatchMode {
    /// The mode the arguments of a binding ask for.
    ///
    /// # Errors
    /// [`RoutingError::UnknownMatchMode`] for an unknown word, [`RoutingError::MatchModeType`] if
    /// `x-match` is not a string.
    pub fn of(arguments: &FieldTable) -> Result<Self, RoutingError> {
        let value = match arguments.inner().get(X_MATCH) {
            None => return Ok(Self::All),
            Some(value) => value,
        };
        let AMQPValue::LongString(word) = value else {
            return Err(RoutingError::MatchModeType(value.clone()));
        };
        match word.as_bytes() {
            b"all" => Ok(Self::All),
            b"any" => Ok(Self::Any),
            b"all-with-x" => Ok(Self::AllWithX),
            b"any-with-x" => Ok(Self::AnyWithX),
            _ => Err(RoutingError::UnknownMatchMode(value.clone())),
        }
    }

    fn wants_all(self) -> bool {
        matches!(self, Self::All | Self::AllWithX)
    }

    fn checks(self, key: &str) -> bool {
        match self {
            Self::All | Self::Any => !key.starts_with("x-"),
            Self::AllWithX | Self::AnyWithX => key != X_MATCH,
        }
    }
}

/// The bindings of one headers exchange and the index over their anchors.
#[derive(Debug)]
pub(crate) struct HeadersMatcher<Q> {
    predicates: Arena<Predicate<Q>>,
    /// By anchor. Two tests with one hash share a list, which costs a check and nothing else.
    anchored: HashMap<u64, Vec<Anchored>, RandomState>,
    /// How many anchors ask for a header's presence whatever its value; without any, a message is
    /// not looked up that way.
    presence_anchors: usize,
    hasher: RandomState,
}

/// The arguments of one binding, ready to be checked.
#[derive(Debug)]
struct Predicate<Q> {
    entry: Entry<Q>,
    wants_all: bool,
    tests: Box<[Test]>,
    anchors: Box<[Anchor]>,
}

/// One argument: the header must be there and, unless the argument was void, have this value.
#[derive(Debug)]
struct Test {
    header: Box<str>,
    value: Option<AMQPValue>,
}

/// A hash under which a predicate can be found, and where in that hash's list it stands.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    hash: u64,
    position: u32,
    is_presence: bool,
}

/// An element of an anchor's list: a predicate, and which of its anchors this is.
#[derive(Clone, Copy, Debug)]
struct Anchored {
    predicate: u32,
    anchor: u32,
}

/// The anchor of predicates that match every message.
const EVERY_MESSAGE: u64 = 0;

impl<Q: Copy + Eq + Hash> HeadersMatcher<Q> {
    pub(crate) fn new() -> Self {
        Self {
            predicates: Arena::new(),
            anchored: HashMap::default(),
            presence_anchors: 0,
            hasher: RandomState::default(),
        }
    }

    pub(crate) fn insert(&mut self, arguments: &FieldTable, entry: Entry<Q>) -> Result<u32, RoutingError> {
        let mode = MatchMode::of(arguments)?;
        let tests: Box<[Test]> = arguments
            .into_iter()
            .filter(|(key, _)| mode.checks(key.as_str()))
            .map(|(key, value)| Test::new(key.as_str(), value))
            .collect();
        let mut anchors = self.anchors_for(mode, &tests);
        let id = self.predicates.next_id();
        for (index, anchor) in anchors.iter_mut().enumerate() {
            let list = self.anchored.entry(anchor.hash).or_default();
            anchor.position = list.len() as u32;
            list.push(Anchored {
                predicate: id,
                anchor: index as u32,
            });
            self.presence_anchors += usize::from(anchor.is_presence);
        }
        let wants_all = mode.wants_all();
        Ok(self.predicates.insert(Predicate {
            entry,
            wants_all,
            tests,
            anchors,
        }))
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        let mut index = 0;
        // The predicate stays until its last anchor is gone: removing one may move another.
        while let Some(anchor) = self.predicates.get(slot).and_then(|p| p.anchors.get(index)) {
            self.presence_anchors -= usize::from(anchor.is_presence);
            self.remove_anchor(*anchor);
            index += 1;
        }
        self.predicates.remove(slot);
    }

    pub(crate) fn matches(&self, headers: Option<&FieldTable>, found: &mut Found<Q>) {
        self.check_anchored(EVERY_MESSAGE, headers, found);
        for (header, value) in headers.into_iter().flatten() {
            let header = header.as_str();
            self.check_anchored(self.value_hash(header, value), headers, found);
            if self.presence_anchors > 0 {
                self.check_anchored(self.presence_hash(header), headers, found);
            }
        }
    }

    fn check_anchored(&self, hash: u64, headers: Option<&FieldTable>, found: &mut Found<Q>) {
        for anchored in self.anchored.get(&hash).into_iter().flatten() {
            if let Some(predicate) = self.predicates.get(anchored.predicate)
                && predicate.matches(headers)
            {
                found.reach(std::slice::from_ref(&predicate.entry));
            }
        }
    }

    fn anchors_for(&self, mode: MatchMode, tests: &[Test]) -> Box<[Anchor]> {
        let anchors = tests.iter().map(|test| match &test.value {
            Some(value) => Anchor::new(self.value_hash(&test.header, value), false),
            None => Anchor::new(self.presence_hash(&test.header), true),
        });
        if !mode.wants_all() {
            return anchors.collect();
        }
        let list_len = |anchor: &Anchor| self.anchored.get(&anchor.hash).map_or(0, Vec::len);
        let rarest = anchors.min_by_key(|anchor| (anchor.is_presence, list_len(anchor)));
        [rarest.unwrap_or(Anchor::new(EVERY_MESSAGE, false))].into()
    }

    fn remove_anchor(&mut self, removed: Anchor) {
        let Some(list) = self.anchored.get_mut(&removed.hash) else {
            return;
        };
        let position = removed.position as usize;
        if position < list.len() {
            list.swap_remove(position);
        }
        if let Some(moved) = list.get(position)
            && let Some(predicate) = self.predicates.get_mut(moved.predicate)
            && let Some(anchor) = predicate.anchors.get_mut(moved.anchor as usize)
        {
            anchor.position = removed.position;
        }
        if list.is_empty() {
            self.anchored.remove(&removed.hash);
        }
    }

    fn value_hash(&self, header: &str, value: &AMQPValue) -> u64 {
        let mut state = self.hasher.build_hasher();
        header.hash(&mut state);
        hash_value(value, &mut state);
        state.finish()
    }

    fn presence_hash(&self, header: &str) -> u64 {
        self.hasher.hash_one(header)
    }
}

impl<Q> Predicate<Q> {
    fn matches(&self, headers: Option<&FieldTable>) -> bool {
        let Some(headers) = headers else {
            return self.wants_all && self.tests.is_empty();
        };
        if self.wants_all {
            self.tests.iter().all(|test| test.matches(headers))
        } else {
            self.tests.iter().any(|test| test.matches(headers))
        }
    }
}

impl Test {
    fn new(header: &str, value: &AMQPValue) -> Self {
        let value = (*value != AMQPValue::Void).then(|| value.clone());
        Self {
            header: header.into(),
            value,
        }
    }

    fn matches(&self, headers: &FieldTable) -> bool {
        let Some(actual) = headers.inner().get(&*self.header) else {
            return false;
        };
        self.value.as_ref().is_none_or(|wanted| values_equal(wanted, actual))
    }
}

impl Anchor {
    fn new(hash: u64, is_presence: bool) -> Self {
        Self {
            hash,
            position: 0,
            is_presence,
        }
    }
}
