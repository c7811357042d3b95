//! `GET /metrics`, in Prometheus' text format, and `GET /health` for whatever restarts or replaces brokers.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Encoder, Registry, TextEncoder};

use super::snapshot;
use crate::broker::Broker;
use crate::net::http::Site;

#[derive(Clone)]
struct Scraped {
    broker: Arc<Broker>,
    counters: Registry,
}

/// The metrics for any number of listeners.
pub fn site(broker: Arc<Broker>, counters: Registry) -> Site {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .with_state(Scraped { broker, counters });
    Site::new(router)
}

async fn metrics(State(scraped): State<Scraped>) -> Response {
    match render(&scraped) {
        Ok((text, format)) => ([(header::CONTENT_TYPE, format)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
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

fn render(scraped: &Scraped) -> Result<(String, String), prometheus::Error> {
    let mut families = scraped.counters.gather();
    families.extend(snapshot::gather(&scraped.broker)?);
    families.sort_by(|a, b| a.name().cmp(b.name()));
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    encoder.encode(&families, &mut text)?;
    let text = String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))?;
    Ok((as_dashboards_expect(&text), encoder.format_type().to_owned()))
}

/// Bounds of the message size histogram as the encoder prints them, and as RabbitMQ's dashboards look for them.
const BOUND_SPELLINGS: [(&str, &str); 8] = [
    ("100", "100.0"),
    ("1000", "1000.0"),
    ("10000", "10000.0"),
    ("100000", "100000.0"),
    ("1000000", "1e+06"),
    ("10000000", "1e+07"),
    ("50000000", "5e+07"),
    ("100000000", "1e+08"),
];

fn as_dashboards_expect(text: &str) -> String {
    let mut spelled = String::with_capacity(text.len() + 64);
    for line in text.lines() {
        let spelling = line.starts_with("rabbitmq_message_size_bytes_bucket").then(|| {
            BOUND_SPELLINGS
                .iter()
                .find(|(printed, _)| line.contains(&format!("le=\"{printed}\"")))
        });
        match spelling.flatten() {
            Some((printed, expected)) => {
                spelled.push_str(&line.replace(&format!("le=\"{printed}\""), &format!("le=\"{expected}\"")));
            }
            None => spelled.push_str(line),
        }
        spelled.push('\n');
    }
    spelled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_bounds_are_spelled_as_dashboards_query_them() {
        let text = "rabbitmq_message_size_bytes_bucket{le=\"1000000\"} 3\nrabbitmq_queues{le=\"100\"} 1\n";
        let expected = "rabbitmq_message_size_bytes_bucket{le=\"1e+06\"} 3\nrabbitmq_queues{le=\"100\"} 1\n";
        assert_eq!(as_dashboards_expect(text), expected);
    }
}
