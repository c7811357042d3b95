//! A virtual host: its exchanges, queues and bindings, and the operations on them.
//!
//! AMQP and every other door call the same operations; permission checks live here and nowhere else. An operation on
//! something durable returns the commit that makes it so: whoever reports success to a client waits for that first.
//!
//! Lock order: the topology, then one queue (see [`queue_handle`]). The routing of a publish is cached by its
//! connection under the topology's [`generation`](Vhost::generation), which every edit raises.

pub mod about;
pub mod alter;
pub mod bindings;
pub mod consumers;
pub mod dead_letters;
pub mod deadlines;
pub mod deduplication;
pub mod delay;
pub mod delayed;
pub mod delayed_messages;
pub mod delivery;
pub mod effects;
pub mod error;
pub mod exchanges;
pub mod firehose;
pub mod flow;
pub mod history;
pub mod paging;
pub mod policies;
pub mod queue_handle;
pub mod queue_moment;
pub mod queues;
pub mod recovery;
pub mod redeclare;
pub mod routes;
mod rules;
mod schedule;
pub mod traffic;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leveret_routing::{Binding, ExchangeKind, ExchangeOptions, RoutingTable};
use leveret_storage::{Store, Ticket};
use parking_lot::{Mutex, RwLock};
use slab::Slab;

pub use about::About;
pub use error::{OperationError, Resource};
use paging::Paging;
pub use queue_handle::QueueHandle;
use queue_handle::Services;
pub use queue_moment::QueueMoment;
use redeclare::RedeclareRule;

use crate::auth::TopicPermissions;
use crate::auth::permissions::{Operation, Permissions};
use crate::broker::ConnectionId;
use crate::limits::VhostLimits;
use crate::metrics::{Counters, Octets};
use crate::policy::Policies;
use crate::timer::Timer;

/// Who asks for an operation.
#[derive(Clone)]
pub struct Actor {
    /// The user's name, for texts.
    pub user: Arc<str>,
    /// What the user may do in this virtual host.
    pub permissions: Arc<Permissions>,
    /// What restricts its routing keys at topic exchanges.
    pub topics: Arc<TopicPermissions>,
    /// The connection, which owns its exclusive queues; none for management.
    pub connection: Option<ConnectionId>,
}

impl Actor {
    /// Whoever runs the broker, at the command line: may do everything.
    pub fn operator() -> Actor {
        Actor {
            user: "operator".into(),
            permissions: Arc::new(Permissions::all()),
            topics: Arc::default(),
            connection: None,
        }
    }

    /// Refuses unless the user has this permission on the resource's name.
    fn require(
        &self,
        operation: Operation,
        name: &str,
        resource: impl FnOnce() -> Resource,
    ) -> Result<(), OperationError> {
        if self.permissions.allows(operation, name) {
            return Ok(());
        }
        Err(OperationError::AccessRefused {
            operation,
            resource: resource(),
            user: self.user.to_string(),
        })
    }

    /// Refuses a routing key that is not for the user at this exchange. `is_topic` is asked only where there is a restriction.
    fn require_topics<'a>(
        &self,
        operation: Operation,
        exchange: &str,
        routing_keys: impl IntoIterator<Item = &'a str>,
        is_topic: impl FnOnce() -> bool,
        resource: impl FnOnce() -> Resource,
    ) -> Result<(), OperationError> {
        if !self.topics.restricts(exchange) || !is_topic() {
            return Ok(());
        }
        let mut keys = routing_keys.into_iter();
        match keys.find(|key| !self.topics.allows(operation, exchange, key)) {
            None => Ok(()),
            Some(refused) => Err(OperationError::TopicRefused {
                operation,
                routing_key: refused.to_owned(),
                exchange: resource(),
                user: self.user.to_string(),
            }),
        }
    }

    /// Refuses unless the user has any permission on it, which is all that a passive declaration needs.
    fn require_any(&self, name: &str, resource: impl FnOnce() -> Resource) -> Result<(), OperationError> {
        let all = [Operation::Configure, Operation::Write, Operation::Read];
        if all
            .into_iter()
            .any(|operation| self.permissions.allows(operation, name))
        {
            return Ok(());
        }
        self.require(Operation::Configure, name, resource)
    }
}

/// One virtual host.
pub struct Vhost {
    /// Its name, verbatim.
    pub name: Arc<str>,
    topology: RwLock<Topology>,
    generation: AtomicU64,
    histories: history::Histories,
    delayed: delayed_messages::DelayedMessages,
    deadlines: Arc<deadlines::Deadlines>,
    firehose: Arc<firehose::Firehose>,
    deduplication: deduplication::Windows,
    traffic: traffic::Traffic,
    /// What passed through the sockets of its connections that are gone.
    pub octets_of_closed: Mutex<Octets<u64>>,
    limits: RwLock<VhostLimits>,
    store: Store,
    counters: Arc<Counters>,
    paging: Arc<Paging>,
    about: Mutex<About>,
    redeclare_default: RedeclareRule,
}

/// Exchanges, bindings and queues, edited together.
struct Topology {
    routing: RoutingTable<u32>,
    by_name: HashMap<Arc<str>, Arc<QueueHandle>>,
    /// Queues by the number under which the routing table knows them.
    queues: Slab<Arc<QueueHandle>>,
    policies: Policies,
    /// The exclusive queues of each connection, by their number.
    exclusive: HashMap<ConnectionId, HashSet<u32>>,
    /// The virtual host itself is deleted: nothing is added any more.
    deleted: bool,
}

impl Vhost {
    /// An empty virtual host with the predeclared exchanges; the timer calls it when something is due.
    pub fn new(
        name: &str,
        about: About,
        redeclare_default: RedeclareRule,
        services: Services,
        timer: Arc<Timer>,
    ) -> Vhost {
        let Services {
            store,
            counters,
            paging,
        } = services;
        Vhost {
            name: name.into(),
            topology: RwLock::new(Topology {
                routing: RoutingTable::new(),
                by_name: HashMap::new(),
                queues: Slab::new(),
                policies: Policies::default(),
                exclusive: HashMap::new(),
                deleted: false,
            }),
            generation: AtomicU64::new(1),
            histories: history::Histories::default(),
            delayed: delayed_messages::DelayedMessages::new(timer.clone()),
            firehose: Arc::new(firehose::Firehose::new(timer.clone())),
            deadlines: Arc::new(deadlines::Deadlines::new(timer)),
            deduplication: deduplication::Windows::default(),
            traffic: traffic::Traffic::default(),
            octets_of_closed: Mutex::default(),
            limits: RwLock::default(),
            store,
            counters,
            paging,
            about: Mutex::new(about),
            redeclare_default,
        }
    }

    /// What people say about it.
    pub fn about(&self) -> About {
        self.about.lock().clone()
    }

    /// Replaces what people say about it; the caller stores it.
    pub fn set_about(&self, about: About) {
        *self.about.lock() = about;
    }

    /// Raised by every change of the topology or of a permission; a cached route is good while it stands still.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Makes every connection look up its routes and permissions again.
    pub fn invalidate_routes(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// All queues at this moment.
    pub fn queues(&self) -> Vec<Arc<QueueHandle>> {
        self.topology
            .read()
            .queues
            .iter()
            .map(|(_, queue)| queue.clone())
            .collect()
    }

    /// The queue of that name, whoever owns it.
    pub fn find_queue(&self, name: &str) -> Option<Arc<QueueHandle>> {
        self.topology.read().by_name.get(name).cloned()
    }

    /// All exchanges at this moment, by name.
    pub fn exchanges(&self) -> Vec<(String, ExchangeOptions)> {
        let topology = self.topology.read();
        let mut exchanges: Vec<_> = topology
            .routing
            .exchanges()
            .map(|exchange| (exchange.name.to_owned(), exchange.options.clone()))
            .collect();
        exchanges.sort_by(|a, b| a.0.cmp(&b.0));
        exchanges
    }

    /// The exchange of that name; the default one has none.
    pub fn find_exchange(&self, name: &str) -> Option<ExchangeOptions> {
        let topology = self.topology.read();
        topology.routing.exchange(name).map(|exchange| exchange.options.clone())
    }

    /// All bindings at this moment but those of the default exchange; queues by their index.
    pub fn bindings(&self) -> Vec<Binding<u32>> {
        let mut bindings: Vec<_> = self.topology.read().routing.bindings().collect();
        bindings.sort_by(|a, b| (&a.source, &a.routing_key).cmp(&(&b.source, &b.routing_key)));
        bindings
    }

    /// Refuses routing keys that are not for the user at this exchange, if it is one by topics; a delayed one may be.
    pub fn check_topics<'a>(
        &self,
        actor: &Actor,
        operation: Operation,
        exchange: &str,
        routing_keys: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), OperationError> {
        let is_topic = || {
            let topology = self.topology.read();
            let found = topology.routing.exchange(exchange);
            found.is_some_and(|found| found.options.routing_kind() == ExchangeKind::Topic)
        };
        actor.require_topics(operation, exchange, routing_keys, is_topic, || {
            self.exchange_resource(exchange)
        })
    }

    fn exchange_resource(&self, name: &str) -> Resource {
        Resource::exchange(name, &self.name)
    }

    fn queue_resource(&self, name: &str) -> Resource {
        Resource::queue(name, &self.name)
    }

    /// Connections may still have work for a virtual host that was just deleted; it must leave nothing in the store.
    fn check_exists(&self, topology: &Topology) -> Result<(), OperationError> {
        match topology.deleted {
            false => Ok(()),
            true => Err(OperationError::VhostDeleted(self.name.to_string())),
        }
    }

    fn check_store(&self) -> Result<(), OperationError> {
        match self.store.failed() {
            None => Ok(()),
            Some(error) => Err(OperationError::StorageFailed(error.to_string())),
        }
    }
}

impl Topology {
    /// Whether this queue is still there.
    fn has(&self, queue: &Arc<QueueHandle>) -> bool {
        let current = self.by_name.get(&queue.name);
        current.is_some_and(|current| Arc::ptr_eq(current, queue))
    }
}

/// The commit to wait for before success is reported; none when nothing durable changed.
pub type Durable = Option<Ticket>;

/// Names lose line breaks, as RabbitMQ strips them.
fn stripped(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '\r' | '\n')).collect()
}
