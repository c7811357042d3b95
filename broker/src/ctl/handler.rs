//! What the broker does with the requests of `leveret ctl`.

use std::path::Path;
use std::sync::Arc;

use leveret_storage::{StorageError, Ticket};
use serde_json::Value;

use super::checks;
use super::connection_handler;
use super::error::{CtlError, ErrorKind};
use super::listings;
use super::node_handler;
use super::policy_handler;
use super::protocol::{Reply, Request, Response};
use super::server::CtlHandler;
use super::user_handler::{self, UserStore};
use super::vhost_handler;
use crate::auth::RecordChange;
use crate::broker::{AdminError, Broker};
use crate::definitions::{self, Document, ImportError, Plan};
use crate::vhost::queues::DeleteConditions;
use crate::vhost::{Actor, OperationError, Vhost};

impl CtlHandler for Broker {
    fn handle(&self, request: Request) -> Response {
        match user_handler::handle(&self.users, self, request) {
            Ok(response) => response,
            Err(request) => policy_handler::handle(self, request)
                .or_else(|request| vhost_handler::handle(self, request))
                .or_else(|request| connection_handler::handle(self, request))
                .or_else(|request| checks::handle(self, request))
                .or_else(|request| node_handler::handle(self, request))
                .unwrap_or_else(|request| execute(self, request).into()),
        }
    }
}

impl UserStore for Broker {
    fn save(&self, records: &[RecordChange]) -> Result<(), CtlError> {
        let ticket = self.store_user_changes(records).map_err(admin_error)?;
        wait(self, Some(ticket))
    }

    fn vhost_exists(&self, name: &str) -> bool {
        self.vhost(name).is_some()
    }
}

fn execute(broker: &Broker, request: Request) -> Result<Reply, CtlError> {
    match request {
        Request::ListQueues { vhost, columns } => {
            listings::queues(broker, &*find(broker, &vhost)?, &columns).map(Reply::Table)
        }
        Request::ListExchanges { vhost, columns } => {
            listings::exchanges(&*find(broker, &vhost)?, &columns).map(Reply::Table)
        }
        Request::ListBindings { vhost, columns } => {
            listings::bindings(&*find(broker, &vhost)?, &columns).map(Reply::Table)
        }
        Request::ListConsumers { vhost, columns } => {
            listings::consumers(broker, &*find(broker, &vhost)?, &columns).map(Reply::Table)
        }
        Request::ListConnections { columns } => listings::connections(broker, &columns).map(Reply::Table),
        Request::ListChannels { columns } => listings::channels(broker, &columns).map(Reply::Table),
        Request::ListDelayedMessages { vhost, exchange } => {
            listings::delayed_messages(&*find(broker, &vhost)?, &exchange).map(Reply::Table)
        }
        Request::CancelDelayedMessage { vhost, exchange, id } => cancel_delayed(broker, &vhost, &exchange, id),
        Request::PurgeQueue { vhost, name } => {
            let (count, durable) = find(broker, &vhost)?
                .purge_queue(&Actor::operator(), &name)
                .map_err(operation_error)?;
            wait(broker, durable)?;
            Ok(Reply::Message(format!("{count} messages purged")))
        }
        Request::AlterQueue { vhost, name, arguments } => alter_queue(broker, &vhost, &name, &arguments),
        Request::DeleteQueue {
            vhost,
            name,
            if_empty,
            if_unused,
        } => {
            let vhost = find(broker, &vhost)?;
            if vhost.find_queue(&name).is_none() {
                return Err(CtlError::new(
                    ErrorKind::NotFound,
                    format!("no queue '{name}' in vhost '{}'", vhost.name),
                ));
            }
            let conditions = DeleteConditions { if_unused, if_empty };
            let (count, durable) = vhost
                .delete_queue(&Actor::operator(), &name, conditions)
                .map_err(operation_error)?;
            wait(broker, durable)?;
            Ok(Reply::Message(format!("queue deleted with {count} ready messages")))
        }
        Request::ExportDefinitions {} => {
            let definitions = serde_json::to_value(definitions::export(broker));
            let definitions = definitions.map_err(|error| CtlError::new(ErrorKind::Internal, error.to_string()))?;
            Ok(Reply::Definitions(Box::new(definitions)))
        }
        Request::ImportDefinitions { definitions, dry_run } => import_definitions(broker, &definitions, dry_run),
        Request::Backup { directory } => back_up(broker, &directory),
        other => Err(CtlError::new(
            ErrorKind::Internal,
            format!("nobody executes '{}'", other.name()),
        )),
    }
}

fn import_definitions(broker: &Broker, definitions: &Value, dry_run: bool) -> Result<Reply, CtlError> {
    let refused = |error: ImportError| {
        let kind = match error {
            ImportError::Storage(_) => ErrorKind::Internal,
            _ => ErrorKind::Invalid,
        };
        CtlError::new(kind, error.to_string())
    };
    let document = Document::from_json(definitions).map_err(refused)?;
    let plan = Plan::new(broker, document).map_err(refused)?;
    let lines: Vec<String> = plan.differences().iter().map(ToString::to_string).collect();
    if !dry_run {
        plan.apply(broker).map_err(refused)?;
    }
    if lines.is_empty() {
        return Ok(Reply::Message("nothing differs".to_owned()));
    }
    Ok(Reply::Message(lines.join("\n")))
}

pub(super) fn find(broker: &Broker, name: &str) -> Result<Arc<Vhost>, CtlError> {
    let missing = || CtlError::new(ErrorKind::NotFound, format!("virtual host '{name}' does not exist"));
    broker.vhost(name).ok_or_else(missing)
}

fn back_up(broker: &Broker, directory: &str) -> Result<Reply, CtlError> {
    tracing::info!(directory, "a backup begins");
    match broker.store.backup(Path::new(directory)) {
        Ok(()) => {
            tracing::info!(directory, "the backup is complete");
            Ok(Reply::Message(format!("everything is in {directory}")))
        }
        Err(error) => {
            tracing::error!(directory, %error, "the backup failed");
            Err(match error {
                StorageError::Exists { .. } => CtlError::new(ErrorKind::AlreadyExists, error.to_string()),
                StorageError::NotWritable { .. } => {
                    let text = format!("{error}; the broker writes the copy itself, as the user that runs it");
                    CtlError::new(ErrorKind::Refused, text)
                }
                error => CtlError::new(ErrorKind::Internal, error.to_string()),
            })
        }
    }
}

fn cancel_delayed(broker: &Broker, vhost: &str, exchange: &str, id: u64) -> Result<Reply, CtlError> {
    let (found, durable) = find(broker, vhost)?
        .cancel_delayed(exchange, id)
        .map_err(operation_error)?;
    if !found {
        let text = format!("exchange '{exchange}' keeps no message {id}");
        return Err(CtlError::new(ErrorKind::NotFound, text));
    }
    wait(broker, durable)?;
    Ok(Reply::Done)
}

pub(super) fn wait(broker: &Broker, ticket: Option<Ticket>) -> Result<(), CtlError> {
    let Some(ticket) = ticket else { return Ok(()) };
    broker
        .store
        .wait(ticket)
        .map_err(|error| CtlError::new(ErrorKind::Internal, error.to_string()))
}

pub(super) fn admin_error(error: AdminError) -> CtlError {
    let kind = match &error {
        AdminError::VhostExists(_) => ErrorKind::AlreadyExists,
        AdminError::NoSuchVhost(_) => ErrorKind::NotFound,
        AdminError::VhostProtected(_) => ErrorKind::Refused,
        AdminError::VhostNameLength | AdminError::ClusterName | AdminError::Auth(_) => ErrorKind::Invalid,
        AdminError::Storage(_) => ErrorKind::Internal,
    };
    CtlError::new(kind, error.to_string())
}

pub(super) fn operation_error(error: OperationError) -> CtlError {
    let kind = match &error {
        OperationError::NotFound(_) | OperationError::NoSuchPolicy { .. } => ErrorKind::NotFound,
        OperationError::Policy(_) => ErrorKind::Invalid,
        OperationError::StorageFailed(_) => ErrorKind::Internal,
        _ => ErrorKind::Refused,
    };
    CtlError::new(kind, error.to_string())
}

fn alter_queue(broker: &Broker, vhost: &str, name: &str, arguments: &str) -> Result<Reply, CtlError> {
    let arguments: serde_json::Map<_, _> = serde_json::from_str(arguments).map_err(|error| {
        let text = format!("the arguments must be a JSON object: {error}");
        CtlError::new(ErrorKind::Invalid, text)
    })?;
    let durable = find(broker, vhost)?.alter_queue(&Actor::operator(), name, &arguments);
    wait(broker, durable.map_err(operation_error)?)?;
    Ok(Reply::Done)
}
