//! What is in the virtual hosts that a file names, with what the file adds, looked at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use amq_protocol::types::FieldTable;
use leveret_routing::Destination;

use super::document::BindingDefinition;
use super::export::is_predeclared;
use super::import::ImportError;
use crate::broker::Broker;
use crate::json::table_json;
use crate::vhost::Vhost;

/// What tells bindings of one virtual host apart, arguments as JSON shows them.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct BindingIdentity {
    source: String,
    destination: String,
    to_queue: bool,
    routing_key: String,
    arguments: String,
}

impl BindingIdentity {
    pub(super) fn of(binding: &BindingDefinition, arguments: &FieldTable) -> BindingIdentity {
        BindingIdentity {
            source: binding.source.clone(),
            destination: binding.destination.clone(),
            to_queue: binding.destination_type == "queue",
            routing_key: binding.routing_key.clone(),
            arguments: table_json(arguments).to_string(),
        }
    }
}

/// What is in the virtual hosts that the file names, with what it adds, looked at once.
pub(super) struct Snapshots<'a> {
    broker: &'a Broker,
    known: &'a HashSet<String>,
    vhosts: HashMap<String, Snapshot>,
}

pub(super) struct Snapshot {
    pub name: String,
    /// None when the file makes it.
    pub vhost: Option<Arc<Vhost>>,
    pub exchanges: HashSet<String>,
    pub queues: HashSet<String>,
    pub bindings: HashSet<BindingIdentity>,
}

impl<'a> Snapshots<'a> {
    pub(super) fn new(broker: &'a Broker, known: &'a HashSet<String>) -> Snapshots<'a> {
        Snapshots {
            broker,
            known,
            vhosts: HashMap::new(),
        }
    }

    pub(super) fn of(&mut self, vhost: Option<&str>, what: &str, name: &str) -> Result<&mut Snapshot, ImportError> {
        let missing = |reason: &str| ImportError::object(format!("{what} '{name}'"), reason);
        let vhost = vhost.ok_or_else(|| missing("it names no virtual host"))?;
        if !self.known.contains(vhost) {
            return Err(missing(&format!("virtual host '{vhost}' does not exist")));
        }
        if !self.vhosts.contains_key(vhost) {
            self.vhosts.insert(vhost.to_owned(), Snapshot::take(self.broker, vhost));
        }
        self.vhosts
            .get_mut(vhost)
            .ok_or_else(|| missing("its virtual host does not exist"))
    }
}

impl Snapshot {
    fn take(broker: &Broker, name: &str) -> Snapshot {
        let mut snapshot = Snapshot {
            name: name.to_owned(),
            vhost: broker.vhost(name),
            exchanges: HashSet::new(),
            queues: HashSet::new(),
            bindings: HashSet::new(),
        };
        let Some(vhost) = &snapshot.vhost else { return snapshot };
        snapshot.exchanges = vhost.exchanges().into_iter().map(|(name, _)| name).collect();
        let queues = vhost.queues();
        let names: HashMap<u32, String> = queues
            .iter()
            .map(|queue| (queue.index, queue.name.to_string()))
            .collect();
        snapshot.bindings = vhost
            .bindings()
            .iter()
            .filter_map(|binding| existing(binding, &names))
            .collect();
        snapshot.queues = names.into_values().collect();
        snapshot
    }

    pub(super) fn has_exchange(&self, name: &str) -> bool {
        is_predeclared(name) || self.exchanges.contains(name)
    }
}

fn existing(binding: &leveret_routing::Binding<u32>, names: &HashMap<u32, String>) -> Option<BindingIdentity> {
    let (destination, to_queue) = match &binding.destination {
        Destination::Exchange(name) => (name.to_string(), false),
        Destination::Queue(index) => (names.get(index)?.clone(), true),
    };
    Some(BindingIdentity {
        source: binding.source.to_string(),
        destination,
        to_queue,
        routing_key: binding.routing_key.to_string(),
        arguments: table_json(&binding.arguments).to_string(),
    })
}
