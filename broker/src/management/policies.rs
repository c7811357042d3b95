//! Policies and operator policies.

use serde_json::{Map, Value};

use super::listing::{self, Row};
use super::reply::{ApiError, Outcome, Reply};
use super::request::{Fields, Request};
use super::views::PolicyView;
use crate::policy::{ApplyTo, Policy, PolicyKind, PolicySpec};
use crate::vhost::{OperationError, Vhost};

impl Row for PolicyView {
    fn name(&self) -> &str {
        &self.name
    }
}

fn view(vhost: &Vhost, policy: &Policy) -> PolicyView {
    let spec = &policy.spec;
    PolicyView {
        vhost: vhost.name.to_string(),
        name: spec.name.clone(),
        pattern: spec.pattern.clone(),
        apply_to: spec.apply_to.name(),
        definition: spec.definition.clone(),
        priority: spec.priority,
    }
}

fn list_kind(request: &Request, kind: PolicyKind) -> Outcome {
    let mut rows = Vec::new();
    for vhost in request.seen_vhosts()? {
        let mut policies: Vec<_> = vhost.policies(kind).iter().map(|policy| view(&vhost, policy)).collect();
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        rows.extend(policies);
    }
    listing::list(request, rows)
}

fn get_kind(request: &Request, kind: PolicyKind) -> Outcome {
    let vhost = request.vhost()?;
    let policies = vhost.policies(kind);
    let policy = policies.iter().find(|policy| policy.spec.name == request.part("name"));
    listing::object(request, &view(&vhost, policy.ok_or(ApiError::NotFound)?))
}

fn put_kind(request: &Request, kind: PolicyKind) -> Outcome {
    let (vhost, name) = (request.vhost()?, request.part("name"));
    let is_new = !vhost.policies(kind).iter().any(|policy| policy.spec.name == name);
    let ticket = vhost.set_policy(kind, spec(name, &request.fields()?)?)?;
    request.wait(Some(ticket))?;
    Ok(Reply::put(is_new))
}

/// The fields that a policy has in requests and in definitions files.
fn spec(name: &str, fields: &Fields) -> Result<PolicySpec, ApiError> {
    Ok(PolicySpec {
        name: name.to_owned(),
        pattern: fields.some_text("pattern")?.to_owned(),
        apply_to: ApplyTo::parse(fields.text("apply-to")?.unwrap_or("all")).map_err(OperationError::Policy)?,
        priority: fields.integer("priority")?.unwrap_or_default(),
        definition: definition(fields)?,
    })
}

fn definition(fields: &Fields) -> Result<Map<String, Value>, ApiError> {
    match fields.0.get("definition") {
        Some(Value::Object(definition)) => Ok(definition.clone()),
        _ => Err(ApiError::bad("'definition' must be an object")),
    }
}

fn delete_kind(request: &Request, kind: PolicyKind) -> Outcome {
    let (vhost, name) = (request.vhost()?, request.part("name"));
    let ticket = vhost.clear_policy(kind, name).map_err(|error| match error {
        OperationError::NoSuchPolicy { .. } => ApiError::NotFound,
        other => other.into(),
    })?;
    request.wait(Some(ticket))?;
    Ok(Reply::done())
}

/// `GET /api/policies` and `/api/policies/{vhost}`.
pub fn list(request: &Request) -> Outcome {
    list_kind(request, PolicyKind::User)
}

/// `GET /api/policies/{vhost}/{name}`.
pub fn get(request: &Request) -> Outcome {
    get_kind(request, PolicyKind::User)
}

/// `PUT /api/policies/{vhost}/{name}`.
pub fn put(request: &Request) -> Outcome {
    put_kind(request, PolicyKind::User)
}

/// `DELETE /api/policies/{vhost}/{name}`.
pub fn delete(request: &Request) -> Outcome {
    delete_kind(request, PolicyKind::User)
}

/// `GET /api/operator-policies` and `/api/operator-policies/{vhost}`.
pub fn list_operator(request: &Request) -> Outcome {
    list_kind(request, PolicyKind::Operator)
}

/// `GET /api/operator-policies/{vhost}/{name}`.
pub fn get_operator(request: &Request) -> Outcome {
    get_kind(request, PolicyKind::Operator)
}

/// `PUT /api/operator-policies/{vhost}/{name}`.
pub fn put_operator(request: &Request) -> Outcome {
    put_kind(request, PolicyKind::Operator)
}

/// `DELETE /api/operator-policies/{vhost}/{name}`.
pub fn delete_operator(request: &Request) -> Outcome {
    delete_kind(request, PolicyKind::Operator)
}
