//! What went from exchanges to queues: what living channels have counted, and what was kept of those that are gone.

use std::collections::HashMap;
use std::sync::Arc;

use crate::broker::{Broker, ConnectionInfo};
use crate::vhost::Vhost;
use crate::vhost::traffic::Routed;

/// All of it in these virtual hosts, by exchange and queue.
pub fn routed(broker: &Broker, vhosts: &[Arc<Vhost>]) -> Vec<Routed> {
    let mut sums: HashMap<(usize, u64), Routed> = HashMap::new();
    for exchange in vhosts.iter().flat_map(|vhost| vhost.traffic()) {
        for (queue, count) in exchange.routed_by_ended() {
            let sum = Routed {
                exchange: exchange.clone(),
                queue,
                count,
            };
            sums.insert(key(&sum), sum);
        }
    }
    for info in broker.connections_where(ConnectionInfo::publishes) {
        let vhost = info.vhost();
        let Some(vhost) = vhosts.iter().find(|known| known.name == vhost) else {
            continue;
        };
        let counted = info.outbox.lock().routed();
        for more in counted {
            let is_there = |known: Arc<_>| Arc::ptr_eq(&known, &more.exchange);
            match sums.get_mut(&key(&more)) {
                Some(sum) => sum.count += more.count,
                // Of an exchange that is gone a channel may know still.
                None if vhost.find_traffic(&more.exchange.name).is_some_and(is_there) => {
                    sums.insert(key(&more), more);
                }
                None => {}
            }
        }
    }
    let mut sums: Vec<_> = sums.into_values().collect();
    sums.sort_by(|a, b| {
        let names = |routed: &Routed| {
            (
                routed.queue.vhost.clone(),
                routed.exchange.name.clone(),
                routed.queue.name.clone(),
            )
        };
        names(a).cmp(&names(b))
    });
    sums
}

fn key(routed: &Routed) -> (usize, u64) {
    (Arc::as_ptr(&routed.exchange) as usize, routed.queue.id.0)
}
