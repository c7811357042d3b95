//! Logins: how many succeeded and failed, and the hash of a password.

use serde_json::json;

use super::listing::{self, Row};
use super::overview::this_node;
use super::reply::{Outcome, Reply};
use super::request::Request;
use super::views::{AttemptsView, SourceAttemptsView};
use crate::auth::{HashedPassword, HashingAlgorithm};
use crate::clock;
use crate::metrics::LoginAttempts;

impl Row for SourceAttemptsView {
    fn name(&self) -> &str {
        &self.remote_address
    }
}

/// `GET /api/auth/attempts/{node}`: logins by protocol.
pub fn attempts(request: &Request) -> Outcome {
    this_node(request)?;
    let counters = &request.broker.counters;
    let row = |protocol, logins: &LoginAttempts| AttemptsView {
        protocol,
        auth_attempts: logins.failed() + logins.succeeded(),
        auth_attempts_failed: logins.failed(),
        auth_attempts_succeeded: logins.succeeded(),
    };
    Reply::json(&[
        row("amqp091", &counters.amqp_logins),
        row("http", &counters.http_logins),
    ])
}

/// `DELETE /api/auth/attempts/{node}`: counts them anew.
pub fn forget(request: &Request) -> Outcome {
    this_node(request)?;
    request.broker.counters.amqp_logins.forget();
    request.broker.counters.http_logins.forget();
    Ok(Reply::done())
}

/// `GET /api/auth/attempts/{node}/source`: what is remembered of sources that failed lately. An IPv6 source is its /64 network.
pub fn by_source(request: &Request) -> Outcome {
    this_node(request)?;
    let failures = request.broker.throttle.lock().failures(clock::now());
    let rows = failures.into_iter().map(|(source, failed)| SourceAttemptsView {
        remote_address: source.to_string(),
        username: "",
        protocol: "all",
        auth_attempts: failed,
        auth_attempts_failed: failed,
        auth_attempts_succeeded: 0,
    });
    listing::list(request, rows.collect())
}

/// `DELETE /api/auth/attempts/{node}/source`: forgets them, and with them how long they have to wait.
pub fn forget_sources(request: &Request) -> Outcome {
    this_node(request)?;
    request.broker.throttle.lock().forget();
    Ok(Reply::done())
}

/// `GET /api/auth/hash_password/{password}`: a hash that can stand as `password_hash`, which without an algorithm beside it means
/// RabbitMQ's usual one.
pub fn hash_password(request: &Request) -> Outcome {
    let hashed = HashedPassword::create(HashingAlgorithm::Sha256, request.part("password").as_bytes())?;
    Reply::json(&json!({ "ok": hashed.encoded() }))
}
