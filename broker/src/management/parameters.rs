//! Parameters: what RabbitMQ keeps of virtual hosts by component and name, and of the whole broker by name.
//!
//! The components that this broker has are operator policies and the limits of virtual hosts, which are shown and set here
//! too. Those of plug-ins it does not have are refused as by a RabbitMQ without them.

use serde_json::Value;

use super::listing::{self, Row};
use super::reply::{ApiError, Outcome, Reply};
use super::request::Request;
use super::views::{GlobalParameterView, ParameterView};
use crate::broker::CLUSTER_NAME;
use crate::definitions::{OPERATOR_POLICY, VHOST_LIMITS};
use crate::limits::VhostLimits;
use crate::policy::{PolicyKind, PolicySpec};
use crate::vhost::{OperationError, Vhost};

impl Row for ParameterView {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Row for GlobalParameterView {
    fn name(&self) -> &str {
        &self.name
    }
}

/// Everything in a virtual host that is a parameter.
fn of_vhost(vhost: &Vhost) -> Vec<ParameterView> {
    let view = |component: &'static str, name: &str, value: Value| ParameterView {
        vhost: vhost.name.to_string(),
        component,
        name: name.to_owned(),
        value,
    };
    let policies = vhost.policies(PolicyKind::Operator);
    let mut rows: Vec<_> = policies
        .iter()
        .map(|policy| view(OPERATOR_POLICY, &policy.spec.name, policy.spec.to_parameter()))
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let limits = vhost.limits();
    if limits != VhostLimits::default() {
        let value = serde_json::to_value(limits).unwrap_or_default();
        rows.push(view(VHOST_LIMITS.0, VHOST_LIMITS.1, value));
    }
    rows
}

/// `GET /api/parameters`, `/api/parameters/{component}` and `/api/parameters/{component}/{vhost}`.
pub fn list(request: &Request) -> Outcome {
    let vhosts = request.seen_vhosts()?;
    let mut rows: Vec<_> = vhosts.iter().flat_map(|vhost| of_vhost(vhost)).collect();
    if request.path.iter().any(|(part, _)| part == "component") {
        rows.retain(|row| row.component == request.part("component"));
    }
    listing::list(request, rows)
}

fn find(request: &Request) -> Result<Option<ParameterView>, ApiError> {
    let (component, name) = (request.part("component"), request.part("name"));
    let mut rows = of_vhost(&*request.vhost()?).into_iter();
    Ok(rows.find(|row| row.component == component && row.name == name))
}

/// `GET /api/parameters/{component}/{vhost}/{name}`.
pub fn get(request: &Request) -> Outcome {
    listing::object(request, &find(request)?.ok_or(ApiError::NotFound)?)
}

/// `PUT /api/parameters/{component}/{vhost}/{name}`.
pub fn put(request: &Request) -> Outcome {
    let (vhost, name, fields) = (request.vhost()?, request.part("name"), request.fields()?);
    let value = fields.0.get("value").cloned();
    let value = value.ok_or_else(|| ApiError::bad("'value' is missing"))?;
    let is_new = find(request)?.is_none();
    let ticket = match request.part("component") {
        OPERATOR_POLICY => {
            let spec: PolicySpec = serde_json::from_value(value).map_err(ApiError::bad)?;
            let name = name.to_owned();
            vhost.set_policy(PolicyKind::Operator, PolicySpec { name, ..spec })?
        }
        component if (component, name) == VHOST_LIMITS => {
            vhost.set_limits(VhostLimits::default().updated(&value.to_string())?)?
        }
        component => return Err(unknown(component)),
    };
    request.wait(Some(ticket))?;
    Ok(Reply::put(is_new))
}

/// `DELETE /api/parameters/{component}/{vhost}/{name}`.
pub fn delete(request: &Request) -> Outcome {
    let vhost = request.vhost()?;
    let found = find(request)?.ok_or(ApiError::NotFound)?;
    let cleared = match found.component {
        OPERATOR_POLICY => vhost.clear_policy(PolicyKind::Operator, &found.name),
        _ => vhost.set_limits(VhostLimits::default()),
    };
    let ticket = cleared.map_err(|error| match error {
        OperationError::NoSuchPolicy { .. } => ApiError::NotFound,
        other => other.into(),
    })?;
    request.wait(Some(ticket))?;
    Ok(Reply::done())
}

fn unknown(component: &str) -> ApiError {
    ApiError::BadRequest(format!("component {component} not found"))
}

fn global(request: &Request) -> Vec<GlobalParameterView> {
    let parameters = request.broker.global_parameters().into_iter();
    parameters
        .map(|(name, value)| GlobalParameterView { name, value })
        .collect()
}

/// `GET /api/global-parameters`.
pub fn list_global(request: &Request) -> Outcome {
    listing::list(request, global(request))
}

/// `GET /api/global-parameters/{name}`.
pub fn get_global(request: &Request) -> Outcome {
    let mut rows = global(request).into_iter();
    let found = rows.find(|row| row.name == request.part("name"));
    listing::object(request, &found.ok_or(ApiError::NotFound)?)
}

/// `PUT /api/global-parameters/{name}`.
pub fn put_global(request: &Request) -> Outcome {
    let value = request.fields()?.0.remove("value");
    set_global(request, request.part("name"), value, "value")
}

/// `PUT /api/cluster-name`.
pub fn put_cluster_name(request: &Request) -> Outcome {
    let name = request.fields()?.0.remove("name");
    set_global(request, CLUSTER_NAME, name, "name")?;
    // There is always one.
    Ok(Reply::done())
}

fn set_global(request: &Request, name: &str, value: Option<Value>, field: &str) -> Outcome {
    let value = value.ok_or_else(|| ApiError::BadRequest(format!("'{field}' is missing")))?;
    let is_new = !global(request).iter().any(|row| row.name == name);
    let ticket = request.broker.set_global_parameter(name, value)?;
    request.wait(Some(ticket))?;
    Ok(Reply::put(is_new))
}

/// `DELETE /api/global-parameters/{name}`.
pub fn delete_global(request: &Request) -> Outcome {
    let ticket = request.broker.clear_global_parameter(request.part("name"))?;
    request.wait(Some(ticket.ok_or(ApiError::NotFound)?))?;
    Ok(Reply::done())
}
