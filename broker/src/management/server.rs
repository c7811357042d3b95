//! The way of a request: log in, check the rights, read the body, run the handler beside AMQP.
//!
//! Everything a client can hold is bounded, here the size of a body and the time for it.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Query;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::{AcquireError, Semaphore};
use tokio::time::timeout;

use super::access::{self, Caller, Rights};
use super::large_bodies::{LargeBodies, Turn};
use super::reply::{ApiError, Outcome};
use super::request::Request;
use super::route::{BODY_BYTES_MAX, Route, Verb, VhostRule};
use super::routes;
use crate::broker::Broker;
use crate::net::http::{Peer, Site};

/// Requests that are worked on at once; others wait.
const REQUESTS_MAX: usize = 8;
/// A large body of which less than [`LARGE_BODY_STEP_BYTES`] arrives in this time makes room for another.
const LARGE_BODY_STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// Half a megabyte, 100 KiB a second.
const LARGE_BODY_STEP_BYTES: usize = 500 << 10;
/// Time for a whole body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// What all connections of the API share.
#[derive(Clone)]
pub struct Door(Arc<Shared>);

struct Shared {
    broker: Arc<Broker>,
    requests: Semaphore,
    large_bodies: LargeBodies,
}

impl Door {
    /// The door to a broker, for any number of listeners.
    pub fn new(broker: Arc<Broker>) -> Door {
        Door(Arc::new(Shared {
            broker,
            requests: Semaphore::new(REQUESTS_MAX),
            large_bodies: LargeBodies::new(),
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
        let user = caller
            .as_ref()
            .map(|caller| caller.user.name.as_str())
            .unwrap_or_default();
        let outcome = self.with_body(route, user, body, |body| Request {
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
            let path = head.uri.path();
            match &outcome {
                Ok(reply) => tracing::info!(user, %peer, "{} {path}: {}", route.verb.as_str(), reply.status()),
                Err(error) => {
                    let reason = error.reason();
                    tracing::info!(user, %peer, "{} {path}: refused: {reason}", route.verb.as_str());
                }
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
        if route.verb != Verb::Get && access::is_of_another_site(headers) {
            return Err(ApiError::bad("a page in a browser has to send application/json"));
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

    /// Reads a body, in its turn if it is a large one. Clients that are slow with theirs do not keep the turns.
    async fn read(&self, user: &str, mut body: Body, bytes_max: usize) -> Result<(Bytes, Option<Turn<'_>>), ApiError> {
        if body.size_hint().lower() > bytes_max as u64 {
            return Err(ApiError::BodyTooLarge(bytes_max));
        }
        let mut bytes = Vec::new();
        if gather(&mut body, &mut bytes, BODY_BYTES_MAX, bytes_max).await? {
            return Ok((bytes.into(), None));
        }
        let turn = self.0.large_bodies.turn(user).await.map_err(closed)?;
        loop {
            let goal = bytes.len() + LARGE_BODY_STEP_BYTES;
            let step = gather(&mut body, &mut bytes, goal, bytes_max);
            let step = timeout(LARGE_BODY_STEP_TIMEOUT, step).await;
            if step.map_err(|_| ApiError::BodyTooSlow)?? {
                return Ok((bytes.into(), Some(turn)));
            }
        }
    }

    /// Reads the body and runs the handler on a thread that may block.
    async fn with_body(&self, route: Route, user: &str, body: Body, make: impl FnOnce(Bytes) -> Request) -> Outcome {
        let (body, _large) = match timeout(BODY_TIMEOUT, self.read(user, body, route.body_bytes_max)).await {
            Ok(read) => read?,
            Err(_) => return Err(ApiError::BodyTooSlow),
        };
        let _turn = self.0.requests.acquire().await.map_err(closed)?;
        let request = make(body);
        let ran = tokio::task::spawn_blocking(move || (route.handler)(&request)).await;
        ran.unwrap_or_else(|_| Err(ApiError::Failed("the request failed; see the broker's log".to_owned())))
    }
}

fn closed(_: AcquireError) -> ApiError {
    ApiError::Unavailable("the broker is stopping".to_owned())
}

/// Reads until there are more bytes than the goal. Is that all of the body?
async fn gather(body: &mut Body, bytes: &mut Vec<u8>, goal: usize, bytes_max: usize) -> Result<bool, ApiError> {
    while bytes.len() <= goal {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        let Some(frame) = frame else { return Ok(true) };
        // The client is gone and hears nothing.
        let Ok(data) = frame.map_err(ApiError::bad)?.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > bytes_max {
            return Err(ApiError::BodyTooLarge(bytes_max));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(false)
}

/// Why the caller does this, if they say so.
fn reason(headers: &HeaderMap) -> Option<String> {
    let reason = headers.get("x-reason")?.to_str().ok()?;
    Some(reason.to_owned())
}
