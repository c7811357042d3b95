//! A request as handlers see it: who asks, the parts of the path, the query and the fields of the body.

use std::sync::Arc;

use amq_protocol::types::FieldTable;
use axum::body::Bytes;
use leveret_storage::Ticket;
use serde_json::{Map, Value};

use super::access::Caller;
use super::reply::ApiError;
use crate::auth::{Permissions, UsersEdit};
use crate::broker::Broker;
use crate::json;
use crate::metrics::Rates;
use crate::vhost::error::DEFAULT_EXCHANGE_ALIAS;
use crate::vhost::{Actor, Vhost};

/// Most values in the JSON of an ordinary body.
const FIELDS_MAX: usize = 100_000;
/// Most values in the JSON of definitions.
const DEFINITIONS_VALUES_MAX: usize = 1_000_000;

/// One request whose caller may make it.
pub struct Request {
    /// What it is about.
    pub broker: Arc<Broker>,
    /// The newest rates.
    pub rates: Arc<Rates>,
    /// Who asks; nobody for probes.
    pub caller: Option<Caller>,
    /// The variable parts of the path, decoded.
    pub path: Vec<(String, String)>,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// The header `X-Reason`, for the log and for who is cut off.
    pub reason: Option<String>,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// Who asks.
    pub fn caller(&self) -> Result<&Caller, ApiError> {
        self.caller.as_ref().ok_or(ApiError::NotLoggedIn("Login failed"))
    }

    /// A variable part of the path.
    pub fn part(&self, name: &str) -> &str {
        let found = self.path.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// A part that names an exchange.
    pub fn exchange(&self, name: &str) -> &str {
        exchange_name(self.part(name))
    }

    /// A value of the query; one that is given twice counts once.
    pub fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A switch in the query.
    pub fn query_flag(&self, name: &str) -> bool {
        self.query(name) == Some("true")
    }

    /// Whether figures are to be left out of the answer, as tools with many queues ask.
    pub fn without_figures(&self) -> bool {
        self.query_flag("disable_stats")
    }

    /// The virtual host in the path. That the caller may see it was checked before.
    pub fn vhost(&self) -> Result<Arc<Vhost>, ApiError> {
        self.broker.vhost(self.part("vhost")).ok_or(ApiError::NotFound)
    }

    /// The virtual hosts that the caller may see: the one in the path, or all.
    pub fn seen_vhosts(&self) -> Result<Vec<Arc<Vhost>>, ApiError> {
        if self.path.iter().any(|(key, _)| key == "vhost") {
            return Ok(vec![self.vhost()?]);
        }
        let caller = self.caller()?;
        let mut vhosts = self.broker.vhosts();
        vhosts.retain(|vhost| caller.sees_vhost(&self.broker, &vhost.name));
        Ok(vhosts)
    }

    /// Who acts in a virtual host, with the caller's own permissions there.
    pub fn actor(&self, vhost: &Vhost) -> Result<Actor, ApiError> {
        let caller = self.caller()?;
        let users = &self.broker.users;
        let permissions = caller.who.access(users, &vhost.name);
        Ok(Actor {
            user: caller.user.name.as_str().into(),
            permissions: permissions.unwrap_or_else(|| Arc::new(Permissions::none())),
            topics: caller.who.topic_permissions(users, &vhost.name),
            connection: None,
        })
    }

    /// Waits until a change is as durable as was asked for; only then it may be reported.
    pub fn wait(&self, ticket: Option<Ticket>) -> Result<(), ApiError> {
        let Some(ticket) = ticket else { return Ok(()) };
        let store = &self.broker.store;
        store
            .wait(ticket)
            .map_err(|error| ApiError::Unavailable(error.to_string()))
    }

    /// Stores a change of users or permissions, waits for it, and lets it take effect.
    pub fn commit_users(&self, edit: UsersEdit<'_>) -> Result<(), ApiError> {
        let ticket = self.broker.store_user_changes(edit.records())?;
        self.wait(Some(ticket))?;
        edit.commit();
        Ok(())
    }

    /// The body, if it has not too many values: read, each takes more memory than the bytes it came in.
    pub fn document(&self) -> Result<&[u8], ApiError> {
        self.check_values(DEFINITIONS_VALUES_MAX)?;
        Ok(&self.body)
    }

    fn check_values(&self, values_max: usize) -> Result<(), ApiError> {
        match json::values_at_most(&self.body) <= values_max {
            true => Ok(()),
            false => Err(ApiError::TooManyValues(values_max)),
        }
    }

    /// The fields of a body that is a JSON object; none at all when the body is empty.
    pub fn fields(&self) -> Result<Fields, ApiError> {
        if self.body.is_empty() {
            return Ok(Fields(Map::new()));
        }
        self.check_values(FIELDS_MAX)?;
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(fields)) => Ok(Fields(fields)),
            Ok(_) => Err(ApiError::bad("the body must be a JSON object")),
            Err(error) => Err(ApiError::BadRequest(format!("not_json: {error}"))),
        }
    }
}

/// The exchange that tools mean by this name: in paths and bodies the default one is called `amq.default`.
pub fn exchange_name(name: &str) -> &str {
    if name == DEFAULT_EXCHANGE_ALIAS { "" } else { name }
}

/// The fields of a body. Tools write numbers and switches as texts too.
pub struct Fields(pub Map<String, Value>);

impl Fields {
    /// A switch; `default` when it is not there.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, ApiError> {
        Ok(self.flag_if_any(name)?.unwrap_or(default))
    }

    /// True or false, if it is there.
    pub fn flag_if_any(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(Value::String(text)) if text == "true" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" => Ok(Some(false)),
            Some(_) => Err(ApiError::BadRequest(format!("'{name}' must be true or false"))),
        }
    }

    /// A text, if it is there.
    pub fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::BadRequest(format!("'{name}' must be a text"))),
        }
    }

    /// A text that must be there.
    pub fn some_text(&self, name: &str) -> Result<&str, ApiError> {
        self.text(name)?
            .ok_or_else(|| ApiError::BadRequest(format!("'{name}' is missing")))
    }

    /// A whole number from 0 on, if it is there.
    pub fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let bad = || ApiError::BadRequest(format!("'{name}' must be a whole number from 0 on"));
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => number.as_u64().map(Some).ok_or_else(bad),
            Some(Value::String(text)) => text.parse().map(Some).map_err(|_| bad()),
            Some(_) => Err(bad()),
        }
    }

    /// A whole number, if it is there.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let bad = || ApiError::BadRequest(format!("'{name}' must be a whole number"));
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => number.as_i64().map(Some).ok_or_else(bad),
            Some(Value::String(text)) => text.parse().map(Some).map_err(|_| bad()),
            Some(_) => Err(bad()),
        }
    }

    /// A table of arguments, empty when it is not there. An empty list is one too: some tools cannot tell them apart.
    pub fn table(&self, name: &str) -> Result<FieldTable, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(FieldTable::default()),
            Some(Value::Object(object)) => Ok(json::table_from_json(object)?),
            Some(Value::Array(list)) if list.is_empty() => Ok(FieldTable::default()),
            Some(_) => Err(ApiError::BadRequest(format!("'{name}' must be an object"))),
        }
    }

    /// A list of texts, or one text with commas, as tags are written.
    pub fn texts(&self, name: &str) -> Result<Option<Vec<String>>, ApiError> {
        let bad = || ApiError::BadRequest(format!("'{name}' must be a list of texts"));
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => {
                let tags = text.split(',').map(str::trim).filter(|tag| !tag.is_empty());
                Ok(Some(tags.map(str::to_owned).collect()))
            }
            Some(Value::Array(list)) => {
                let texts = list.iter().map(|tag| tag.as_str().map(str::to_owned));
                texts.collect::<Option<Vec<_>>>().map(Some).ok_or_else(bad)
            }
            Some(_) => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_taken_as_tools_write_them() {
        let Value::Object(map) = json!({
            "yes": "true", "no": false, "count": "3", "number": 4, "tags": "a, b,,c", "list": ["x"], "empty": []
        }) else {
            panic!()
        };
        let fields = Fields(map);
        assert_eq!(fields.flag("yes", false), Ok(true));
        assert_eq!(fields.flag("no", true), Ok(false));
        assert_eq!(fields.flag("missing", true), Ok(true));
        assert_eq!(
            (fields.number("count"), fields.number("number")),
            (Ok(Some(3)), Ok(Some(4)))
        );
        assert_eq!(fields.texts("tags"), Ok(Some(vec!["a".into(), "b".into(), "c".into()])));
        assert_eq!(fields.texts("list"), Ok(Some(vec!["x".into()])));
        assert_eq!(fields.table("empty"), Ok(FieldTable::default()));
        assert_eq!(fields.some_text("missing"), Err(ApiError::bad("'missing' is missing")));
        assert!(fields.flag("count", false).is_err() && fields.text("number").is_err());
        assert!(fields.number("tags").is_err() && fields.table("list").is_err());
    }
}
