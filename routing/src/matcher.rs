//! The closed set of exchange kinds, each with its index over the bindings of one exchange.

use std::{fmt::Debug, hash::Hash};

use amq_protocol_types::FieldTable;

use crate::{
    buffer::{Found, MessageHeaders},
    consistent_hash::ConsistentHashMatcher,
    direct::DirectMatcher,
    entry::Entry,
    error::RoutingError,
    exchange::{ExchangeKind, ExchangeOptions},
    fanout::FanoutMatcher,
    headers::HeadersMatcher,
    modulus_hash::ModulusHashMatcher,
    random::{RandomMatcher, check_empty_key},
    topic::{Scratch, TopicTrie},
};

/// The bindings of one exchange, indexed as its kind needs it.
///
/// A matcher gives each entry a slot and gets it back on removal. When a removal moves another
/// entry into the freed slot, it returns that entry's binding.
#[derive(Debug)]
pub(crate) enum Matcher<Q> {
    Direct(DirectMatcher<Q>),
    Fanout(FanoutMatcher<Q>),
    Topic(TopicTrie<Q>),
    Headers(HeadersMatcher<Q>),
    ConsistentHash(ConsistentHashMatcher<Q>),
    ModulusHash(ModulusHashMatcher<Q>),
    Random(RandomMatcher<Q>),
    LocalRandom(RandomMatcher<Q>),
    RecentHistory(FanoutMatcher<Q>),
}

impl<Q: Copy + Eq + Hash + Debug> Matcher<Q> {
    pub(crate) fn new(options: &ExchangeOptions) -> Self {
        match options.routing_kind() {
            ExchangeKind::Direct | ExchangeKind::Delayed => Self::Direct(DirectMatcher::new()),
            ExchangeKind::Fanout | ExchangeKind::Deduplication => Self::Fanout(FanoutMatcher::new()),
            ExchangeKind::Topic => Self::Topic(TopicTrie::new()),
            ExchangeKind::Headers => Self::Headers(HeadersMatcher::new()),
            ExchangeKind::ConsistentHash => Self::ConsistentHash(ConsistentHashMatcher::new(options.hash_on.clone())),
            ExchangeKind::ModulusHash => Self::ModulusHash(ModulusHashMatcher::new()),
            ExchangeKind::Random => Self::Random(RandomMatcher::new()),
            ExchangeKind::LocalRandom => Self::LocalRandom(RandomMatcher::new()),
            ExchangeKind::RecentHistory => Self::RecentHistory(FanoutMatcher::new()),
        }
    }

    /// Adds an entry and returns its slot. An error leaves the matcher as it was.
    ///
    /// `destination` is the hash of the destination's name, asked for by the kinds that choose by it.
    pub(crate) fn insert(
        &mut self,
        routing_key: &str,
        arguments: &FieldTable,
        entry: Entry<Q>,
        destination: impl FnOnce() -> u64,
    ) -> Result<u32, RoutingError> {
        match self {
            Self::Direct(direct) => Ok(direct.insert(routing_key, entry)),
            Self::Fanout(fanout) | Self::RecentHistory(fanout) => Ok(fanout.insert(entry)),
            Self::Topic(topic) => Ok(topic.insert(routing_key, entry)),
            Self::Headers(headers) => headers.insert(arguments, entry),
            Self::ConsistentHash(hash) => hash.insert(routing_key, destination(), entry),
            Self::ModulusHash(hash) => Ok(hash.insert(destination(), entry)),
            Self::Random(random) => Ok(random.insert(entry)),
            Self::LocalRandom(random) => check_empty_key(routing_key).map(|()| random.insert(entry)),
        }
    }

    pub(crate) fn remove(&mut self, routing_key: &str, slot: u32) -> Option<u32> {
        match self {
            Self::Direct(direct) => direct.remove(routing_key, slot),
            Self::Fanout(fanout) | Self::RecentHistory(fanout) => fanout.remove(slot),
            Self::Topic(topic) => topic.remove(routing_key, slot),
            Self::Headers(headers) => {
                headers.remove(slot);
                None
            }
            Self::ConsistentHash(hash) => hash.remove(slot),
            Self::ModulusHash(hash) => hash.remove(slot),
            Self::Random(random) | Self::LocalRandom(random) => random.remove(slot),
        }
    }

    #[inline]
    pub(crate) fn matches(
        &self,
        routing_keys: &[&str],
        headers: &dyn MessageHeaders,
        scratch: &mut Scratch,
        found: &mut Found<Q>,
    ) {
        match self {
            Self::Direct(direct) => {
                for key in routing_keys {
                    direct.matches(key, found);
                }
            }
            Self::Fanout(fanout) => fanout.matches(found),
            Self::Topic(topic) => {
                for key in routing_keys {
                    topic.matches(key, scratch, found);
                }
            }
            Self::Headers(matcher) => {
                found.varies = true;
                matcher.matches(headers.field_table(), found);
            }
            Self::ConsistentHash(hash) => hash.matches(routing_keys, headers, found),
            Self::ModulusHash(hash) => hash.matches(routing_keys, found),
            Self::Random(random) | Self::LocalRandom(random) => random.matches(found),
            Self::RecentHistory(fanout) => {
                found.keeps_history = true;
                fanout.matches(found);
            }
        }
    }
}
