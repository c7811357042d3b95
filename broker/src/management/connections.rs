//! Connections and their channels: lists, one of them, closing.

use std::sync::Arc;

use super::listing::{self, Row};
use super::past::{Ranges, WithPast};
use super::reply::{ApiError, Outcome, Reply};
use super::request::Request;
use super::views::{ConnectionDetails, ConnectionView, OctetsView};
use crate::broker::{Broker, ConnectionInfo};
use crate::clock;
use crate::metrics::past;

/// What a client hears when nobody gave a reason, as from RabbitMQ.
const CLOSE_REASON: &str = "Closed via management plugin";

impl Row for ConnectionView {
    fn name(&self) -> &str {
        &self.name
    }
}

/// A connection in what belongs to it.
pub fn connection_details(info: &ConnectionInfo) -> ConnectionDetails {
    ConnectionDetails {
        name: info.name.clone(),
        peer_host: info.peer.ip().to_string(),
        peer_port: info.peer.port(),
    }
}

fn view(broker: &Broker, info: &ConnectionInfo) -> ConnectionView {
    let identity = info.identity();
    let (frame_max, timeout) = info.tuning();
    let age = clock::now().saturating_duration_since(info.connected_at);
    let client_properties = identity.client_properties();
    let tls = info.tls.as_ref();
    let peer = tls.and_then(|tls| tls.peer.as_ref());
    ConnectionView {
        name: info.name.clone(),
        node: broker.node_name.clone(),
        kind: "network",
        protocol: "AMQP 0-9-1",
        auth_mechanism: identity.auth_mechanism,
        user: identity.user.to_string(),
        user_who_performed_action: identity.user.to_string(),
        vhost: identity.vhost.to_string(),
        state: match &*identity.vhost {
            "" => "starting",
            _ if info.is_in_flow(clock::now()) => "flow",
            _ => "running",
        },
        channels: info.channels(),
        channel_max: broker.config.channel_max,
        frame_max,
        timeout,
        connected_at: clock::unix_time().saturating_sub(age).as_millis() as u64,
        user_provided_name: identity.connection_name,
        client_properties,
        host: info.local.ip().to_string(),
        port: info.local.port(),
        peer_host: info.peer.ip().to_string(),
        peer_port: info.peer.port(),
        ssl: tls.is_some(),
        ssl_cipher: tls.map(|tls| tls.cipher.clone()),
        // Every cipher that is spoken authenticates what it encrypts.
        ssl_hash: tls.map(|_| "aead".to_owned()),
        ssl_key_exchange: tls.map(|tls| tls.key_exchange.clone()),
        ssl_protocol: tls.map(|tls| tls.protocol.to_owned()),
        peer_cert_issuer: peer.map(|peer| peer.issuer.clone()),
        peer_cert_subject: peer.map(|peer| peer.subject.clone()),
        peer_cert_validity: peer.map(|peer| peer.validity.clone()),
        octets: OctetsView::new(
            info.socket.octets(),
            info.socket.packets(),
            info.socket.rates(),
            info.outbox.lock().bytes_waiting(),
        ),
    }
}

/// The connections that the caller may see, of the virtual host in the path if there is one.
pub fn seen(request: &Request) -> Result<Vec<Arc<ConnectionInfo>>, ApiError> {
    let caller = request.caller()?;
    let vhost = match request.path.iter().any(|(key, _)| key == "vhost") {
        true => Some(request.vhost()?),
        false => None,
    };
    let mut connections = request.broker.connections();
    connections.retain(|info| {
        let identity = info.identity();
        caller.sees_user(&identity.user) && vhost.as_ref().is_none_or(|vhost| identity.vhost == vhost.name)
    });
    Ok(connections)
}

/// `GET /api/connections` and `/api/vhosts/{vhost}/connections`.
pub fn list(request: &Request) -> Outcome {
    let rows = seen(request)?;
    listing::list(request, rows.iter().map(|info| view(&request.broker, info)).collect())
}

/// `GET /api/connections/username/{user}`.
pub fn list_of_user(request: &Request) -> Outcome {
    let mut rows = seen(request)?;
    rows.retain(|info| *info.user() == *request.part("user"));
    listing::list(request, rows.iter().map(|info| view(&request.broker, info)).collect())
}

/// `GET /api/connections/{name}/sessions`: AMQP 1.0 has them.
pub fn sessions(request: &Request) -> Outcome {
    find(request)?;
    Err(ApiError::bad("connection does not use AMQP 1.0"))
}

/// `GET /api/connections/{name}`.
pub fn get(request: &Request) -> Outcome {
    let info = find(request)?;
    let view = view(&request.broker, &info);
    let Some(ranges) = Ranges::of(request)? else {
        return listing::object(request, &view);
    };
    let (key, info) = (format!("connection {}", info.id.0), Arc::downgrade(&info));
    let look = move || info.upgrade().map(|info| info.socket.octets());
    listing::object(
        request,
        &WithPast::of(request, &view, &ranges, key, &past::CONNECTION, look),
    )
}

pub fn find(request: &Request) -> Result<Arc<ConnectionInfo>, ApiError> {
    find_where(request, |info| info.name == request.part("name"))
}

/// The connection for which this holds, if the caller may see it.
pub fn find_where(request: &Request, holds: impl Fn(&ConnectionInfo) -> bool) -> Result<Arc<ConnectionInfo>, ApiError> {
    let caller = request.caller()?;
    let mut found = request.broker.connections_where(holds).into_iter();
    found
        .find(|info| caller.sees_user(&info.identity().user))
        .ok_or(ApiError::NotFound)
}

/// `DELETE /api/connections/{name}`: closes it with 320. Only administrators close other people's.
pub fn delete(request: &Request) -> Outcome {
    let info = find(request)?;
    let caller = request.caller()?;
    if !caller.user.is_administrator() && *info.user() != *caller.user.name {
        return Err(ApiError::NotAuthorised(
            "User not authorised to access object".to_owned(),
        ));
    }
    close(request, &info);
    Ok(Reply::done())
}

/// `DELETE /api/connections/username/{user}`.
pub fn delete_of_user(request: &Request) -> Outcome {
    let caller = request.caller()?;
    let user = request.part("user");
    if !caller.user.is_administrator() && caller.user.name != user {
        return Err(ApiError::NotAuthorised(
            "User not authorised to access object".to_owned(),
        ));
    }
    for info in seen(request)?.iter().filter(|info| *info.user() == *user) {
        close(request, info);
    }
    Ok(Reply::done())
}

fn close(request: &Request, info: &ConnectionInfo) {
    let reason = request.reason.as_deref().unwrap_or(CLOSE_REASON);
    tracing::info!(connection = %info.name, "closed through the management API: {reason}");
    request.broker.close_connection(&info.name, reason);
}
