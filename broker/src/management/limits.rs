//! Limits of virtual hosts and users.

use serde_json::{Map, Value, json};

use super::listing::{self, Row};
use super::reply::{ApiError, Outcome, Reply};
use super::request::{Fields, Request};
use super::views::{UserLimitsView, VhostLimitsView};
use crate::limits::LimitError;

impl Row for VhostLimitsView {
    fn name(&self) -> &str {
        &self.vhost
    }
}

impl Row for UserLimitsView {
    fn name(&self) -> &str {
        &self.user
    }
}

impl From<LimitError> for ApiError {
    fn from(error: LimitError) -> ApiError {
        ApiError::bad(error)
    }
}

/// Limits as an object; those that are not set are left out.
pub fn object(limits: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(limits) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

/// The limit that the path names, set to this.
fn named(request: &Request, value: Value) -> String {
    json!({ request.part("name"): value }).to_string()
}

fn value(fields: &Fields) -> Result<Value, ApiError> {
    let value = fields
        .integer("value")?
        .ok_or_else(|| ApiError::bad("'value' is missing"))?;
    Ok(value.into())
}

/// No limit.
fn none() -> Value {
    (-1).into()
}

/// `GET /api/vhost-limits` and `/api/vhost-limits/{vhost}`: of virtual hosts that have some.
pub fn list_of_vhosts(request: &Request) -> Outcome {
    let vhosts = request.seen_vhosts()?;
    let rows = vhosts.iter().map(|vhost| VhostLimitsView {
        vhost: vhost.name.to_string(),
        value: object(&vhost.limits()),
    });
    listing::list(request, rows.filter(|row| !row.value.is_empty()).collect())
}

fn set_of_vhost(request: &Request, value: Value) -> Outcome {
    let vhost = request.vhost()?;
    let limits = vhost.limits().updated(&named(request, value))?;
    let ticket = vhost.set_limits(limits)?;
    request.wait(Some(ticket))?;
    Ok(Reply::done())
}

/// `PUT /api/vhost-limits/{vhost}/{name}`.
pub fn put_of_vhost(request: &Request) -> Outcome {
    set_of_vhost(request, value(&request.fields()?)?)
}

/// `DELETE /api/vhost-limits/{vhost}/{name}`.
pub fn delete_of_vhost(request: &Request) -> Outcome {
    set_of_vhost(request, none())
}

/// `GET /api/user-limits`: of users that have some.
pub fn list_of_users(request: &Request) -> Outcome {
    let limits = request.broker.all_user_limits().into_iter();
    let rows = limits.map(|(user, limits)| UserLimitsView {
        user,
        value: object(&limits),
    });
    listing::list(request, rows.collect())
}

/// `GET /api/user-limits/{user}`.
pub fn list_of_user(request: &Request) -> Outcome {
    let user = request.part("user");
    if request.broker.users.get(user).is_none() {
        return Err(ApiError::NotFound);
    }
    let limits = object(&request.broker.user_limits(user));
    let row = UserLimitsView {
        user: user.to_owned(),
        value: limits,
    };
    listing::list(
        request,
        Some(row).into_iter().filter(|row| !row.value.is_empty()).collect(),
    )
}

fn set_of_user(request: &Request, value: Value) -> Outcome {
    let user = request.part("user");
    if request.broker.users.get(user).is_none() {
        return Err(ApiError::NotFound);
    }
    let limits = request.broker.user_limits(user).updated(&named(request, value))?;
    let ticket = request.broker.set_user_limits(user, limits)?;
    request.wait(Some(ticket))?;
    Ok(Reply::done())
}

/// `PUT /api/user-limits/{user}/{name}`.
pub fn put_of_user(request: &Request) -> Outcome {
    set_of_user(request, value(&request.fields()?)?)
}

/// `DELETE /api/user-limits/{user}/{name}`.
pub fn delete_of_user(request: &Request) -> Outcome {
    set_of_user(request, none())
}
