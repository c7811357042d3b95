//! The policies and parameters of a definitions file, limits among them.

use super::{Fate, ImportError, Plan};
use crate::broker::{AdminError, Broker, CLUSTER_NAME};
use crate::definitions::document::{GlobalParameterDefinition, OPERATOR_POLICY, ParameterDefinition, VHOST_LIMITS};
use crate::definitions::snapshot::Snapshots;
use crate::limits::VhostLimits;
use crate::policy::{Policy, PolicyKind, PolicySpec};

impl Plan {
    pub(super) fn global_parameter(
        &mut self,
        broker: &Broker,
        parameter: GlobalParameterDefinition,
    ) -> Result<(), ImportError> {
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
    pub(super) fn policy(
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

    pub(super) fn parameter(
        &mut self,
        snapshots: &mut Snapshots<'_>,
        parameter: ParameterDefinition,
    ) -> Result<(), ImportError> {
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
}
