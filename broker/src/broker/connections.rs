//! The connections of the broker: who is let in, who is there, and how an operator closes them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Broker, ConnectionId, ConnectionInfo, Identity};
use crate::metrics::Octets;
use crate::protocol::error::AmqpError;
use crate::protocol::reply_code::ReplyCode;
use crate::session::outbox::Event;
use crate::vhost::Vhost;

/// The place of one connection among those that are counted, given free when it is dropped.
pub struct OpenPlace(Arc<AtomicUsize>);

impl Drop for OpenPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Why a connection is not let into a virtual host. Display is RabbitMQ's text.
#[derive(Debug, thiserror::Error)]
pub enum LimitReached {
    /// The virtual host has as many connections as it may have.
    #[error("access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached")]
    OfVhost {
        /// The virtual host.
        vhost: String,
        /// Who asked.
        user: Arc<str>,
        /// So many it may have.
        limit: u64,
    },
    /// The user has as many connections as it may have.
    #[error("connection refused for user '{user}': user connection limit ({limit}) is reached")]
    OfUser {
        /// Who asked.
        user: Arc<str>,
        /// So many it may have.
        limit: u64,
    },
}

impl Broker {
    /// Counts the open connections of a virtual host and of a user. If the limits allow one more, it is let in, provided that
    /// its user `has_access`, which RabbitMQ checks after the limits.
    pub fn admit(&self, info: &ConnectionInfo, vhost: &Vhost, has_access: bool) -> Result<(), LimitReached> {
        let _admission = self.admission.lock();
        let user = info.user();
        if let Some(limit) = vhost.limits().max_connections
            && self.count_connections(|identity| identity.vhost == vhost.name) >= limit
        {
            let vhost = vhost.name.to_string();
            return Err(LimitReached::OfVhost { vhost, user, limit });
        }
        if let Some(limit) = self.user_limits(&user).max_connections
            && self.count_connections(|identity| identity.user == user) >= limit
        {
            return Err(LimitReached::OfUser { user, limit });
        }
        if has_access {
            info.set_vhost(&vhost.name);
            info.set_open(true);
        }
        Ok(())
    }

    fn count_connections(&self, matches: impl Fn(&Identity) -> bool) -> u64 {
        let connections = self.connections.lock();
        connections
            .values()
            .filter(|info| info.is_open() && matches(&info.identity.read()))
            .count() as u64
    }

    /// Open channels of all connections of a user.
    pub fn channels_of_user(&self, user: &str) -> u64 {
        let connections = self.connections.lock();
        let own = connections.values().filter(|info| *info.user() == *user);
        own.map(|info| u64::from(info.channels())).sum()
    }

    /// The number of the next connection.
    pub fn next_connection_id(&self) -> ConnectionId {
        ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed))
    }

    /// A socket was accepted.
    pub fn connection_accepted(&self, info: &Arc<ConnectionInfo>) {
        self.connections.lock().insert(info.id, info.clone());
        self.counters.connections_opened.inc();
    }

    /// A place for a connection that opens; none when `connection_max` are open.
    pub fn take_open_place(&self) -> Option<OpenPlace> {
        let max = self.live().connection_max.map_or(usize::MAX, |max| max as usize);
        let count = &self.open_connections;
        count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
                (open < max).then_some(open + 1)
            })
            .ok()
            .map(|_| OpenPlace(count.clone()))
    }

    /// A place for an AMQP client on its way in, as in its TLS handshake.
    pub fn take_arriving_place(&self) -> OpenPlace {
        self.arriving.fetch_add(1, Ordering::AcqRel);
        OpenPlace(self.arriving.clone())
    }

    /// AMQP clients on their way in; their sockets are not counted elsewhere.
    pub fn arriving(&self) -> usize {
        self.arriving.load(Ordering::Acquire)
    }

    /// A socket is gone.
    pub fn connection_closed(&self, id: ConnectionId) {
        let Some(closing) = self.connections.lock().get(&id).cloned() else {
            return;
        };
        let vhost = self.vhost(&closing.vhost());
        let closed = {
            let mut connections = self.connections.lock();
            let Some(closed) = connections.remove(&id) else { return };
            // Under the list's lock, so that no sum ever shrinks.
            let octets = closed.socket.octets();
            self.octets_of_closed.lock().add(octets);
            if let Some(vhost) = vhost {
                vhost.octets_of_closed.lock().add(octets);
            }
            closed
        };
        self.counters.connections_closed.inc();
        if let Some(properties) = closed.take_properties() {
            self.client_properties.release(&properties);
        }
    }

    /// What passed through the sockets of all connections since the broker started.
    pub fn octets(&self) -> Octets<u64> {
        let connections = self.connections.lock();
        let mut sum = *self.octets_of_closed.lock();
        for info in connections.values() {
            sum.add(info.socket.octets());
        }
        sum
    }

    /// What passed through the sockets of each virtual host's connections since it was made, and how fast it does.
    pub fn octets_by_vhost(&self) -> HashMap<Arc<str>, (Octets<u64>, Octets<f64>)> {
        let vhosts = self.vhosts();
        let connections = self.connections.lock();
        let closed = vhosts
            .iter()
            .map(|vhost| (vhost.name.clone(), (*vhost.octets_of_closed.lock(), Octets::default())));
        let mut sums: HashMap<_, _> = closed.collect();
        for info in connections.values() {
            if let Some((octets, rates)) = sums.get_mut(&info.vhost()) {
                octets.add(info.socket.octets());
                rates.add(info.socket.rates());
            }
        }
        sums
    }

    /// Connections from their connection.open to their end, which is before their socket's.
    pub fn open_connections(&self) -> usize {
        self.open_connections.load(Ordering::Acquire)
    }

    /// Sockets of clients: of open connections, and of those in their handshake, refused or closing.
    pub fn sockets(&self) -> usize {
        self.connections.lock().len()
    }

    /// All connections, oldest first, those in their handshake or closing included.
    pub fn connections(&self) -> Vec<Arc<ConnectionInfo>> {
        self.connections_where(|_| true)
    }

    /// Those of them for which this holds, which must be quick to say and lock nothing.
    pub fn connections_where(&self, holds: impl Fn(&ConnectionInfo) -> bool) -> Vec<Arc<ConnectionInfo>> {
        let mut connections: Vec<_> = {
            let all = self.connections.lock();
            all.values().filter(|info| holds(info)).cloned().collect()
        };
        connections.sort_by_key(|info| info.id);
        connections
    }

    /// One that is there.
    pub fn connection(&self, id: ConnectionId) -> Option<Arc<ConnectionInfo>> {
        self.connections.lock().get(&id).cloned()
    }

    /// Closes the connections whose identity matches, with 320 and this reason; how many.
    pub fn close_connections(&self, reason: &str, matches: impl Fn(&Identity) -> bool) -> usize {
        self.close_some_connections(usize::MAX, reason, matches)
    }

    /// As [`Broker::close_connections`], but no more than `limit`, the oldest first.
    pub fn close_some_connections(&self, limit: usize, reason: &str, matches: impl Fn(&Identity) -> bool) -> usize {
        let chosen: Vec<_> = self
            .connections()
            .into_iter()
            .filter(|info| matches(&info.identity()))
            .take(limit)
            .collect();
        for info in &chosen {
            info.outbox.notify(Event::Close(AmqpError::new(
                ReplyCode::ConnectionForced,
                reason.to_owned(),
            )));
        }
        chosen.len()
    }

    /// What stands for a connection where rabbitmqctl shows an Erlang process. It is never given again.
    pub fn pid_of(&self, info: &ConnectionInfo) -> String {
        format!("<{}.1.{}.0>", self.config.node_name, info.id.0)
    }

    /// Closes the connection of this name or [`pid`](Self::pid_of); false when there is none.
    pub fn close_connection(&self, name: &str, reason: &str) -> bool {
        let is_it = |info: &Arc<ConnectionInfo>| info.name == name || self.pid_of(info) == name;
        let found = self.connections().into_iter().find(is_it);
        if let Some(info) = &found {
            info.outbox.notify(Event::Close(AmqpError::new(
                ReplyCode::ConnectionForced,
                reason.to_owned(),
            )));
        }
        found.is_some()
    }
}
