//! Policies and limits of a virtual host: setting, clearing and applying them.
//!
//! Policies are part of the topology, under its lock: a queue or exchange that is declared meets those that are there,
//! and a policy that is set or cleared takes effect on all that exist before the lock is free.

use std::sync::Arc;

use leveret_storage::Ticket;

use super::{OperationError, QueueHandle, Topology, Vhost};
use crate::limits::VhostLimits;
use crate::policy::{Applied, Policy, PolicyError, PolicyKind, PolicySpec, Target};
use crate::settings::{self, Setting};

impl Vhost {
    /// Sets a policy, in place of the one of that name; the commit to wait for.
    pub fn set_policy(&self, kind: PolicyKind, spec: PolicySpec) -> Result<Ticket, OperationError> {
        let policy = Policy::new(kind, spec.clone()).map_err(OperationError::Policy)?;
        self.check_store()?;
        let mut topology = self.topology.write();
        self.check_exists(&topology)?;
        topology.policies.set(kind, policy);
        self.apply_all(&mut topology);
        let mut writer = self.store.writer();
        let setting = Setting::Policy {
            vhost: self.name.to_string(),
            kind,
            policy: spec,
        };
        writer.put(&setting.to_definition());
        Ok(writer.submit())
    }

    /// Clears a policy; the commit to wait for.
    pub fn clear_policy(&self, kind: PolicyKind, name: &str) -> Result<Ticket, OperationError> {
        self.check_store()?;
        let mut topology = self.topology.write();
        if !topology.policies.clear(kind, name) {
            return Err(OperationError::NoSuchPolicy {
                name: name.to_owned(),
                vhost: self.name.to_string(),
            });
        }
        self.apply_all(&mut topology);
        let mut writer = self.store.writer();
        writer.delete(&settings::policy(&self.name, kind, name));
        Ok(writer.submit())
    }

    /// Brings back a stored policy, before the queues and exchanges.
    pub fn recover_policy(&self, kind: PolicyKind, spec: PolicySpec) -> Result<(), PolicyError> {
        let policy = Policy::new(kind, spec)?;
        self.topology.write().policies.set(kind, policy);
        Ok(())
    }

    /// The policies of a kind, those that win first.
    pub fn policies(&self, kind: PolicyKind) -> Vec<Arc<Policy>> {
        self.topology.read().policies.of(kind).to_vec()
    }

    /// The policies that apply to an exchange.
    pub fn policies_of_exchange(&self, name: &str) -> Applied {
        self.topology.read().policies.matching(name, Target::Exchange)
    }

    /// The limits in force.
    pub fn limits(&self) -> VhostLimits {
        *self.limits.read()
    }

    /// Replaces the limits; the commit to wait for. What exists already stays.
    pub fn set_limits(&self, limits: VhostLimits) -> Result<Ticket, OperationError> {
        self.check_store()?;
        let topology = self.topology.read();
        self.check_exists(&topology)?;
        let mut current = self.limits.write();
        *current = limits;
        let mut writer = self.store.writer();
        if limits == VhostLimits::default() {
            writer.delete(&settings::vhost_limits(&self.name));
        } else {
            let vhost = self.name.to_string();
            writer.put(&Setting::VhostLimits { vhost, limits }.to_definition());
        }
        Ok(writer.submit())
    }

    /// Brings back stored limits.
    pub fn recover_limits(&self, limits: VhostLimits) {
        *self.limits.write() = limits;
    }

    /// Forgets policies and limits with what is stored of them, when the virtual host is deleted.
    pub(super) fn delete_settings(&self, topology: &mut Topology) {
        let policies = std::mem::take(&mut topology.policies);
        let mut writer = self.store.writer();
        for kind in [PolicyKind::User, PolicyKind::Operator] {
            for policy in policies.of(kind) {
                writer.delete(&settings::policy(&self.name, kind, &policy.spec.name));
            }
        }
        writer.delete(&settings::vhost_limits(&self.name));
        writer.submit();
    }

    /// Refuses one more queue than the virtual host may have.
    pub(super) fn check_queue_limit(&self, topology: &Topology, queue: &str) -> Result<(), OperationError> {
        match self.limits().max_queues {
            Some(limit) if topology.by_name.len() as u64 >= limit => Err(OperationError::QueueLimit {
                queue: queue.to_owned(),
                vhost: self.name.to_string(),
                limit,
            }),
            _ => Ok(()),
        }
    }

    fn apply_all(&self, topology: &mut Topology) {
        for (_, queue) in &topology.queues {
            topology.apply_to_queue(queue);
        }
        let exchanges: Vec<String> = topology
            .routing
            .exchanges()
            .map(|exchange| exchange.name.to_owned())
            .collect();
        for exchange in exchanges {
            topology.apply_to_exchange(&exchange);
        }
        self.invalidate_routes();
    }
}

impl Topology {
    /// Lets the policies that match a queue take effect on it.
    pub(super) fn apply_to_queue(&self, queue: &QueueHandle) {
        let target = Target::Queue(queue.properties.arguments.queue_type);
        queue.apply_policies(self.policies.matching(&queue.name, target));
    }

    /// Lets the policy that matches an exchange take effect on it.
    pub(super) fn apply_to_exchange(&mut self, exchange: &str) {
        let applied = self.policies.matching(exchange, Target::Exchange);
        // The default exchange refuses, whatever a policy says.
        let _ = self.routing.set_policy(exchange, applied.of_exchange());
    }
}

#[cfg(test)]
mod tests {
    use leveret_storage::{Store, StoreOptions};
    use prometheus::Registry;
    use serde_json::json;

    use super::*;
    use crate::config::Config;

    #[test]
    fn nothing_is_set_in_a_virtual_host_that_is_deleted() {
        let store = Store::in_memory(StoreOptions::default());
        let broker = crate::startup::start(Config::default(), store, &Registry::new()).unwrap();
        let vhost = broker.vhost("/").unwrap();
        vhost.delete_everything();
        let spec = PolicySpec {
            name: "late".to_owned(),
            pattern: ".*".to_owned(),
            apply_to: crate::policy::ApplyTo::All,
            priority: 0,
            definition: json!({"max-length": 1}).as_object().cloned().unwrap(),
        };
        let set = vhost.set_policy(PolicyKind::User, spec);
        assert!(matches!(set, Err(OperationError::VhostDeleted(_))));
        let limited = vhost.set_limits(VhostLimits {
            max_queues: Some(1),
            ..VhostLimits::default()
        });
        assert!(matches!(limited, Err(OperationError::VhostDeleted(_))));
        assert!(vhost.policies(PolicyKind::User).is_empty());
    }
}
