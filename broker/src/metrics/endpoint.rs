//! `GET /metrics`, in Prometheus' text format.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::snapshot;
use crate::broker::Broker;

#[derive(Clone)]
struct Scraped {
    broker: Arc<Broker>,
    counters: Registry,
}

/// Answers scrapes until `stop` changes.
pub async fn serve(listener: TcpListener, broker: Arc<Broker>, counters: Registry, mut stop: watch::Receiver<bool>) {
    let router = Router::new().route("/metrics", get(metrics)).with_state(Scraped { broker, counters });
    let stopped = async move {
        let _ = stop.changed().await;
    };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
        tracing::error!("metrics endpoint ended: {error}");
    }
}

async fn metrics(State(scraped): State<Scraped>) -> Response {
    match render(&scraped) {
        Ok((text, format)) => ([(header::CONTENT_TYPE, format)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn render(scraped: &Scraped) -> Result<(Vec<u8>, String), prometheus::Error> {
    let mut families = scraped.counters.gather();
    families.extend(snapshot::gather(&scraped.broker)?);
    families.sort_by(|a, b| a.name().cmp(b.name()));
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    encoder.encode(&families, &mut text)?;
    Ok((text, encoder.format_type().to_owned()))
}
