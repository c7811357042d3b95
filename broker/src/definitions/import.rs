//! Comparing a definitions file with what there is.

use std::collections::HashSet;
use std::fmt;

use amq_protocol::types::FieldTable;
use leveret_routing::ExchangeKind;
use leveret_storage::StorageError;
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::document::{
    BindingDefinition, Document, ExchangeDefinition, GlobalParameterDefinition, OPERATOR_POLICY, ParameterDefinition,
    PermissionDefinition, PolicyDefinition, QueueDefinition, TopicPermissionDefinition, UserDefinition, VHOST_LIMITS,
    VhostDefinition,
};
use super::export::is_predeclared;
use super::snapshot::{BindingIdentity, Snapshots};
use crate::auth::{
    AuthError, HashedPassword, HashingAlgorithm, Permissions, TopicPermissionRecord, TopicPermissions, User, Users,
};
use crate::broker::{AdminError, Broker, CLUSTER_NAME};
use crate::json::{NotATable, table_from_json, table_json};
use crate::limits::{UserLimits, VhostLimits};
use crate::policy::{Policy, PolicyKind, PolicySpec};
use crate::vhost::About;

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

    fn vhost(&mut self, broker: &Broker, vhost: VhostDefinition) -> Result<(), ImportError> {
        let what = format!("vhost '{}'", vhost.name);
        if vhost.name.is_empty() || vhost.name.len() > 255 {
            return Err(ImportError::object(what, AdminError::VhostNameLength));
        }
        match broker.vhost(&vhost.name).map(|existing| existing.about()) {
            Some(about) if about == vhost.about(Some(&about)) => return Ok(()),
            // A file that says nothing about it does not take away what somebody said.
            Some(_) if vhost.about(None) == About::default() && !vhost.says_of_protection() => return Ok(()),
            Some(_) => self.note(Fate::Changed, what),
            None => self.note(Fate::Made, what),
        }
        self.vhosts.push(vhost);
        Ok(())
    }

    fn user(&mut self, broker: &Broker, user: UserDefinition) -> Result<(), ImportError> {
        let what = format!("user '{}'", user.name);
        let existing = broker.users.get(&user.name);
        let limits: UserLimits = serde_json::from_value(user.limits.clone()).unwrap_or_default();
        if limits != broker.user_limits(&user.name) {
            self.note(Fate::Changed, format!("limits of {what}"));
            self.user_limits.push((user.name.clone(), limits));
        }
        let password =
            password(&broker.users, &user, existing.as_deref()).map_err(|error| ImportError::object(&what, error))?;
        let user = User {
            name: user.name,
            password,
            tags: user.tags,
        };
        match existing {
            Some(existing) if *existing == user => return Ok(()),
            Some(_) => self.note(Fate::Changed, what),
            None => self.note(Fate::Made, what),
        }
        self.users.push(user);
        Ok(())
    }

    fn permission(
        &mut self,
        broker: &Broker,
        vhosts: &HashSet<String>,
        permission: PermissionDefinition,
    ) -> Result<(), ImportError> {
        let PermissionDefinition {
            user,
            vhost,
            configure,
            write,
            read,
        } = &permission;
        let what = format!("permissions of user '{user}' in vhost '{vhost}'");
        let wanted = Permissions::new(configure, write, read).map_err(|error| ImportError::object(&what, error))?;
        let has_user = broker.users.get(user).is_some() || self.users.iter().any(|own| own.name == *user);
        if !has_user || !vhosts.contains(vhost) {
            return Err(ImportError::object(what, "the user or the virtual host does not exist"));
        }
        match broker.users.access(user, vhost) {
            Some(existing) if *existing == wanted => return Ok(()),
            Some(_) => self.note(Fate::Changed, what),
            None => self.note(Fate::Made, what),
        }
        self.permissions.push(permission);
        Ok(())
    }

    fn topic_permission(
        &mut self,
        broker: &Broker,
        vhosts: &HashSet<String>,
        permission: TopicPermissionDefinition,
    ) -> Result<(), ImportError> {
        let TopicPermissionDefinition {
            user,
            vhost,
            exchange,
            write,
            read,
        } = permission;
        let what = format!("topic permissions of user '{user}' for exchange '{exchange}' in vhost '{vhost}'");
        let has_user = broker.users.get(&user).is_some() || self.users.iter().any(|own| own.name == user);
        if !has_user || !vhosts.contains(&vhost) {
            return Err(ImportError::object(what, "the user or the virtual host does not exist"));
        }
        let record = TopicPermissionRecord {
            user,
            vhost,
            exchange,
            write,
            read,
        };
        TopicPermissions::default()
            .with(&record)
            .map_err(|error| ImportError::object(&what, error))?;
        let existing = broker.users.topic_permissions(&record.user, &record.vhost);
        let mut existing = existing.records(&record.user, &record.vhost).into_iter();
        match existing.find(|known| known.exchange == record.exchange) {
            Some(existing) if existing == record => return Ok(()),
            Some(_) => self.note(Fate::Changed, what),
            None => self.note(Fate::Made, what),
        }
        self.topic_permissions.push(record);
        Ok(())
    }

    fn global_parameter(&mut self, broker: &Broker, parameter: GlobalParameterDefinition) -> Result<(), ImportError> {
        let what = format!("global parameter '{}'", parameter.name);
        if parameter.name == CLUSTER_NAME && !parameter.value.is_string() {
            return Err(ImportError::object(what, AdminError::ClusterName));
        }
        let mut existing = broker.global_parameters().into_iter();
        match existing.find(|(name, _)| *name == parameter.name) {
            Some((_, value)) if value == parameter.value => return Ok(()),
            Some(_) => self.note(Fate::Changed, what),
            None => self.note(Fate::Made, what),
        }
        self.global_parameters.push(parameter);
        Ok(())
    }

    /// A policy that this broker does not understand, as of RabbitMQ's mirrored queues, is left out and told.
    fn policy(
        &mut self,
        snapshots: &mut Snapshots<'_>,
        vhost: Option<&str>,
        kind: PolicyKind,
        spec: PolicySpec,
    ) -> Result<(), ImportError> {
        let vhost = snapshots.of(vhost, "policy", &spec.name)?;
        let kind_name = match kind {
            PolicyKind::User => "policy",
            PolicyKind::Operator => "operator policy",
        };
        let what = format!("{kind_name} '{}' in vhost '{}'", spec.name, vhost.name);
        if let Err(error) = Policy::new(kind, spec.clone()) {
            self.note(Fate::Unsupported, format!("{what} ({error})"));
            return Ok(());
        }
        let existing = vhost
            .vhost
            .as_ref()
            .map(|vhost| vhost.policies(kind))
            .unwrap_or_default();
        match existing.iter().find(|policy| policy.spec.name == spec.name) {
            Some(existing) if existing.spec == spec => return Ok(()),
            Some(_) => self.note(Fate::Changed, what),
            None => self.note(Fate::Made, what),
        }
        self.policies.push((vhost.name.clone(), kind, spec));
        Ok(())
    }

    fn parameter(&mut self, snapshots: &mut Snapshots<'_>, parameter: ParameterDefinition) -> Result<(), ImportError> {
        let ParameterDefinition {
            vhost,
            component,
            name,
            value,
        } = parameter;
        let broken =
            |error: serde_json::Error| ImportError::object(format!("parameter '{name}' of {component}"), error);
        if component == OPERATOR_POLICY {
            let spec = PolicySpec {
                name: name.clone(),
                ..serde_json::from_value(value).map_err(broken)?
            };
            return self.policy(snapshots, vhost.as_deref(), PolicyKind::Operator, spec);
        }
        let vhost = snapshots.of(vhost.as_deref(), "parameter", &name)?;
        if component != VHOST_LIMITS.0 {
            self.note(
                Fate::Unsupported,
                format!("parameter '{name}' of {component} in vhost '{}'", vhost.name),
            );
            return Ok(());
        }
        let limits = VhostLimits::default()
            .updated(&value.to_string())
            .map_err(|error| ImportError::object(format!("limits of vhost '{}'", vhost.name), error))?;
        if vhost.vhost.as_ref().map(|vhost| vhost.limits()).unwrap_or_default() != limits {
            self.note(Fate::Changed, format!("limits of vhost '{}'", vhost.name));
            self.vhost_limits.push((vhost.name.clone(), limits));
        }
        Ok(())
    }

    fn exchange(&mut self, snapshots: &mut Snapshots<'_>, exchange: ExchangeDefinition) -> Result<(), ImportError> {
        let vhost = snapshots.of(exchange.vhost.as_deref(), "exchange", &exchange.name)?;
        let what = format!("exchange '{}' in vhost '{}'", exchange.name, vhost.name);
        let arguments = table(&what, &exchange.arguments)?;
        if is_predeclared(&exchange.name) {
            return Ok(());
        }
        let kind = ExchangeKind::parse(&exchange.kind)
            .ok_or_else(|| ImportError::object(&what, format!("unknown exchange type '{}'", exchange.kind)))?;
        let existing = vhost
            .vhost
            .as_ref()
            .and_then(|vhost| vhost.find_exchange(&exchange.name));
        vhost.exchanges.insert(exchange.name.clone());
        if let Some(existing) = existing {
            let same = (existing.kind, existing.durable, existing.auto_delete, existing.internal)
                == (kind, exchange.durable, exchange.auto_delete, exchange.internal)
                && table_json(&existing.arguments) == table_json(&arguments);
            if !same {
                self.note(Fate::Kept, what);
            }
            return Ok(());
        }
        self.note(Fate::Made, what);
        self.exchanges.push((exchange, arguments));
        Ok(())
    }

    fn queue(&mut self, snapshots: &mut Snapshots<'_>, queue: QueueDefinition) -> Result<(), ImportError> {
        let vhost = snapshots.of(queue.vhost.as_deref(), "queue", &queue.name)?;
        let what = format!("queue '{}' in vhost '{}'", queue.name, vhost.name);
        if queue.name.is_empty() || queue.name.len() > 255 {
            return Err(ImportError::object(what, "a queue's name must have 1 to 255 bytes"));
        }
        let arguments = table(&what, &queue.arguments)?;
        crate::queue::QueueArguments::parse(arguments.clone())
            .map_err(|error| ImportError::object(&what, error.explain(&queue.name, &vhost.name)))?;
        vhost.queues.insert(queue.name.clone());
        let existing = vhost.vhost.as_ref().and_then(|vhost| vhost.find_queue(&queue.name));
        if let Some(existing) = existing {
            let properties = &existing.properties;
            let same = (properties.durable, properties.auto_delete) == (queue.durable, queue.auto_delete)
                && table_json(existing.arguments().table()) == table_json(&arguments);
            if !same {
                self.note(Fate::Kept, what);
            }
            return Ok(());
        }
        self.note(Fate::Made, what);
        self.queues.push((queue, arguments));
        Ok(())
    }

    fn binding(&mut self, snapshots: &mut Snapshots<'_>, binding: BindingDefinition) -> Result<(), ImportError> {
        let vhost = snapshots.of(binding.vhost.as_deref(), "binding of exchange", &binding.source)?;
        let BindingDefinition {
            source,
            destination,
            destination_type,
            routing_key,
            ..
        } = &binding;
        let what = format!(
            "binding of {destination_type} '{destination}' to exchange '{source}' under '{routing_key}' in vhost '{}'",
            vhost.name
        );
        let arguments = table(&what, &binding.arguments)?;
        // Every queue is bound to the default exchange.
        if source.is_empty() {
            return Ok(());
        }
        if routing_key.len() > 255 {
            return Err(ImportError::object(what, "the routing key is longer than 255 bytes"));
        }
        let ends = match destination_type.as_str() {
            "queue" => vhost.queues.contains(destination),
            "exchange" => vhost.has_exchange(destination),
            other => {
                return Err(ImportError::object(
                    &what,
                    format!("unknown destination_type '{other}'"),
                ));
            }
        };
        if !ends || !vhost.has_exchange(source) {
            return Err(ImportError::object(what, "one of its ends does not exist"));
        }
        if !vhost.bindings.insert(BindingIdentity::of(&binding, &arguments)) {
            return Ok(());
        }
        self.note(Fate::Made, what);
        self.bindings.push((binding, arguments));
        Ok(())
    }
}

fn table(what: &str, arguments: &Map<String, Value>) -> Result<FieldTable, ImportError> {
    table_from_json(arguments).map_err(|error: NotATable| ImportError::object(what, error))
}

/// The hash of the file, or of its plain password unless the user has that password already.
fn password(users: &Users, user: &UserDefinition, existing: Option<&User>) -> Result<HashedPassword, AuthError> {
    if let Some(plain) = &user.password {
        if let Some(existing) = existing.filter(|existing| existing.password.verify(plain.as_bytes())) {
            return Ok(existing.password.clone());
        }
        return users.hash(plain.as_bytes());
    }
    let algorithm = match &user.hashing_algorithm {
        Some(name) => HashingAlgorithm::from_name(name)?,
        None => HashingAlgorithm::Sha256,
    };
    HashedPassword::decode(algorithm, &user.password_hash)
}
