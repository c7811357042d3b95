//! The closed set of exchange kinds, each with its index over the bindings of one exchange.

use std::{fmt::Debug, hash::Hash};

use amq_protocol_types::FieldTable;

use crate::{
    buffer::{Found, MessageHeaders},
    direct::DirectMatcher,
    entry::Entry,
    error::RoutingError,
    exchange::ExchangeKind,
    fanout::FanoutMatcher,
    headers::HeadersMatcher,
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
}

impl<Q: Copy + Eq + Hash + Debug> Matcher<Q> {
    pub(crate) fn new(kind: ExchangeKind) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(DirectMatcher::new()),
            ExchangeKind::Fanout => Self::Fanout(FanoutMatcher::new()),
            ExchangeKind::Topic => Self::Topic(TopicTrie::new()),
            ExchangeKind::Headers => Self::Headers(HeadersMatcher::new()),
        }
    }

    /// Adds an entry and returns its slot. An error leaves the matcher as it was.
    pub(crate) fn insert(
        &mut self,
        routing_key: &str,
        arguments: &FieldTable,
        entry: Entry<Q>,
    ) -> Result<u32, RoutingError> {
        match self {
            Self::Direct(direct) => Ok(direct.insert(routing_key, entry)),
            Self::Fanout(fanout) => Ok(fanout.insert(entry)),
            Self::Topic(topic) => Ok(topic.insert(routing_key, entry)),
            Self::Headers(headers) => headers.insert(arguments, entry),
        }
    }

    pub(crate) fn remove(&mut self, routing_key: &str, slot: u32) -> Option<u32> {
        match self {
            Self::Direct(direct) => direct.remove(routing_key, slot),
            Self::Fanout(fanout) => fanout.remove(slot),
            Self::Topic(topic) => topic.remove(routing_key, slot),
            Self::Headers(headers) => {
                headers.remove(slot);
                None
            }
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
            Self::Headers(matcher) => matcher.matches(headers.field_table(), found),
        }
    }
}
