//! The way of a request: log in, check the rights, read the body, run the handler beside AMQP.
//!
//! Everything a client can hold is bounded, here the size of a body and the time for it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _, to_bytes};
use axum::extract::Query;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::access::{self, Caller, Rights};
use super::reply::{ApiError, Outcome};
use super::request::Request;
use super::routes::{self, Route, Verb, VhostRule};
use crate::broker::Broker;
use crate::net::http::{Peer, Site};

/// Requests that are worked on at once; others wait.
const REQUESTS_MAX: usize = 8;
/// Large bodies held at once; others are not read yet.
const LARGE_BODIES_MAX: usize = 4;
/// Time for a whole body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// What all connections of the API share.
#[derive(Clone)]
pub struct Door(Arc<Shared>);

struct Shared {
    broker: Arc<Broker>,
    requests: Semaphore,
    large_bodies: Semaphore,
}

impl Door {
    /// The door to a broker, for any number of listeners.
    pub fn new(broker: Arc<Broker>) -> Door {
        Door(Arc::new(Shared {
            broker,
            requests: Semaphore::new(REQUESTS_MAX),
            large_bodies: Semaphore::new(LARGE_BODIES_MAX),
        }))
    }

    /// The API for any number of listeners.
    pub fn site(&self) -> Site {
        Site::new(routes::router(self.clone()))
    }

    /// The whole way of a request. `path` has the variable parts of its path.
    pub(super) async fn answer(
        &self,
        route: Route,
        path: Vec<(String, String)>,
        request: axum::extract::Request,
    ) -> Response {
        let (head, body) = request.into_parts();
        let Some(Peer(peer)) = head.extensions.get().copied() else {
            return ApiError::Failed("a request without an address".to_owned()).into_response();
        };
        let caller = match self.admit(&route, &path, peer.ip(), &head.headers).await {
            Ok(caller) => caller,
            Err(error) => return error.into_response(),
        };
        let query = match Query::<Vec<(String, String)>>::try_from_uri(&head.uri) {
            Ok(Query(query)) => query,
            Err(error) => return ApiError::bad(error).into_response(),
        };
        let broker = &self.0.broker;
        let outcome = self.with_body(route, body, |body| Request {
            broker: broker.clone(),
            rates: broker.rates.get(),
            caller: caller.clone(),
            path,
            query,
            reason: reason(&head.headers),
            body,
        });
        let outcome = outcome.await;
        if route.verb != Verb::Get {
            let user = caller
                .as_ref()
                .map(|caller| caller.user.name.as_str())
                .unwrap_or_default();
            let path = head.uri.path();
            match &outcome {
                Ok(reply) => tracing::info!(user, %peer, "{} {path}: {}", route.verb.as_str(), reply.status()),
                Err(error) => tracing::info!(user, %peer, "{} {path}: refused: {error}", route.verb.as_str()),
            }
        }
        outcome.into_response()
    }

    /// Who asks, if they may ask for this.
    async fn admit(
        &self,
        route: &Route,
        path: &[(String, String)],
        peer: IpAddr,
        headers: &HeaderMap,
    ) -> Result<Option<Caller>, ApiError> {
        if route.rights == Rights::Nobody {
            return Ok(None);
        }
        let broker = &self.0.broker;
        let caller = access::log_in(broker, peer, headers).await?;
        caller.require(Rights::Management)?;
        caller.require(route.rights)?;
        let vhost = path
            .iter()
            .find(|(name, _)| name == "vhost")
            .map(|(_, vhost)| vhost.as_str());
        let Some(vhost) = vhost else { return Ok(Some(caller)) };
        let may = match route.vhost {
            VhostRule::Any => true,
            VhostRule::Seen => caller.sees_vhost(broker, vhost),
            VhostRule::Ruled => caller.user.is_administrator() || caller.uses_vhost(broker, vhost),
            // Who may see all virtual hosts may also know that there is none of this name.
            VhostRule::Used => {
                caller.uses_vhost(broker, vhost) || (caller.user.is_monitoring() && broker.vhost(vhost).is_none())
            }
        };
        if !may {
            let reason = "User not authorised to access virtual host";
            return Err(ApiError::NotAuthorised(reason.to_owned()));
        }
        Ok(Some(caller))
    }

    /// Reads the body and runs the handler on a thread that may block.
    async fn with_body(&self, route: Route, body: Body, make: impl FnOnce(Bytes) -> Request) -> Outcome {
        let closed = |_| ApiError::Unavailable("the broker is stopping".to_owned());
        let _large = match route.has_large_body() {
            true => Some(self.0.large_bodies.acquire().await.map_err(closed)?),
            false => None,
        };
        let body = read(body, route.body_bytes_max).await?;
        let _turn = self.0.requests.acquire().await.map_err(closed)?;
        let request = make(body);
        let ran = tokio::task::spawn_blocking(move || (route.handler)(&request)).await;
        ran.unwrap_or_else(|_| Err(ApiError::Failed("the request failed; see the broker's log".to_owned())))
    }
}

async fn read(body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(ApiError::BodyTooLarge(bytes_max));
    }
    match timeout(BODY_TIMEOUT, to_bytes(body, bytes_max)).await {
        Ok(Ok(body)) => Ok(body),
        // Its length was not announced, or the client is gone and hears nothing.
        Ok(Err(_)) => Err(ApiError::BodyTooLarge(bytes_max)),
        Err(_) => Err(ApiError::BodyTooSlow),
    }
}

/// Why the caller does this, if they say so.
fn reason(headers: &HeaderMap) -> Option<String> {
    let reason = headers.get("x-reason")?.to_str().ok()?;
    Some(reason.to_owned())
}
