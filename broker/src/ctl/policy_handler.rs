//! What the broker does with the commands about policies, limits and global parameters.

use serde::Serialize;
use serde_json::Value;

use super::error::{CtlError, ErrorKind};
use super::handler::{admin_error, find, operation_error, wait};
use super::protocol::{PolicyRequest, Reply, Report, Request, Response, Table};
use super::rows::{GlobalParameterRow, PolicyRow, UserLimitsRow, VhostLimitsRow, tabulate};
use crate::auth::AuthError;
use crate::broker::Broker;
use crate::limits::{LimitError, UserLimits, VhostLimits};
use crate::policy::{ApplyTo, PolicyError, PolicyKind, PolicySpec};
use crate::vhost::OperationError;

/// Executes the request if it is about policies, limits or global parameters; gives it back if it is not.
pub fn handle(broker: &Broker, request: Request) -> Result<Response, Request> {
    let result = match request {
        Request::SetPolicy(policy) => set_policy(broker, *policy),
        Request::ClearPolicy { operator, vhost, name } => clear_policy(broker, &vhost, kind(operator), &name),
        Request::ListPolicies { operator, vhost } => list_policies(broker, &vhost, kind(operator)).map(Reply::Table),
        Request::SetVhostLimits { vhost, limits } => set_vhost_limits(broker, &vhost, Some(&limits)),
        Request::ClearVhostLimits { vhost } => set_vhost_limits(broker, &vhost, None),
        Request::ListVhostLimits { vhost: Some(vhost) } => find(broker, &vhost).map(|vhost| shown(&vhost.limits())),
        Request::ListVhostLimits { vhost: None } => list_vhost_limits(broker).map(Reply::Table),
        Request::SetUserLimits { user, limits } => {
            let limits = broker.user_limits(&user).updated(&limits).map_err(limit_error);
            limits.and_then(|limits| set_user_limits(broker, &user, limits))
        }
        Request::ClearUserLimits { user, limit } => {
            let limits = broker.user_limits(&user).without(&limit).map_err(limit_error);
            limits.and_then(|limits| set_user_limits(broker, &user, limits))
        }
        Request::ListUserLimits { user: Some(user) } => {
            user_exists(broker, &user).map(|()| shown(&broker.user_limits(&user)))
        }
        Request::ListUserLimits { user: None } => list_user_limits(broker).map(Reply::Table),
        Request::SetGlobalParameter { name, value } => set_global_parameter(broker, &name, &value),
        Request::ClearGlobalParameter { name } => clear_global_parameter(broker, &name),
        Request::ListGlobalParameters {} => {
            let parameters = broker.global_parameters().into_iter();
            let rows = parameters.map(|(name, value)| GlobalParameterRow { name, value });
            tabulate(rows, &[]).map(Reply::Table)
        }
        other => return Err(other),
    };
    Ok(result.into())
}

fn set_global_parameter(broker: &Broker, name: &str, value: &str) -> Result<Reply, CtlError> {
    let value = serde_json::from_str(value)
        .map_err(|error| CtlError::new(ErrorKind::Invalid, format!("the value must be JSON: {error}")))?;
    let ticket = broker.set_global_parameter(name, value).map_err(admin_error)?;
    wait(broker, Some(ticket))?;
    Ok(Reply::Done)
}

fn clear_global_parameter(broker: &Broker, name: &str) -> Result<Reply, CtlError> {
    let ticket = broker.clear_global_parameter(name).map_err(admin_error)?;
    if ticket.is_none() {
        return Err(CtlError::new(
            ErrorKind::NotFound,
            format!("no global parameter '{name}'"),
        ));
    }
    wait(broker, ticket)?;
    Ok(Reply::Done)
}

fn kind(operator: bool) -> PolicyKind {
    if operator {
        PolicyKind::Operator
    } else {
        PolicyKind::User
    }
}

fn set_policy(broker: &Broker, request: PolicyRequest) -> Result<Reply, CtlError> {
    let vhost = find(broker, &request.vhost)?;
    let kind = kind(request.operator);
    let set = policy_spec(request)
        .map_err(OperationError::Policy)
        .and_then(|spec| vhost.set_policy(kind, spec));
    wait(broker, Some(set.map_err(operation_error)?))?;
    Ok(Reply::Done)
}

fn policy_spec(request: PolicyRequest) -> Result<PolicySpec, PolicyError> {
    let definition = serde_json::from_str(&request.definition);
    Ok(PolicySpec {
        name: request.name,
        pattern: request.pattern,
        apply_to: ApplyTo::parse(&request.apply_to)?,
        priority: request.priority,
        definition: definition.map_err(|error| PolicyError::NotAnObject(error.to_string()))?,
    })
}

fn clear_policy(broker: &Broker, vhost: &str, kind: PolicyKind, name: &str) -> Result<Reply, CtlError> {
    let ticket = find(broker, vhost)?.clear_policy(kind, name).map_err(operation_error)?;
    wait(broker, Some(ticket))?;
    Ok(Reply::Done)
}

fn list_policies(broker: &Broker, vhost: &str, kind: PolicyKind) -> Result<Table, CtlError> {
    let policies = find(broker, vhost)?.policies(kind);
    let rows = policies.iter().map(|policy| {
        let spec = &policy.spec;
        PolicyRow {
            vhost: vhost.to_owned(),
            name: spec.name.clone(),
            pattern: spec.pattern.clone(),
            apply_to: spec.apply_to.name().to_owned(),
            definition: Value::Object(spec.definition.clone()),
            priority: spec.priority,
        }
    });
    tabulate(rows, &[])
}

fn set_vhost_limits(broker: &Broker, vhost: &str, limits: Option<&str>) -> Result<Reply, CtlError> {
    let vhost = find(broker, vhost)?;
    let limits = match limits {
        Some(limits) => vhost.limits().updated(limits).map_err(limit_error)?,
        None => VhostLimits::default(),
    };
    let ticket = vhost.set_limits(limits).map_err(operation_error)?;
    wait(broker, Some(ticket))?;
    Ok(Reply::Done)
}

/// As rabbitmqctl shows those of one virtual host or user.
fn shown(limits: &impl Serialize) -> Reply {
    let json = serde_json::to_value(limits).unwrap_or_default();
    Reply::Report(Box::new(Report {
        lines: vec![json.to_string()],
        json,
    }))
}

fn list_vhost_limits(broker: &Broker) -> Result<Table, CtlError> {
    let limited = broker
        .vhosts()
        .into_iter()
        .filter(|vhost| vhost.limits() != VhostLimits::default());
    let rows = limited.map(|vhost| VhostLimitsRow {
        vhost: vhost.name.to_string(),
        limits: serde_json::to_value(vhost.limits()).unwrap_or_default(),
    });
    tabulate(rows, &[])
}

fn user_exists(broker: &Broker, user: &str) -> Result<(), CtlError> {
    match broker.users.get(user) {
        Some(_) => Ok(()),
        None => Err(AuthError::NoSuchUser { name: user.to_owned() }.into()),
    }
}

fn set_user_limits(broker: &Broker, user: &str, limits: UserLimits) -> Result<Reply, CtlError> {
    let ticket = broker.set_user_limits(user, limits).map_err(admin_error)?;
    wait(broker, Some(ticket))?;
    Ok(Reply::Done)
}

fn list_user_limits(broker: &Broker) -> Result<Table, CtlError> {
    let rows = broker
        .all_user_limits()
        .into_iter()
        .map(|(user, limits)| UserLimitsRow {
            user,
            limits: serde_json::to_value(limits).unwrap_or_default(),
        });
    tabulate(rows, &[])
}

fn limit_error(error: LimitError) -> CtlError {
    CtlError::new(ErrorKind::Invalid, error.to_string())
}
