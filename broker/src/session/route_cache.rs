//! Where this connection's recent publishes went, so that the next one of the same exchange and key asks nobody.
//!
//! An entry is good while the topology's generation stands still; any edit of the topology, of users or of
//! permissions empties the cache. Routes that depended on headers,
//! properties or chance are never kept.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::vhost::QueueHandle;

/// Routes remembered per connection; a publisher with more keys than that looks them up again now and then.
const ROUTES_MAX: usize = 1024;

/// Where messages of one exchange and routing key go.
pub struct Route {
    key: Box<[u8]>,
    /// The queues, and where they stand in the batch being collected.
    pub targets: Vec<Target>,
    /// Is any of the queues durable?
    pub any_durable: bool,
}

/// One queue of a route.
pub struct Target {
    /// The queue.
    pub queue: Arc<QueueHandle>,
    /// Which batch `group` belongs to.
    pub batch: u64,
    /// The queue's group in that batch.
    pub group: usize,
}

impl Route {
    /// A route for the exchange and key that are written `key` on the wire.
    pub fn new(key: &[u8], queues: Vec<Arc<QueueHandle>>) -> Route {
        let any_durable = queues.iter().any(|queue| queue.properties.durable);
        let targets = queues
            .into_iter()
            .map(|queue| Target {
                queue,
                batch: 0,
                group: 0,
            })
            .collect();
        Route {
            key: key.into(),
            targets,
            any_durable,
        }
    }
}

/// The routes of one connection.
#[derive(Default)]
pub struct RouteCache {
    generation: u64,
    users_revision: u64,
    routes: Vec<Route>,
    by_key: HashMap<Box<[u8]>, usize, RandomState>,
    last: usize,
}

impl RouteCache {
    /// Forgets everything unless the topology and the users are still the same.
    pub fn validate(&mut self, generation: u64, users_revision: u64) {
        if self.generation != generation || self.users_revision != users_revision {
            self.clear();
            self.generation = generation;
            self.users_revision = users_revision;
        }
    }

    /// The index of a route that is still good.
    #[inline]
    pub fn find(&mut self, key: &[u8]) -> Option<usize> {
        if let Some(route) = self.routes.get(self.last)
            && *route.key == *key
        {
            return Some(self.last);
        }
        self.last = *self.by_key.get(key)?;
        Some(self.last)
    }

    /// Keeps a route; its index.
    pub fn insert(&mut self, route: Route) -> usize {
        if self.routes.len() >= ROUTES_MAX {
            self.clear();
        }
        self.last = self.routes.len();
        self.by_key.insert(route.key.clone(), self.last);
        self.routes.push(route);
        self.last
    }

    /// The route at an index that `find` or `insert` gave.
    #[inline]
    pub fn route(&mut self, index: usize) -> Option<&mut Route> {
        self.routes.get_mut(index)
    }

    fn clear(&mut self) {
        self.routes.clear();
        self.by_key.clear();
        self.last = 0;
    }
}
