//! Policies: settings that an operator gives to all queues and exchanges whose names match, now and later.
//!
//! Pure: [`Policies`] says which policies apply to a name, [`Applied`] what follows from them. The operations are in
//! [`vhost::policies`](crate::vhost::policies).

mod definition;
mod error;

use std::sync::Arc;

use leveret_routing::ExchangePolicy;
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use definition::policy_keys;
pub use error::PolicyError;

use self::definition::Definition;
use crate::auth::permissions::compile_search;
use crate::queue::{EffectiveArguments, QueueArguments, QueueType};

/// Longest name of a policy.
pub const POLICY_NAME_MAX_BYTES: usize = 255;

/// Who wrote a policy. Of each kind, at most one applies to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyKind {
    /// Whoever runs applications.
    User,
    /// Whoever runs the broker, to bound what the others may ask for. For queues only.
    Operator,
}

/// What a policy is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplyTo {
    /// Queues and exchanges.
    #[default]
    All,
    /// Exchanges.
    Exchanges,
    /// Queues of every type.
    Queues,
    /// Queues declared without `x-queue-type` or as `classic`.
    ClassicQueues,
    /// Queues declared as `quorum`.
    QuorumQueues,
    /// Nothing, as there are no streams.
    Streams,
}

impl ApplyTo {
    const ALL: [(&'static str, ApplyTo); 6] = [
        ("all", ApplyTo::All),
        ("exchanges", ApplyTo::Exchanges),
        ("queues", ApplyTo::Queues),
        ("classic_queues", ApplyTo::ClassicQueues),
        ("quorum_queues", ApplyTo::QuorumQueues),
        ("streams", ApplyTo::Streams),
    ];

    /// As RabbitMQ writes it.
    pub fn parse(name: &str) -> Result<ApplyTo, PolicyError> {
        let found = ApplyTo::ALL.into_iter().find(|(known, _)| *known == name);
        found
            .map(|(_, apply_to)| apply_to)
            .ok_or_else(|| PolicyError::ApplyTo(name.to_owned()))
    }

    /// As RabbitMQ writes it.
    pub fn name(self) -> &'static str {
        let found = ApplyTo::ALL.into_iter().find(|(_, apply_to)| *apply_to == self);
        found.map_or("all", |(name, _)| name)
    }

    fn includes(self, target: Target) -> bool {
        match (self, target) {
            (ApplyTo::All, _)
            | (ApplyTo::Exchanges, Target::Exchange)
            | (ApplyTo::Queues, Target::Queue(_))
            | (ApplyTo::ClassicQueues, Target::Queue(QueueType::Classic))
            | (ApplyTo::QuorumQueues, Target::Queue(QueueType::Quorum)) => true,
            (
                ApplyTo::Exchanges
                | ApplyTo::Queues
                | ApplyTo::ClassicQueues
                | ApplyTo::QuorumQueues
                | ApplyTo::Streams,
                _,
            ) => false,
        }
    }
}

/// What a policy may apply to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An exchange.
    Exchange,
    /// A queue declared with this type.
    Queue(QueueType),
}

/// A policy as it is asked for and stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct PolicySpec {
    /// Unique among the policies of its kind and virtual host.
    pub name: String,
    /// A regular expression; names are searched for it, so an empty one matches all.
    pub pattern: String,
    /// What it is for.
    pub apply_to: ApplyTo,
    /// The highest one applies.
    pub priority: i64,
    /// Keys and values.
    pub definition: Map<String, Value>,
}

impl PolicySpec {
    /// As RabbitMQ keeps an operator policy: its name is that of the parameter.
    pub fn to_parameter(&self) -> Value {
        let mut value = serde_json::to_value(self).unwrap_or_else(|_| Value::Object(Map::new()));
        if let Some(fields) = value.as_object_mut() {
            fields.remove("name");
        }
        value
    }
}

/// A policy that has been checked.
#[derive(Debug)]
pub struct Policy {
    /// As it was asked for.
    pub spec: PolicySpec,
    pattern: Regex,
    definition: Definition,
}

impl Policy {
    /// Checks a policy.
    pub fn new(kind: PolicyKind, spec: PolicySpec) -> Result<Policy, PolicyError> {
        if spec.name.is_empty() || spec.name.len() > POLICY_NAME_MAX_BYTES {
            return Err(PolicyError::NameLength);
        }
        Ok(Policy {
            pattern: compile_search(&spec.pattern).map_err(|error| PolicyError::Pattern(error.to_string()))?,
            definition: Definition::parse(kind, &spec.definition)?,
            spec,
        })
    }

    fn matches(&self, name: &str, target: Target) -> bool {
        self.spec.apply_to.includes(target) && self.pattern.is_match(name)
    }
}

/// The policies of a virtual host, those that win first: by falling priority, then by name.
#[derive(Debug, Default)]
pub struct Policies {
    user: Vec<Arc<Policy>>,
    operator: Vec<Arc<Policy>>,
}

impl Policies {
    /// Adds a policy, in place of the one with the same name.
    pub fn set(&mut self, kind: PolicyKind, policy: Policy) {
        self.clear(kind, &policy.spec.name);
        let policies = self.of_mut(kind);
        policies.push(Arc::new(policy));
        policies.sort_by(|a, b| {
            let (a, b) = (&a.spec, &b.spec);
            b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name))
        });
    }

    /// Removes a policy; false if there was none of that name.
    pub fn clear(&mut self, kind: PolicyKind, name: &str) -> bool {
        let policies = self.of_mut(kind);
        let before = policies.len();
        policies.retain(|policy| policy.spec.name != name);
        policies.len() < before
    }

    /// All policies of a kind, those that win first.
    pub fn of(&self, kind: PolicyKind) -> &[Arc<Policy>] {
        match kind {
            PolicyKind::User => &self.user,
            PolicyKind::Operator => &self.operator,
        }
    }

    /// Is there none at all?
    pub fn is_empty(&self) -> bool {
        self.user.is_empty() && self.operator.is_empty()
    }

    /// The policies that apply to a name.
    pub fn matching(&self, name: &str, target: Target) -> Applied {
        let first = |policies: &[Arc<Policy>]| policies.iter().find(|policy| policy.matches(name, target)).cloned();
        Applied {
            policy: first(&self.user),
            operator_policy: first(&self.operator),
        }
    }

    fn of_mut(&mut self, kind: PolicyKind) -> &mut Vec<Arc<Policy>> {
        match kind {
            PolicyKind::User => &mut self.user,
            PolicyKind::Operator => &mut self.operator,
        }
    }
}

/// The policies that apply to one queue or exchange.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The one of the users.
    pub policy: Option<Arc<Policy>>,
    /// The one of the operators.
    pub operator_policy: Option<Arc<Policy>>,
}

impl Applied {
    /// The names of the policy and the operator policy, empty where there is none.
    pub fn names(&self) -> (String, String) {
        let name = |policy: &Option<Arc<Policy>>| policy.as_ref().map(|policy| policy.spec.name.clone());
        (
            name(&self.policy).unwrap_or_default(),
            name(&self.operator_policy).unwrap_or_default(),
        )
    }

    /// Both definitions merged.
    pub fn definition(&self) -> Map<String, Value> {
        let of = |policy: &Option<Arc<Policy>>| policy.as_ref().map(|policy| policy.spec.definition.clone());
        let mut merged = of(&self.policy).unwrap_or_default();
        for (key, operators) in of(&self.operator_policy).unwrap_or_default() {
            let value = match merged.get(&key) {
                Some(users) => definition::merged(&key, users, &operators),
                None => operators,
            };
            merged.insert(key, value);
        }
        merged
    }

    /// What is in force for a queue with these arguments.
    pub fn effective_arguments(&self, arguments: &QueueArguments) -> EffectiveArguments {
        let queue = |policy: &'_ Option<Arc<Policy>>| policy.clone().map(|policy| policy.definition.queue.clone());
        let (policy, operator_policy) = (queue(&self.policy), queue(&self.operator_policy));
        EffectiveArguments::merge(arguments, policy.as_ref(), operator_policy.as_ref())
    }

    /// What an exchange has by them: an alternate exchange if it names none itself, and whether it delays messages.
    pub fn of_exchange(&self) -> ExchangePolicy {
        let Some(policy) = &self.policy else {
            return ExchangePolicy::default();
        };
        ExchangePolicy {
            alternate_exchange: policy.definition.alternate_exchange.clone(),
            delays: policy.definition.delayed_message,
        }
    }
}

#[cfg(test)]
mod tests;
