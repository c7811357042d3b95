//! Adding and removing bindings, and keeping every list that knows them in step.

use std::{
    fmt::Debug,
    hash::{Hash, Hasher},
    sync::Arc,
};

use amq_protocol_types::FieldTable;

use super::{DEFAULT_EXCHANGE, RoutingTable};
use crate::{
    binding::{Binding, BindingRecord, Destination, Identity, Removed},
    entry::{Entry, Target},
    error::RoutingError,
    exchange::ExchangeKind,
    stable_hash::StableHasher,
};

impl<Q: Copy + Eq + Hash + Ord + Debug> RoutingTable<Q> {
    /// Binds a queue or an exchange to the exchange `source`. Returns whether the binding is new;
    /// source, destination, key and arguments together tell one binding from another.
    ///
    /// # Errors
    /// [`RoutingError::DefaultExchange`] if either end is the default exchange,
    /// [`RoutingError::NotFound`] for the source or, if that exists, for a destination exchange,
    /// [`RoutingError::UnknownMatchMode`] and [`RoutingError::MatchModeType`] from a headers
    /// exchange.
    pub fn bind(
        &mut self,
        source: &str,
        destination: Destination<Q, &str>,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<bool, RoutingError> {
        if source == DEFAULT_EXCHANGE || destination == Destination::Exchange(DEFAULT_EXCHANGE) {
            return Err(RoutingError::DefaultExchange);
        }
        let source = self.existing_exchange_id(source)?;
        let target = match destination {
            Destination::Queue(queue) => Target::Queue(queue),
            Destination::Exchange(name) => Target::Exchange(self.existing_exchange_id(name)?),
        };
        let identity = Identity {
            source,
            target,
            routing_key,
            arguments,
        };
        let hash = identity.hash(&self.hasher);
        if self.find_binding(&identity, hash).is_some() {
            return Ok(false);
        }
        self.insert_binding(&identity, hash)?;
        Ok(true)
    }

    /// Removes a binding, and its source if that is auto-delete and this was its last binding.
    /// Removing a binding that does not exist, between whatever ends, succeeds and removes nothing.
    pub fn unbind(
        &mut self,
        source: &str,
        destination: Destination<Q, &str>,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Removed<Q> {
        let mut removed = Removed::default();
        if let Some(id) = self.binding_between(source, destination, routing_key, arguments) {
            let mut emptied = Vec::new();
            self.remove_binding(id, &mut removed, &mut emptied);
            self.remove_exchanges(emptied, &mut removed);
        }
        removed
    }

    /// Is there such a binding?
    #[must_use]
    pub fn has_binding(
        &self,
        source: &str,
        destination: Destination<Q, &str>,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> bool {
        self.binding_between(source, destination, routing_key, arguments)
            .is_some()
    }

    fn binding_between(
        &self,
        source: &str,
        destination: Destination<Q, &str>,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Option<u32> {
        let target = match destination {
            Destination::Queue(queue) => Target::Queue(queue),
            Destination::Exchange(name) => Target::Exchange(self.exchange_id(name)?),
        };
        let identity = Identity {
            source: self.exchange_id(source)?,
            target,
            routing_key,
            arguments,
        };
        self.find_binding(&identity, identity.hash(&self.hasher))
    }

    fn find_binding(&self, identity: &Identity<'_, Q>, hash: u64) -> Option<u32> {
        let is_it = |id: &u32| self.bindings.get(*id).is_some_and(|record| identity.is_of(record));
        self.identities.find(hash, is_it).copied()
    }

    fn insert_binding(&mut self, identity: &Identity<'_, Q>, hash: u64) -> Result<(), RoutingError> {
        let Identity {
            source,
            target,
            routing_key,
            arguments,
        } = *identity;
        let destination = self.target_name(target);
        let Some(exchange) = self.exchanges.get_mut(source) else {
            return Ok(());
        };
        if exchange.options.routing_kind() == ExchangeKind::LocalRandom && matches!(target, Target::Exchange(_)) {
            return Err(RoutingError::DestinationNotQueue);
        }
        let id = self.bindings.next_id();
        let entry = Entry { target, binding: id };
        let destination = || hash_of_destination(target, destination.as_deref());
        let slot = exchange.matcher.insert(routing_key, arguments, entry, destination)?;
        let source_position = exchange.bindings_from.len() as u32;
        exchange.bindings_from.push(id);
        let target_position = match target {
            Target::Queue(queue) => push(&mut self.queues.entry(queue).or_default().bindings, id),
            Target::Exchange(to) => self.exchanges.get_mut(to).map_or(0, |to| push(&mut to.bindings_to, id)),
        };
        let arguments = if arguments.inner().is_empty() {
            Arc::clone(&self.no_arguments)
        } else {
            Arc::new(arguments.clone())
        };
        let routing_key = routing_key.into();
        self.bindings.insert(BindingRecord {
            source,
            target,
            routing_key,
            arguments,
            hash,
            slot,
            source_position,
            target_position,
        });
        let bindings = &self.bindings;
        self.identities
            .insert_unique(hash, id, |id| bindings.get(*id).map_or(0, |record| record.hash));
        Ok(())
    }

    /// Takes a binding out of every list, in constant time but for the path of a topic key. Its
    /// source goes on the list of the emptied if it is auto-delete and has no binding left.
    pub(super) fn remove_binding(&mut self, id: u32, removed: &mut Removed<Q>, emptied: &mut Vec<u32>) {
        let Some(record) = self.bindings.remove(id) else {
            return;
        };
        if let Ok(identity) = self.identities.find_entry(record.hash, |other| *other == id) {
            identity.remove();
        }
        if let Some(binding) = self.describe(&record) {
            removed.bindings.push(binding);
        }
        if let Some(source) = self.exchanges.get_mut(record.source) {
            let moved = source.matcher.remove(&record.routing_key, record.slot);
            if let Some(moved) = moved.and_then(|moved| self.bindings.get_mut(moved)) {
                moved.slot = record.slot;
            }
            let moved = take(&mut source.bindings_from, record.source_position);
            if let Some(moved) = moved.and_then(|moved| self.bindings.get_mut(moved)) {
                moved.source_position = record.source_position;
            }
            if source.options.auto_delete && source.bindings_from.is_empty() {
                emptied.push(record.source);
            }
        }
        self.remove_from_target(&record);
    }

    fn remove_from_target(&mut self, record: &BindingRecord<Q>) {
        let moved = match record.target {
            Target::Exchange(id) => {
                let Some(exchange) = self.exchanges.get_mut(id) else {
                    return;
                };
                take(&mut exchange.bindings_to, record.target_position)
            }
            Target::Queue(queue) => {
                let Some(known) = self.queues.get_mut(&queue) else {
                    return;
                };
                let moved = take(&mut known.bindings, record.target_position);
                if known.bindings.is_empty() && known.name.is_none() {
                    self.queues.remove(&queue);
                }
                moved
            }
        };
        if let Some(moved) = moved.and_then(|moved| self.bindings.get_mut(moved)) {
            moved.target_position = record.target_position;
        }
    }

    /// The name of a destination; none for a queue that was bound and never added by name.
    fn target_name(&self, target: Target<Q>) -> Option<Arc<str>> {
        match target {
            Target::Queue(queue) => self.queues.get(&queue)?.name.clone(),
            Target::Exchange(id) => self.exchanges.get(id).map(|exchange| Arc::clone(&exchange.name)),
        }
    }

    /// The binding with names for ids, of which it shares the memory.
    pub(super) fn describe(&self, record: &BindingRecord<Q>) -> Option<Binding<Q>> {
        let name = |id| self.exchanges.get(id).map(|exchange| Arc::clone(&exchange.name));
        Some(Binding {
            source: name(record.source)?,
            destination: match record.target {
                Target::Queue(queue) => Destination::Queue(queue),
                Target::Exchange(id) => Destination::Exchange(name(id)?),
            },
            routing_key: Arc::clone(&record.routing_key),
            arguments: Arc::clone(&record.arguments),
        })
    }
}

/// What tells destinations apart for ever: kind and name. A queue without name is known by its id.
fn hash_of_destination<Q: Debug>(target: Target<Q>, name: Option<&str>) -> u64 {
    let mut hasher = StableHasher::new();
    hasher.write(match target {
        Target::Queue(_) => b"queue ",
        Target::Exchange(_) => b"exchange ",
    });
    match (name, &target) {
        (Some(name), _) => hasher.write(name.as_bytes()),
        (None, target) => hasher.write(format!("{target:?}").as_bytes()),
    }
    hasher.finish()
}

/// Appends an id and says where it stands.
fn push(ids: &mut Vec<u32>, id: u32) -> u32 {
    ids.push(id);
    ids.len() as u32 - 1
}

/// Removes the id at a position, into which the last one moves; returns that one.
fn take(ids: &mut Vec<u32>, position: u32) -> Option<u32> {
    let position = position as usize;
    if position < ids.len() {
        ids.swap_remove(position);
    }
    ids.get(position).copied()
}
