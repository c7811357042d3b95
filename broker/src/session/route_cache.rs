//! Where this connection's recent publishes went, so that the next one of the same exchange and key asks nobody.
//!
//! An entry is good while the topology's generation stands still; any edit of the topology, of users or of
//! permissions empties the cache. Routes that depended on headers,
//! properties or chance are never kept.
//!
//! A route for which there is no room takes the place of another, picked without regard to its use: so a publisher that
//! takes a few keys more than there is room for in turn asks for a few routes more, and a hit costs nothing.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::vhost::QueueHandle;
use crate::vhost::traffic::ExchangeTraffic;

/// Routes remembered per connection; a publisher with more keys than that looks some of them up again.
const ROUTES_MAX: usize = 1024;
/// Queues of all these routes together, unless one route alone has more.
const ROUTE_TARGETS_MAX: usize = 64 * 1024;

/// Where messages of one exchange and routing key go.
pub struct Route {
    key: Box<[u8]>,
    /// The queues, and where they stand in the batch being collected.
    pub targets: Vec<Target>,
    /// Is any of the queues durable?
    pub any_durable: bool,
    /// Are several of them?
    pub several_durable: bool,
    /// Where what is published to its exchange is counted.
    pub exchange: Arc<ExchangeTraffic>,
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
    pub fn new(key: &[u8], queues: Vec<Arc<QueueHandle>>, exchange: Arc<ExchangeTraffic>) -> Route {
        let durable = queues.iter().filter(|queue| queue.properties.durable).count();
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
            any_durable: durable > 0,
            several_durable: durable > 1,
            exchange,
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
    /// Of all routes together.
    targets: usize,
    /// Which route goes next, as far as it goes on from one to the next.
    dice: u32,
}

impl RouteCache {
    /// Forgets everything unless the topology and the users are still the same; true if they are not.
    pub fn validate(&mut self, generation: u64, users_revision: u64) -> bool {
        let differs = self.generation != generation || self.users_revision != users_revision;
        if differs {
            self.clear();
            self.generation = generation;
            self.users_revision = users_revision;
        }
        differs
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
        self.targets += route.targets.len();
        while !self.routes.is_empty() && (self.routes.len() >= ROUTES_MAX || self.targets > ROUTE_TARGETS_MAX) {
            self.forget_one();
        }
        self.last = self.routes.len();
        self.by_key.insert(route.key.clone(), self.last);
        self.routes.push(route);
        self.last
    }

    fn forget_one(&mut self) {
        // A step of a linear congruential generator, of which the upper bits are good enough dice.
        self.dice = self.dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let index = (self.dice >> 16) as usize % self.routes.len();
        let gone = self.routes.swap_remove(index);
        self.by_key.remove(&gone.key);
        self.targets -= gone.targets.len();
        let moved = self.routes.get(index).and_then(|route| self.by_key.get_mut(&route.key));
        if let Some(place) = moved {
            *place = index;
        }
    }

    /// The route at an index that `find` or `insert` gave.
    #[inline]
    pub fn route(&mut self, index: usize) -> Option<&mut Route> {
        self.routes.get_mut(index)
    }

    fn clear(&mut self) {
        self.routes.clear();
        self.by_key.clear();
        self.targets = 0;
        self.last = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> [u8; 8] {
        (number as u64).to_be_bytes()
    }

    fn find_or_insert(cache: &mut RouteCache, number: usize) -> bool {
        let found = cache.find(&key(number));
        let index =
            found.unwrap_or_else(|| cache.insert(Route::new(&key(number), Vec::new(), ExchangeTraffic::of("").into())));
        assert_eq!(*cache.route(index).unwrap().key, key(number));
        found.is_some()
    }

    #[test]
    fn a_few_keys_too_many_cost_a_few_misses() {
        let mut cache = RouteCache::default();
        let keys = ROUTES_MAX + ROUTES_MAX / 64;
        let mut hits = 0;
        for round in 0..20 {
            for number in 0..keys {
                hits += usize::from(find_or_insert(&mut cache, number) && round >= 10);
            }
        }
        assert!(hits * 10 >= keys * 10 * 9, "{hits} hits of {}", keys * 10);
        assert_eq!((cache.routes.len(), cache.by_key.len()), (ROUTES_MAX, ROUTES_MAX));
    }

    #[test]
    fn what_is_found_is_what_was_asked_for_whatever_was_forgotten_meanwhile() {
        let mut cache = RouteCache::default();
        for number in 0..20 * ROUTES_MAX {
            assert!(!find_or_insert(&mut cache, number));
            find_or_insert(&mut cache, number / 2);
        }
    }

    #[test]
    fn an_edit_of_the_topology_forgets_everything() {
        let mut cache = RouteCache::default();
        find_or_insert(&mut cache, 1);
        cache.validate(1, 0);
        assert!(!find_or_insert(&mut cache, 1));
        cache.validate(1, 0);
        assert!(find_or_insert(&mut cache, 1));
    }
}
