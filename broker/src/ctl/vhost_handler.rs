//! What the broker does with the commands about virtual hosts.

use leveret_storage::Ticket;

use super::error::{CtlError, ErrorKind};
use super::handler::{admin_error, find, wait};
use super::listings;
use super::protocol::{Reply, Request, Response};
use crate::broker::Broker;
use crate::vhost::About;
use crate::vhost::redeclare::RedeclareRule;

/// Executes the request if it is about virtual hosts; gives it back if it is not.
pub fn handle(broker: &Broker, request: Request) -> Result<Response, Request> {
    let changed = match request {
        // As with rabbitmqctl, which scripts rely on.
        Request::AddVhost { name, .. } if broker.vhost(&name).is_some() => return Ok(Response::Ok(Reply::Done)),
        Request::AddVhost {
            name,
            description,
            tags,
            default_queue_type,
        } => add(broker, &name, description, tags, default_queue_type.as_deref()),
        Request::DeleteVhost { name } => broker.delete_vhost(&name).map_err(admin_error),
        Request::UpdateVhostMetadata {
            name,
            description,
            tags,
            default_queue_type,
            redeclare_rule,
        } => update_metadata(broker, &name, description, tags, default_queue_type, redeclare_rule),
        Request::ProtectVhost { name, protected } => broker
            .describe_vhost(&name, |about| about.protected_from_deletion = protected)
            .map_err(admin_error),
        Request::TraceVhost { vhost, on } => {
            let traced = find(broker, &vhost).map(|vhost| vhost.set_tracing(on, &broker.node_name));
            return Ok(traced.map(|()| Reply::Done).into());
        }
        Request::ListVhosts { columns } => return Ok(listings::vhosts(broker, &columns).into()),
        other => return Err(other),
    };
    let done = changed.and_then(|ticket| wait(broker, Some(ticket)));
    Ok(done.map(|()| Reply::Done).into())
}

fn add(
    broker: &Broker,
    name: &str,
    description: String,
    tags: Vec<String>,
    queue_type: Option<&str>,
) -> Result<Ticket, CtlError> {
    let about = About {
        description,
        tags,
        default_queue_type: queue_type.map(parse_queue_type).transpose()?.flatten(),
        ..About::default()
    };
    broker.add_vhost_with(name, about).map_err(admin_error)
}

fn update_metadata(
    broker: &Broker,
    name: &str,
    description: Option<String>,
    tags: Option<Vec<String>>,
    queue_type: Option<String>,
    rule: Option<String>,
) -> Result<Ticket, CtlError> {
    let queue_type = queue_type.as_deref().map(parse_queue_type).transpose()?;
    let rule = rule.as_deref().map(parse_rule).transpose()?;
    let edit = |about: &mut About| {
        if let Some(description) = description {
            about.description = description;
        }
        if let Some(tags) = tags {
            about.tags = tags;
        }
        about.default_queue_type = queue_type.unwrap_or_else(|| about.default_queue_type.take());
        about.redeclare_rule = rule.unwrap_or(about.redeclare_rule);
    };
    broker.describe_vhost(name, edit).map_err(admin_error)
}

fn parse_queue_type(name: &str) -> Result<Option<String>, CtlError> {
    match name {
        "" | "undefined" => Ok(None),
        "classic" | "quorum" => Ok(Some(name.to_owned())),
        other => Err(CtlError::new(
            ErrorKind::Invalid,
            format!("unsupported default queue type '{other}'"),
        )),
    }
}

fn parse_rule(name: &str) -> Result<Option<RedeclareRule>, CtlError> {
    let unknown = || {
        let names = RedeclareRule::ALL.map(|(name, _)| name).join(", ");
        let text = format!("unknown redeclare rule '{name}'; known are {names} and default");
        CtlError::new(ErrorKind::Invalid, text)
    };
    match name {
        "default" => Ok(None),
        name => RedeclareRule::parse(name).map(Some).ok_or_else(unknown),
    }
}
