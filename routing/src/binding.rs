//! Bindings: their identity, how they are listed, and what goes when something is removed.

use std::{hash::BuildHasher, hash::Hash, hash::Hasher, sync::Arc};

use amq_protocol_types::FieldTable;
use foldhash::fast::RandomState;

use crate::{
    entry::Target,
    exchange::ExchangeOptions,
    value::{hash_table, same_table},
};

/// Where a binding leads: to a queue by its id, or to an exchange by its name (`N` is `&str` in
/// calls and `Arc<str>` in answers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination<Q, N> {
    /// A queue.
    Queue(Q),
    /// An exchange, to which the message goes on with the same routing key and headers.
    Exchange(N),
}

/// A binding as listings and [`Removed`] show it.
///
/// All four fields together are its identity: two bindings that differ in one of them, be it the
/// type of one argument, are two.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding<Q> {
    /// Name of the exchange the message comes from.
    pub source: Arc<str>,
    /// Where the message goes.
    pub destination: Destination<Q, Arc<str>>,
    /// The binding key.
    pub routing_key: Arc<str>,
    /// The binding's arguments.
    pub arguments: Arc<FieldTable>,
}

/// Everything that vanished with one removal, so that stored definitions can follow.
///
/// An auto-delete exchange that loses its last source binding goes too, with its own bindings,
/// and so on in turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Removed<Q> {
    /// Exchanges, the one that was asked for first.
    pub exchanges: Vec<RemovedExchange>,
    /// Bindings; those of removed exchanges are among them, at either end.
    pub bindings: Vec<Binding<Q>>,
}

impl<Q> Removed<Q> {
    /// Whether there was nothing to remove.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exchanges.is_empty() && self.bindings.is_empty()
    }
}

impl<Q> Default for Removed<Q> {
    fn default() -> Self {
        Self {
            exchanges: Vec::new(),
            bindings: Vec::new(),
        }
    }
}

/// An exchange that is gone.
#[derive(Clone, Debug, PartialEq)]
pub struct RemovedExchange {
    /// The name it had.
    pub name: Arc<str>,
    /// What it had been declared with.
    pub options: ExchangeOptions,
}

/// A binding as the table keeps it, with its places in the three lists that know it.
#[derive(Debug)]
pub(crate) struct BindingRecord<Q> {
    pub(crate) source: u32,
    pub(crate) target: Target<Q>,
    pub(crate) routing_key: Arc<str>,
    pub(crate) arguments: Arc<FieldTable>,
    /// Hash of the identity.
    pub(crate) hash: u64,
    /// Slot in the source's matcher.
    pub(crate) slot: u32,
    /// Position among the bindings that have the same source.
    pub(crate) source_position: u32,
    /// Position among the bindings that have the same destination.
    pub(crate) target_position: u32,
}

/// What tells a binding from another, before it is one.
#[derive(Clone, Copy)]
pub(crate) struct Identity<'a, Q> {
    pub(crate) source: u32,
    pub(crate) target: Target<Q>,
    pub(crate) routing_key: &'a str,
    pub(crate) arguments: &'a FieldTable,
}

impl<Q: Copy + Eq + Hash> Identity<'_, Q> {
    pub(crate) fn hash(&self, hasher: &RandomState) -> u64 {
        let mut state = hasher.build_hasher();
        self.source.hash(&mut state);
        self.target.hash(&mut state);
        self.routing_key.hash(&mut state);
        hash_table(self.arguments, &mut state);
        state.finish()
    }

    pub(crate) fn is_of(&self, record: &BindingRecord<Q>) -> bool {
        self.source == record.source
            && self.target == record.target
            && self.routing_key == &*record.routing_key
            && same_table(self.arguments, &record.arguments)
    }
}
