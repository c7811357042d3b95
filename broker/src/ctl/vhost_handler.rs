//! What the broker does with the commands about virtual hosts.

use super::error::{CtlError, ErrorKind};
use super::handler::{admin_error, find, wait};
use super::listings;
use super::protocol::{Reply, Request, Response};
use crate::broker::Broker;
use crate::vhost::redeclare::RedeclareRule;

/// Executes the request if it is about virtual hosts; gives it back if it is not.
pub fn handle(broker: &Broker, request: Request) -> Result<Response, Request> {
    let changed = match request {
        Request::AddVhost { name } => broker.add_vhost(&name).map_err(admin_error),
        Request::DeleteVhost { name } => broker.delete_vhost(&name).map_err(admin_error),
        Request::UpdateVhostMetadata {
            name,
            description,
            tags,
            default_queue_type,
            redeclare_rule,
        } => find(broker, &name).and_then(|vhost| {
            let mut about = vhost.about();
            about.description = description.unwrap_or(about.description);
            about.tags = tags.unwrap_or(about.tags);
            if let Some(queue_type) = default_queue_type {
                about.default_queue_type = parse_queue_type(&queue_type)?;
            }
            if let Some(rule) = redeclare_rule {
                about.redeclare_rule = parse_rule(&rule)?;
            }
            broker.describe_vhost(&name, about).map_err(admin_error)
        }),
        Request::ListVhosts { columns } => return Ok(listings::vhosts(broker, &columns).into()),
        other => return Err(other),
    };
    let done = changed.and_then(|ticket| wait(broker, Some(ticket)));
    Ok(done.map(|()| Reply::Done).into())
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
