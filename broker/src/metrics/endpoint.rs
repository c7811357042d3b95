//! `GET /metrics` and its siblings, in Prometheus' text format, and `GET /health` for whatever restarts or replaces brokers.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TEXT_FORMAT};
use tokio::sync::Semaphore;

use super::families::Selection;
use super::scrape::{Page, render};
use crate::broker::Broker;
use crate::config::MetricsAccess;
use crate::management::require_monitoring;
use crate::net::http::{Peer, Site};

/// Pages made at once, beside the threads that serve AMQP; others wait.
const SCRAPES_MAX: usize = 2;

#[derive(Clone)]
struct Scraped {
    broker: Arc<Broker>,
    counters: Registry,
    turns: Arc<Semaphore>,
}

/// The metrics for any number of listeners.
pub fn site(broker: Arc<Broker>, counters: Registry) -> Site {
    let scraped = Scraped {
        broker,
        counters,
        turns: Arc::new(Semaphore::new(SCRAPES_MAX)),
    };
    let router = Router::new()
        .route(
            "/metrics",
            get(async |State(scraped)| answer(scraped, Page::Aggregated).await),
        )
        .route(
            "/metrics/per-object",
            get(async |State(scraped)| answer(scraped, Page::PerObject).await),
        )
        .route("/metrics/detailed", get(detailed))
        .route(
            "/metrics/memory-breakdown",
            get(async |State(scraped)| answer(scraped, Page::MemoryBreakdown).await),
        )
        .route_layer(from_fn_with_state(scraped.clone(), admit))
        .route("/health", get(health))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .with_state(scraped);
    Site::new(router)
}

/// Where a login is asked for, the pages are for those who may monitor. Whether the broker is well is no secret.
async fn admit(State(scraped): State<Scraped>, request: Request, next: Next) -> Response {
    if scraped.broker.live().metrics_access == MetricsAccess::Monitoring {
        let Some(Peer(peer)) = request.extensions().get().copied() else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let admitted = require_monitoring(&scraped.broker, peer.ip(), request.headers()).await;
        if let Err(refusal) = admitted {
            return refusal;
        }
    }
    next.run(request).await
}

async fn detailed(State(scraped): State<Scraped>, Query(query): Query<Vec<(String, String)>>) -> Response {
    answer(scraped, Page::Detailed(Selection::of_query(&query))).await
}

async fn answer(scraped: Scraped, page: Page) -> Response {
    let Ok(turn) = scraped.turns.clone().acquire_owned().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let made = tokio::task::spawn_blocking(move || {
        // Held until the page is made, also when nobody waits for it any more.
        let _turn = turn;
        render(&scraped.broker, &scraped.counters, &page).map_err(|error| error.to_string())
    });
    let failed = |_| Err("the scrape failed; see the broker's log".to_owned());
    match made.await.unwrap_or_else(failed) {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(reason) => (StatusCode::INTERNAL_SERVER_ERROR, reason + "\n").into_response(),
    }
}

/// 200 while publishers are confirmed, else 503 and a line for each reason why not.
async fn health(State(scraped): State<Scraped>) -> Response {
    let troubles = scraped.broker.troubles();
    if troubles.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, troubles.join("\n") + "\n").into_response()
}

/// The process answers.
async fn live() -> &'static str {
    "ok\n"
}

/// 200 while clients are served, else 503 and the reason why not.
async fn ready(State(scraped): State<Scraped>) -> Response {
    match scraped.broker.out_of_service() {
        None => "ok\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}
