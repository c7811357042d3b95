//! Health checks: 200 when all is well, 503 and a reason when it is not.

use std::time::Duration;

use axum::http::StatusCode;

use super::overview::this_node;
use super::reply::{ApiError, Outcome, Reply};
use super::request::Request;
use super::views::{AlarmView, CheckView};
use crate::broker::{Listener, protocol_asked};
use crate::clock;

fn ok() -> CheckView {
    CheckView {
        status: "ok",
        ..CheckView::default()
    }
}

fn failed(reason: impl ToString) -> CheckView {
    CheckView {
        status: "failed",
        reason: Some(reason.to_string()),
        ..CheckView::default()
    }
}

fn unhealthy(check: &CheckView) -> Outcome {
    Reply::with_status(StatusCode::SERVICE_UNAVAILABLE, check)
}

/// `GET /health/live`: the process answers.
pub fn live(_request: &Request) -> Outcome {
    Reply::json(&ok())
}

/// `GET /health/ready`: clients can be served. An alarm is no reason against it, for consumers go on.
pub fn ready(request: &Request) -> Outcome {
    if let Some(reason) = request.broker.out_of_service() {
        return unhealthy(&failed(reason));
    }
    Reply::json(&ok())
}

/// `GET /api/healthchecks/node` and `/api/healthchecks/node/{node}`, which old tools ask for.
pub fn node(request: &Request) -> Outcome {
    if !request.part("node").is_empty() {
        this_node(request)?;
    }
    ready(request)
}

/// The checks of RabbitMQ that always succeed on a single node.
pub fn always(_request: &Request) -> Outcome {
    Reply::json(&ok())
}

/// `GET /api/health/checks/node-is-quorum-critical`: nobody's majority depends on a node that is alone.
pub fn never_critical(_request: &Request) -> Outcome {
    Reply::json(&CheckView {
        reason: Some("single node cluster".to_owned()),
        ..ok()
    })
}

/// `GET /api/aliveness-test/{vhost}`.
pub fn aliveness(request: &Request) -> Outcome {
    request.vhost()?;
    ready(request)
}

/// `GET /api/health/checks/alarms` and `local-alarms`.
pub fn alarms(request: &Request) -> Outcome {
    let alarms = &request.broker.alarms;
    let on = [(alarms.is_memory_on(), "memory"), (alarms.is_disk_on(), "disk")];
    let on = on
        .into_iter()
        .filter(|(is_on, _)| *is_on)
        .map(|(_, resource)| AlarmView {
            node: request.broker.node_name.clone(),
            resource,
        });
    let alarms: Vec<_> = on.collect();
    if alarms.is_empty() {
        return Reply::json(&ok());
    }
    unhealthy(&CheckView {
        alarms: Some(alarms),
        ..failed("There are alarms in effect in the cluster")
    })
}

/// `GET /api/health/checks/below-node-connection-limit`.
pub fn below_connection_limit(request: &Request) -> Outcome {
    let limit = request.broker.live().connection_max;
    let open = request.broker.open_connections();
    match limit {
        Some(limit) if open >= limit as usize => unhealthy(&failed(format!(
            "there are {open} connections, and at most {limit} are allowed"
        ))),
        _ => Reply::json(&ok()),
    }
}

/// `GET /api/health/checks/port-listener/{port}`.
pub fn port_listener(request: &Request) -> Outcome {
    let port: u32 = request
        .part("port")
        .parse()
        .map_err(|_| ApiError::bad("the port must be a number"))?;
    let listeners = request.broker.listeners();
    let ports: Vec<u16> = listeners.iter().map(|listener| listener.address.port()).collect();
    if ports.iter().any(|listened| u32::from(*listened) == port) {
        return Reply::json(&CheckView {
            port: Some(port),
            ..ok()
        });
    }
    unhealthy(&CheckView {
        missing: Some(port.into()),
        ports: Some(ports),
        ..failed("No active listener")
    })
}

/// `GET /api/health/checks/certificate-expiration/{within}/{unit}`: no certificate of this server expires so soon.
pub fn certificate_expiration(request: &Request) -> Outcome {
    let unit_days = match request.part("unit") {
        "day" | "days" => 1,
        "week" | "weeks" => 7,
        "month" | "months" => 30,
        "year" | "years" => 365,
        _ => return Err(ApiError::bad("the unit must be days, weeks, months or years")),
    };
    let within: u32 = request
        .part("within")
        .parse()
        .map_err(|_| ApiError::bad("the time must be a whole number"))?;
    let within = Duration::from_secs(u64::from(within) * unit_days * 24 * 3600);
    let Some(expires) = request.broker.tls.get().and_then(|tls| tls.expires()) else {
        return Reply::json(&ok());
    };
    if expires.saturating_sub(clock::unix_time()) > within {
        return Reply::json(&ok());
    }
    unhealthy(&failed("A certificate of this server expires within that time"))
}

/// `GET /api/health/checks/protocol-listener/{protocol}`.
pub fn protocol_listener(request: &Request) -> Outcome {
    let asked = request.part("protocol");
    let protocol = protocol_asked(asked);
    let listeners = request.broker.listeners();
    let protocols: Vec<_> = listeners.iter().map(Listener::protocol).collect();
    if protocols.contains(&protocol.as_str()) {
        return Reply::json(&CheckView {
            protocol: Some(asked.to_owned()),
            ..ok()
        });
    }
    unhealthy(&CheckView {
        missing: Some(asked.into()),
        protocols: Some(protocols),
        ..failed("No active listener")
    })
}
