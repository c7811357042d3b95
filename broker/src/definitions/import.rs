//! Comparing a definitions file with what there is.

mod policies;
mod topology;
mod users;

use std::collections::HashSet;
use std::fmt;

use amq_protocol::types::FieldTable;
use leveret_storage::StorageError;
use serde::Deserialize as _;
use serde_json::Value;

use super::document::{
    BindingDefinition, Document, ExchangeDefinition, GlobalParameterDefinition, PermissionDefinition, PolicyDefinition,
    QueueDefinition, VhostDefinition,
};
use super::snapshot::Snapshots;
use crate::auth::{TopicPermissionRecord, User};
use crate::broker::Broker;
use crate::limits::{UserLimits, VhostLimits};
use crate::policy::{PolicyKind, PolicySpec};

/// Why a file is not imported. Display names what of it is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is no definitions file.
    #[error("not a definitions file: {0}")]
    Syntax(String),
    /// One of its objects cannot be.
    #[error("{what}: {reason}")]
    Object {
        /// Such as `queue 'q' in vhost '/'`.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store takes no more writes.
    #[error("{0}")]
    Storage(#[from] StorageError),
}

impl ImportError {
    pub(super) fn object(what: impl fmt::Display, reason: impl ToString) -> ImportError {
        ImportError::Object {
            what: what.to_string(),
            reason: reason.to_string(),
        }
    }
}

/// What becomes of one object of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is not there and will be made.
    Made,
    /// It is there, differs, and will be as the file says.
    Changed,
    /// It is there, differs, and stays as it is: changing it would cost its messages.
    Kept,
    /// This broker has nothing of the kind.
    Unsupported,
}

/// A difference between the file and the broker. Prints as a line with `+`, `~`, `=` or `!` before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    fate: Fate,
    what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = &self.what;
        match self.fate {
            Fate::Made => write!(f, "+ {what}"),
            Fate::Changed => write!(f, "~ {what}"),
            Fate::Kept => write!(f, "= {what} differs and stays as it is"),
            Fate::Unsupported => write!(f, "! {what} is not supported and left out"),
        }
    }
}

/// What importing a file would do.
#[derive(Default)]
pub struct Plan {
    pub(super) vhosts: Vec<VhostDefinition>,
    pub(super) users: Vec<User>,
    pub(super) permissions: Vec<PermissionDefinition>,
    pub(super) topic_permissions: Vec<TopicPermissionRecord>,
    pub(super) user_limits: Vec<(String, UserLimits)>,
    pub(super) policies: Vec<(String, PolicyKind, PolicySpec)>,
    pub(super) vhost_limits: Vec<(String, VhostLimits)>,
    pub(super) global_parameters: Vec<GlobalParameterDefinition>,
    pub(super) exchanges: Vec<(ExchangeDefinition, FieldTable)>,
    pub(super) queues: Vec<(QueueDefinition, FieldTable)>,
    pub(super) bindings: Vec<(BindingDefinition, FieldTable)>,
    differences: Vec<Difference>,
}

fn not_an_object() -> ImportError {
    ImportError::Syntax("a JSON object is expected".to_owned())
}

impl Document {
    /// Reads a file.
    pub fn parse(text: &[u8]) -> Result<Document, ImportError> {
        // A list would be taken for the fields of an object in their order.
        if text.trim_ascii_start().first() == Some(&b'[') {
            return Err(not_an_object());
        }
        serde_json::from_slice(text).map_err(|error| ImportError::Syntax(error.to_string()))
    }

    /// Reads what was JSON already.
    pub fn from_json(json: &Value) -> Result<Document, ImportError> {
        if !json.is_object() {
            return Err(not_an_object());
        }
        Document::deserialize(json).map_err(|error| ImportError::Syntax(error.to_string()))
    }

    /// Adds the virtual hosts that the file does not name.
    pub fn add_vhosts(&mut self, names: &[&str]) {
        let vhosts = self.vhosts.get_or_insert_default();
        for name in names {
            if !vhosts.iter().any(|vhost| vhost.name == *name) {
                vhosts.push(VhostDefinition {
                    name: (*name).to_owned(),
                    ..VhostDefinition::default()
                });
            }
        }
    }

    /// The same for one virtual host: what is outside is left out, what is inside goes there.
    pub fn into_vhost(self, vhost: &str) -> Document {
        let mut document = Document {
            users: None,
            vhosts: None,
            permissions: None,
            topic_permissions: None,
            global_parameters: None,
            ..self
        };
        let names = document.queues.iter_mut().map(|queue| &mut queue.vhost);
        let names = names.chain(document.exchanges.iter_mut().map(|exchange| &mut exchange.vhost));
        let names = names.chain(document.bindings.iter_mut().map(|binding| &mut binding.vhost));
        let names = names.chain(document.policies.iter_mut().map(|policy| &mut policy.vhost));
        let names = names.chain(document.parameters.iter_mut().map(|parameter| &mut parameter.vhost));
        names.for_each(|name| *name = Some(vhost.to_owned()));
        document
    }
}

impl Plan {
    /// Compares a file with what there is. Fails when something in the file cannot be; nothing is changed then.
    pub fn new(broker: &Broker, document: Document) -> Result<Plan, ImportError> {
        let mut plan = Plan::default();
        let vhosts = document.vhosts.unwrap_or_default();
        let names = vhosts.iter().map(|vhost| vhost.name.clone());
        let there = broker.vhosts().into_iter().map(|vhost| vhost.name.to_string());
        let known: HashSet<String> = names.chain(there).collect();
        vhosts.into_iter().try_for_each(|vhost| plan.vhost(broker, vhost))?;
        for user in document.users.unwrap_or_default() {
            plan.user(broker, user)?;
        }
        for permission in document.permissions.unwrap_or_default() {
            plan.permission(broker, &known, permission)?;
        }
        for permission in document.topic_permissions.unwrap_or_default() {
            plan.topic_permission(broker, &known, permission)?;
        }
        for parameter in document.global_parameters.unwrap_or_default() {
            plan.global_parameter(broker, parameter)?;
        }
        let mut snapshots = Snapshots::new(broker, &known);
        for PolicyDefinition { vhost, spec } in document.policies {
            plan.policy(&mut snapshots, vhost.as_deref(), PolicyKind::User, spec)?;
        }
        for parameter in document.parameters {
            plan.parameter(&mut snapshots, parameter)?;
        }
        for exchange in document.exchanges {
            plan.exchange(&mut snapshots, exchange)?;
        }
        for queue in document.queues {
            plan.queue(&mut snapshots, queue)?;
        }
        for binding in document.bindings {
            plan.binding(&mut snapshots, binding)?;
        }
        Ok(plan)
    }

    /// What would change, a line each.
    pub fn differences(&self) -> &[Difference] {
        &self.differences
    }

    /// What this broker cannot have.
    pub fn left_out(&self) -> impl Iterator<Item = String> {
        let unsupported = |difference: &&Difference| difference.fate == Fate::Unsupported;
        self.differences
            .iter()
            .filter(unsupported)
            .map(|difference| difference.what.clone())
    }

    /// Does the file bring users?
    pub fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    fn note(&mut self, fate: Fate, what: impl fmt::Display) {
        self.differences.push(Difference {
            fate,
            what: what.to_string(),
        });
    }
}
